"""New subnets for a router's LAN, and everybody who has to do with the old ones. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netns_fixtures.addressing import CARRIER_V4, AddressPool, IPv4Network
from netns_fixtures.cabling import gateway_ops
from netns_fixtures.errors import TopologyError
from netns_fixtures.ops import Op
from netns_fixtures.prefixes import nat6_ops, replace_prefix

if TYPE_CHECKING:
    from netns_fixtures.plans import RouterPlan
    from netns_fixtures.topology import Topology


def renumber_lan_ops(topology: Topology, router: RouterPlan, subnet: str | None) -> list[Op]:
    """First the router, then everybody on its LAN, then the routes of the others. Raises TopologyError."""
    segment = router.lan.segment
    if segment.v4 is not None:
        network = next_network(topology, router, segment.v4, subnet)
    elif subnet:
        raise TopologyError(f"{router.name} has no IPv4 LAN to give {subnet}; renumber() changes its IPv6")
    guests = [plug for plug in topology.plugs() if plug.segment is segment and plug is not router.lan]
    # Before the pools change: these routes lead to the old gateway.
    ops = [op for plug in guests for op in plug.remove_default_ops()]
    ops += router.lan.release_ops(router.lan.addresses)
    if segment.v4 is not None:
        segment.v4 = AddressPool(network)
    if segment.dhcp is not None:
        segment.dhcp.retired.clear()
    if segment.v6 is not None:
        replace_prefix(topology, router, "deprecated")
    ops += gateway_ops(router.lan) + segment.dhcp_ops()
    for plug in guests:
        ops += plug.move_subnet_ops()
    for inner in topology.routers.values():
        if inner.wan is not None and inner.wan.segment is segment:
            ops += topology.rules_ops(inner, replace=True)
    return ops + nat6_ops(router, replace=True) + topology.sync_routes() + segment.ra_ops()


def next_network(
    topology: Topology, router: RouterPlan, present: AddressPool, subnet: str | None
) -> IPv4Network:
    """The subnet that the caller chose, or the next one of the kind of the present one. Raises TopologyError."""
    if subnet:
        return _claimed(topology, router, subnet)
    carrier = present.network.overlaps(CARRIER_V4)
    return topology.lan_v4(router.nat, router.upstream, carrier=carrier)


def _claimed(topology: Topology, router: RouterPlan, subnet: str) -> IPv4Network:
    """A subnet for a LAN by the caller's choice; behind NATs two homes may have the same one."""
    network = topology.subnets.claim(subnet, hidden=router.nat.translates)
    outside = router.wan.segment.v4 if router.wan is not None else None
    if outside is not None and network.overlaps(outside.network):
        raise TopologyError(f"{subnet} overlaps {outside.network}, the network on {router.name}'s other side")
    return network
