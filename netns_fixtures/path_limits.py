"""Routers that forward no packet above a size: a path MTU. Pure.

An interface's own MTU cannot say this: both ends of an Ethernet have to agree in it, and what arrives larger
is dropped in silence. A route's MTU limits what is *sent* along it, and the router tells the sender (ICMP
fragmentation needed, packet too big). So beside each route of a limited router there are its two halves with
that MTU: more specific ones, they win, and whoever changes the routes themselves need not know.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family
from netns_fixtures.ops import AddRoute, Op, RemoveRoute

if TYPE_CHECKING:
    from netns_fixtures.plug import Segment
    from netns_fixtures.topology import RouterPlan

#: Bytes: Ethernet's, which all cables of a lab carry.
DEFAULT_MTU = 1500
#: The least that IPv6 works with (RFC 8200 section 5): below, Linux takes IPv6 off an interface.
LEAST_V6 = 1280
#: The least that every IPv4 host must accept (RFC 791 section 3.1); Linux believes no smaller path MTU, either.
LEAST_V4 = 576


class PathLimits:
    """Which limiting routes there are."""

    def __init__(self) -> None:
        self._present: set[AddRoute] = set()

    def ops(self, routers: Iterable[RouterPlan], *, changed: bool) -> list[Op]:
        """The steps to what these routers need now.

        ``changed``: something else does, too, and the kernel drops routes with links and last addresses: then
        all are put back. One that is there already is no error.
        """
        wanted = {route for router in routers for route in _routes(router)}
        gone, new = self._present - wanted, wanted - self._present
        self._present = wanted
        ops: list[Op] = [RemoveRoute(r.node, r.destination, r.gateway, r.index) for r in _sorted(gone)]
        return [*ops, *_sorted(wanted if changed else new)]


def _routes(router: RouterPlan) -> Iterator[AddRoute]:
    if router.mtu is None or router.wan is None:
        return
    for plug in (router.wan, router.lan):
        for destination, gateway in plug.ways:
            network = ipaddress.ip_network(destination)
            if network.prefixlen == network.max_prefixlen:
                continue  # one address has no halves; nothing of a lab is routed like that
            for half in network.subnets():
                yield AddRoute(router.node, str(half), gateway, plug.index, mtu=router.mtu)


def _sorted(routes: set[AddRoute]) -> list[AddRoute]:
    """In one order, whatever the hash: the same lab takes the same steps."""
    return sorted(routes, key=lambda r: (r.node, r.index, r.destination, r.gateway, r.mtu))


def check_mtu(size: int, segment: Segment) -> None:
    """Raises TopologyError for an MTU that the network cannot have."""
    check_mtu_of(size, Family.V4 if segment.v6 is None else Family.DUAL)


def check_mtu_of(size: int, family: Family) -> None:
    """Raises TopologyError for an MTU that a network that speaks this cannot have."""
    least = LEAST_V6 if family.speaks(6) else LEAST_V4
    if not isinstance(size, int) or not least <= size <= DEFAULT_MTU:
        raise TopologyError(f"mtu={size!r}: bytes of an IP packet, from {least} to {DEFAULT_MTU} here")
