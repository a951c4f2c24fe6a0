"""The NAT64 of a router, as steps; and the addresses that it makes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from netns_fixtures.ops import AddNat64, AddRoute, Op

#: The well-known prefix (RFC 6052 section 2.1), which DNS64 servers use where nobody chose another.
PREFIX = "64:ff9b::/96"
#: Stand-ins for IPv6 clients between translator and NAT: never seen outside of the router. The far end of the
#: address space between carriers and customers (RFC 6598), of which the lab hands out the near end.
POOL = "100.127.0.0/16"
TUN = "nat64"


@dataclass(frozen=True, slots=True)
class Nat64Plan:
    """``index`` is the TUN's."""

    index: int
    prefix: str = PREFIX


def plan_nat64(node: int, index: int) -> tuple[Nat64Plan, list[Op]]:
    """The NAT64 of a router, and the steps that make it."""
    ops: list[Op] = [AddNat64(node, index, TUN, PREFIX, POOL)]
    ops += [AddRoute(node, destination, "", index) for destination in (PREFIX, POOL)]
    return Nat64Plan(index), ops


def synthesize(ip: str, prefix: str = PREFIX) -> str:
    """The IPv6 address under which a NAT64 reaches an IPv4 address (RFC 6052). Raises ValueError."""
    network = ipaddress.IPv6Network(prefix)
    return str(network[int(ipaddress.IPv4Address(ip))])
