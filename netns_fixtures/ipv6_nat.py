"""Translating IPv6 to IPv6 on a router: whole prefixes (NPTv6) or all into one address (NAT66). Rule text; pure.

nftables' ``prefix`` statement replaces the upper 64 bits and leaves the rest. RFC 6296 does the same without state,
and changes 16 more bits of the address so that transport checksums stay right (section 3.6). Here the kernel adjusts
those checksums instead, so the interface identifier that the outside sees is the inside's own; and it tracks
connections, which nobody can tell from outside, as both directions may begin one.
"""

from __future__ import annotations

import enum

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat import WAN
from netns_fixtures.ops import LoadRules, Op

_TABLE = "ip6 lab_nat6"


class Ipv6Nat(enum.StrEnum):
    """What a router does to the addresses of an IPv6 LAN."""

    NPTV6 = "nptv6"
    """One to one, prefix for prefix (RFC 6296): both directions may begin."""
    NAT66 = "nat66"
    """Everything comes from the router's own address, like a NAT of IPv4."""

    @classmethod
    def parse(cls, text: str) -> Ipv6Nat:
        """The kind of that name. Raises TopologyError naming all."""
        try:
            return cls(text)
        except ValueError:
            raise TopologyError(f"ipv6_nat={text!r}: it is None or one of {', '.join(cls)}") from None


def nptv6_ops(node: int, inside: str, outside: str, *, replace: bool = False) -> list[Op]:
    """Translate between two prefixes of one length."""
    text = f"""table {_TABLE} {{
 chain prerouting {{ type nat hook prerouting priority dstnat; policy accept;
  iifname "{WAN}" dnat ip6 prefix to ip6 daddr map {{ {outside} : {inside} }}
 }}
 chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;
  oifname "{WAN}" snat ip6 prefix to ip6 saddr map {{ {inside} : {outside} }}
 }}
}}
"""
    return [LoadRules(node, (_delete() if replace else "") + text)]


def nat66_ops(node: int, inside: str, *, replace: bool = False) -> list[Op]:
    """Masquerade a prefix.

    What nobody inside asked for is dropped before the kernel remembers it: it would take away the port that an
    inside host is about to use, as in ``nat``.
    """
    text = f"""table {_TABLE} {{
 chain input {{ type filter hook input priority 0; policy accept;
  iifname "{WAN}" meta l4proto {{ tcp, udp }} ct state new drop
 }}
 chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;
  oifname "{WAN}" ip6 saddr {inside} masquerade
 }}
}}
"""
    return [LoadRules(node, (_delete() if replace else "") + text)]


def _delete() -> str:
    return f"table {_TABLE}\ndelete table {_TABLE}\n"
