"""A new IPv4 subnet that clients learn when they renew their leases. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

from netns_fixtures.addressing import AddressPool
from netns_fixtures.errors import TopologyError
from netns_fixtures.ops import AddAddress, Op, RemoveAddress
from netns_fixtures.plug import Assigned
from netns_fixtures.renumbering import next_network

if TYPE_CHECKING:
    from netns_fixtures.plans import RouterPlan
    from netns_fixtures.topology import Topology

#: What becomes of the old subnet. "routed": it works until it is retired; "dead": at once not.
OldSubnet = Literal["routed", "dead"]


def renumber_by_dhcp_ops(
    topology: Topology, router: RouterPlan, subnet: str | None, old: OldSubnet
) -> list[Op]:
    """Another subnet on the router and in its server; hosts without DHCP move with it. Raises TopologyError."""
    segment = router.lan.segment
    plan, leaving = segment.dhcp, segment.v4
    if plan is None or leaving is None or plan.state in ("off", "never"):
        raise TopologyError(f"{router.name} has no DHCP server; see router.renumber()")
    if old not in ("routed", "dead"):
        raise TopologyError(f"old={old!r}: 'routed' or 'dead'")
    network = next_network(topology, router, leaving, subnet)
    statics = [
        plug
        for plug in topology.plugs()
        if plug.segment is segment and plug is not router.lan and plug.dhcp is None
    ]
    # Before the pool changes: these routes lead to the old gateway.
    ops = [op for plug in statics for op in plug.remove_default_ops()]
    segment.v4 = AddressPool(network)
    gateway = Assigned(segment.v4.gateway, segment.v4.prefixlen)
    router.lan.addresses.insert(0, gateway)
    ops.append(AddAddress(router.lan.node, router.lan.index, gateway.ip, gateway.prefixlen))
    ops += segment.dhcp_ops()
    for plug in statics:
        ops += plug.move_v4_ops(leaving)
    assert isinstance(leaving.network, ipaddress.IPv4Network)
    if old == "routed":
        plan.retired.append(leaving.network)
    else:
        ops += _leave_ops(router, leaving.network)
    for inner in topology.routers.values():
        if inner.wan is not None and inner.wan.segment is segment:
            ops += topology.rules_ops(inner, replace=True)
    return ops + topology.sync_routes()


def retire_subnets_ops(topology: Topology, router: RouterPlan) -> list[Op]:
    """Subnets of earlier renumberings are dead now. Raises TopologyError."""
    plan = router.lan.segment.dhcp
    if plan is None or not plan.retired:
        raise TopologyError(f"{router.name} has no old subnet to retire; dhcp.renumber() comes first")
    ops = [op for network in plan.retired for op in _leave_ops(router, network)]
    plan.retired.clear()
    return ops + topology.sync_routes()


def _leave_ops(router: RouterPlan, network: ipaddress.IPv4Network) -> list[Op]:
    lan = router.lan
    gone = [a for a in lan.addresses if ipaddress.ip_address(a.ip) in network]
    lan.addresses = [a for a in lan.addresses if a not in gone]
    return [RemoveAddress(lan.node, lan.index, a.ip, a.prefixlen) for a in gone]
