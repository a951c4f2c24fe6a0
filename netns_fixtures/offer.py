"""What a segment offers, and whether that is what a router or a host was asked to speak."""

from __future__ import annotations

from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family, IpSettings, asked_family
from netns_fixtures.nat import LAN, WAN, NatConfig
from netns_fixtures.nat.text import IS_PORT_MAPPED
from netns_fixtures.ops import LoadRules, Op
from netns_fixtures.plug import Segment


def offered(segment: Segment) -> Family:
    """The versions of IP that a segment speaks."""
    if segment.v4 is None:
        return Family.V6
    return Family.V4 if segment.v6 is None else Family.DUAL


def check_offered(owner: str, asked: Family | None, segment: Segment) -> None:
    """Raise TopologyError where a segment lacks what was asked for; None asks for nothing."""
    there = offered(segment)
    if asked is not None and asked & there is not asked:
        raise TopologyError(
            f"{owner!r} cannot be family={str(asked)!r}: the LAN of {segment.name!r} is {str(there)!r};"
            f" leave family out, or change that router's"
        )


def router_family(name: str, ip: IpSettings, ipv6: bool, outside: Segment) -> Family:
    """What the LAN of a new router speaks. Raises TopologyError where its uplink does not offer that."""
    asked = asked_family(ip.family, ipv6)
    check_offered(name, asked, outside)
    family = asked or offered(outside)
    if ip.nat64 and not (family.speaks(6) and offered(outside) is Family.DUAL):
        raise TopologyError(
            f"{name!r} cannot have nat64=True: it translates from an IPv6 LAN to an IPv4 uplink, and the LAN is"
            f" {str(family)!r}, the uplink {str(offered(outside))!r}"
        )
    if (ip.ula or ip.ipv6_nat) and not family.speaks(6):
        raise TopologyError(
            f"{name!r} has an IPv4 LAN: ula and ipv6_nat need IPv6 there; its family is {str(family)!r}"
        )
    return family


def firewall6_ops(node: int, nat: NatConfig, *, replace: bool) -> list[Op]:
    """What the rules of a NAT leave of it on a router without IPv4: the stateful filter.

    It depends on no address, so a replacement is the same again: nothing.
    """
    if replace or not nat.filters:
        return []
    text = f"""table inet filter {{
 chain input {{ type filter hook input priority 0; policy accept;
  iifname "{WAN}" meta l4proto {{ tcp, udp }} ct state new drop
 }}
 chain forward {{ type filter hook forward priority 0; policy accept;
  iifname "{WAN}" ct state established,related accept
  iifname "{WAN}" {IS_PORT_MAPPED} accept
  iifname "{WAN}" oifname "{LAN}" drop
 }}
}}
"""
    return [LoadRules(node, text)]
