"""The static routes of all routers: who must know the way to which network. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netns_fixtures.backbone import Route, networks_of
from netns_fixtures.ops import Op, RemoveRoute
from netns_fixtures.plug import Plug
from netns_fixtures.prefixes import routed_prefixes

if TYPE_CHECKING:
    from netns_fixtures.plans import RouterPlan
    from netns_fixtures.topology import Topology


def routes_ops(topology: Topology) -> list[Op]:
    """Make the static routes of all routers what the description now needs."""
    wanted: dict[Plug, list[tuple[str, str]]] = {
        r.lan: [] for r in (topology.exchange, *topology.routers.values())
    }
    found = [route for router in topology.routers.values() for route in _lan_routes(topology, router)]
    if topology.regions:
        wanted |= {plug: [] for plug in topology.backbone.plugs()}
        networks = networks_of(topology.regions, found, lambda name: _outsides(topology.routers[name]))
        found += topology.backbone.routes(networks)
    for plug, destination, gateway in found:
        wanted[plug].append((destination, gateway))
    ops = [op for plug, routes in wanted.items() for op in plug.route_ops(routes)]
    # Removals first: a route that moves to another interface is there twice else, and the kernel has it once.
    return sorted(ops, key=lambda op: not isinstance(op, RemoveRoute))


def _outsides(router: RouterPlan) -> list[str]:
    return [address.ip for address in router.wan.addresses] if router.wan is not None else []


def _lan_routes(topology: Topology, router: RouterPlan) -> Iterator[Route]:
    """Who must know the way to a router's LAN: (the plug that leads there, destination, next hop)."""
    v4, dhcp = router.lan.segment.v4, router.lan.segment.dhcp
    networks = [(str(v4.network), 4)] if v4 is not None else []
    networks += [(str(old), 4) for old in dhcp.retired] if dhcp is not None else []
    networks += [(network, 6) for network in routed_prefixes(router)]
    for network, version in networks:
        child = router
        while child.wan is not None:
            if version == 4 and child.nat.translates:
                break  # from here on everything comes from the NAT's own address
            parent = child.upstream or topology.exchange
            gateway = child.wan.ip(version)
            if gateway is None:
                break
            yield parent.lan, network, gateway
            child = parent
