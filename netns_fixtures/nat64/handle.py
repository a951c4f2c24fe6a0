"""``router.nat64``: what tests ask about a NAT64."""

from __future__ import annotations

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat64.plan import Nat64Plan, synthesize


class Nat64:
    """The NAT64 of a router; its NAT of IPv4 is ``router.nat``, as for any router."""

    def __init__(self, plan: Nat64Plan) -> None:
        self.prefix = plan.prefix

    def __repr__(self) -> str:
        return f"<Nat64 {self.prefix}>"

    def address(self, ip: str) -> str:
        """The IPv6 address under which hosts behind it reach an IPv4 address. Raises TopologyError."""
        try:
            return synthesize(ip, self.prefix)
        except ValueError:
            raise TopologyError(f"{ip!r} is no IPv4 address; a NAT64 reaches nothing else") from None
