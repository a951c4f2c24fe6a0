"""Which IPv6 prefixes a LAN has, what becomes of those that it had, and who routes them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netns_fixtures.addressing import AddressPool, SubnetPlan
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import IpSettings
from netns_fixtures.ipv6_nat import Ipv6Nat, nat66_ops, nptv6_ops
from netns_fixtures.ops import AddAddress, Op, RemoveAddress
from netns_fixtures.plug import Assigned, Plug, Segment
from netns_fixtures.ra.plan import Retired

if TYPE_CHECKING:
    from netns_fixtures.topology import RouterPlan, Topology

#: What becomes of the old prefix. "routed": hosts are told that it is deprecated, and it works until it is retired
#: (RFC 4192); "deprecated": they are told, and it is dead (RFC 9096); "silent": nobody is told (RFC 8978).
OldPrefix = Literal["routed", "deprecated", "silent"]
#: Advertised until retired; more would not fit into one packet with everything else.
MAX_RETIRED = 8


@dataclass(slots=True, eq=False)
class LanPrefixes:
    """How a LAN gets its IPv6 subnets. ``outside``: what NPTv6 shows the world."""

    local_only: bool = False
    nat: Ipv6Nat | None = None
    outside: ipaddress.IPv6Network | None = None


def plan_prefixes(subnets: SubnetPlan, segment: Segment, ip: IpSettings) -> LanPrefixes:
    """Give the segment of a new LAN its IPv6 subnets."""
    local_only = ip.ula == "only" or ip.ipv6_nat is not None
    segment.v6 = AddressPool(subnets.ula() if local_only else subnets.v6())
    if ip.ula and not local_only:
        segment.ula = AddressPool(subnets.ula())
    outside = subnets.v6() if ip.ipv6_nat is Ipv6Nat.NPTV6 else None
    return LanPrefixes(local_only, ip.ipv6_nat, outside)


def nat6_ops(router: RouterPlan, *, replace: bool = False) -> list[Op]:
    """The rules of a router that translates IPv6."""
    plan, segment = router.prefixes, router.lan.segment
    if plan is None or segment.v6 is None:
        return []
    inside = str(segment.v6.network)
    if plan.nat is Ipv6Nat.NAT66:
        return nat66_ops(router.node, inside, replace=replace)
    return nptv6_ops(router.node, inside, str(plan.outside), replace=replace) if plan.outside else []


def routed_prefixes(router: RouterPlan) -> Iterator[str]:
    """What of a LAN the networks above it must know the way to."""
    segment, plan = router.lan.segment, router.prefixes
    if segment.v6 is not None and not (plan and plan.local_only):
        yield str(segment.v6.network)
    if plan and plan.outside:
        yield str(plan.outside)
    if segment.ra is not None:
        yield from (str(old.network) for old in segment.ra.retired if old.routed)


def replace_prefix(topology: Topology, router: RouterPlan, old: OldPrefix) -> None:
    """Another subnet for the LAN; the old one is remembered for advertisements. No step yet."""
    segment = router.lan.segment
    assert segment.v6 is not None
    before = segment.v6.network
    local = router.prefixes is not None and router.prefixes.local_only
    segment.v6 = AddressPool(topology.subnets.ula() if local else topology.subnets.v6())
    if segment.ra is not None and isinstance(before, ipaddress.IPv6Network):
        segment.ra.retired.append(Retired(before, old == "routed", old != "silent"))
        del segment.ra.retired[:-MAX_RETIRED]


def renumber_prefix_ops(topology: Topology, router: RouterPlan, old: OldPrefix) -> list[Op]:
    """A new global prefix: on the router, on static hosts, in advertisements, in the routes of others."""
    plan, segment = router.prefixes, router.lan.segment
    if segment.v6 is None:
        raise TopologyError(f"the LAN of {router.name} has no IPv6 prefix to renumber")
    if plan and plan.outside:
        plan.outside = topology.subnets.v6()  # inside nothing changes: what NPTv6 is for
        return nat6_ops(router, replace=True) + topology.sync_routes()
    if plan and plan.local_only:
        raise TopologyError(
            f"the LAN of {router.name} has only local addresses; its provider's do not show there"
        )
    leaving = segment.v6
    statics = [p for p in topology.plugs() if p.segment is segment and p is not router.lan and not p.slaac]
    ops = [op for plug in statics for op in plug.remove_default_ops()]
    replace_prefix(topology, router, old)
    ops += _gateway_ops(router.lan, segment.v6)
    for plug in statics:
        ops += plug.move_prefix_ops(leaving)
    if old != "routed":
        ops += _leave_ops(router.lan, leaving.gateway)
    for inner in topology.routers.values():
        if inner.wan is not None and inner.wan.segment is segment:
            ops += topology.rules_ops(inner, replace=True)
    return ops + topology.sync_routes() + segment.ra_ops()


def retire_prefixes_ops(topology: Topology, router: RouterPlan) -> list[Op]:
    """The old prefixes are gone for good: not routed, not spoken of. Hosts keep them until they expire."""
    segment = router.lan.segment
    if segment.ra is None or not segment.ra.retired:
        raise TopologyError(f"{router.name} has no old prefix to retire; renumber_prefix() comes first")
    gateways = [str(old.network[1]) for old in segment.ra.retired]
    segment.ra.retired.clear()
    ops = [op for gateway in gateways for op in _leave_ops(router.lan, gateway)]
    return ops + topology.sync_routes() + segment.ra_ops()


def _gateway_ops(lan: Plug, pool: AddressPool) -> list[Op]:
    assigned = Assigned(pool.gateway, pool.prefixlen)
    lan.addresses.insert(lan.first6(), assigned)
    return [AddAddress(lan.node, lan.index, assigned.ip, assigned.prefixlen)]


def _leave_ops(lan: Plug, ip: str) -> list[Op]:
    gone = [a for a in lan.addresses if a.ip == ip]
    lan.addresses = [a for a in lan.addresses if a.ip != ip]
    return [RemoveAddress(lan.node, lan.index, a.ip, a.prefixlen) for a in gone]
