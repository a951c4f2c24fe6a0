"""The part of a router's firewall that is a captive portal. Pure: nothing here touches the kernel.

Who was not released reaches nothing but name servers; what it asks of any web server (port 80), the portal
answers. By address, as portals that do not see the client's radio do it: a client that renumbers is caught
again.
"""

from __future__ import annotations

from dataclasses import dataclass

from netns_fixtures.nat.text import LAN, WAN, called, hooked

#: Where the portal's server listens, in the router; above 1024, and no port that a test is likely to use.
PORT = 8880
#: Before NAT's own chain (-100), which would otherwise decide about the flow first.
_PRIORITY = "-105"
_FAMILIES = (("ip", "ipv4_addr", "released4"), ("ip6", "ipv6_addr", "released6"))


@dataclass(frozen=True, slots=True)
class PortalRules:
    """``released`` addresses pass; with ``everybody`` all do."""

    released: tuple[str, ...] = ()
    everybody: bool = False
    reject: bool = False

    def sets(self) -> str:
        """The sets of released addresses."""
        return "\n".join(self._set(name, kind, key == "ip6") for key, kind, name in _FAMILIES)

    def forward(self) -> list[str]:
        """Rules of the forward chain: what a client that was not released cannot do."""
        if self.everybody:
            return []
        # Both ways: a flow that was let through before must not go on bringing data.
        return [
            f"{match} jump caught"
            for key, _kind, name in _FAMILIES
            for match in (
                f'iifname "{LAN}" oifname "{WAN}" {key} saddr != @{name}',
                f'iifname "{WAN}" oifname "{LAN}" {key} daddr != @{name}',
            )
        ]

    def caught(self) -> str:
        """The chain of those that were not released. Answers of name servers pass, too."""
        return called(
            "caught", "meta l4proto { tcp, udp } ct original proto-dst 53 return", *self._verdicts()
        )

    def redirect(self) -> str:
        """The chain that hands web requests to the portal's server."""
        rules = [
            f'iifname "{LAN}" {key} saddr != @{name} tcp dport 80 redirect to :{PORT}'
            for key, _kind, name in _FAMILIES
        ]
        return hooked("portal", "nat", _PRIORITY, *([] if self.everybody else rules), hook="prerouting")

    def _verdicts(self) -> tuple[str, ...]:
        if not self.reject:
            return ("drop",)
        return ("meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited")

    def _set(self, name: str, kind: str, v6: bool) -> str:
        members = ", ".join(ip for ip in self.released if (":" in ip) == v6)
        elements = f" elements = {{ {members} }};" if members else ""
        return f" set {name} {{ type {kind};{elements} }}"
