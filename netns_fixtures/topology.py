"""The network as a description: nodes, segments, plugs; and the steps that build or change it. Pure.

Every node (host, router, the exchange) is a namespace. Every Ethernet segment is a bridge in one more
namespace,
the *fabric*, and every interface is a cable from its node to a port there::

      laptop          home (router)            exchange
       eth0          lan      wan                ix
        |             |        |                 |
    ----+-------------+--    --+-----------------+--      fabric: bridges "home" and "exchange"

So replugging is moving a port to another bridge, losing the carrier is setting a port down, and a wire that
impairs a link is spliced in behind the port: each without touching the interface that the host sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from netns_fixtures.addressing import (
    CARRIER_V4,
    EXCHANGE_V4,
    EXCHANGE_V6,
    NAME_SERVER_V4,
    NAME_SERVER_V6,
    AddressPool,
    IPv4Network,
    SubnetPlan,
    mac_of,
)
from netns_fixtures.backbone import Backbone, RegionLink, networks_of
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family, IpSettings
from netns_fixtures.nat import LAN, WAN, NatConfig, NatKind, nat_config, nat_label
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.rules import NatRules, sysctls
from netns_fixtures.nat64.plan import Nat64Plan, plan_nat64
from netns_fixtures.offer import check_offered, firewall6_ops, router_family
from netns_fixtures.ops import (
    AddAddress,
    AddBridge,
    AddCable,
    AddNode,
    LoadRules,
    Op,
    PrepareRing,
    RemoveRoute,
    SetLink,
    SetSysctls,
)
from netns_fixtures.path_limits import PathLimits
from netns_fixtures.plug import FABRIC, Assigned, Plug, Segment
from netns_fixtures.prefixes import LanPrefixes, nat6_ops, plan_prefixes, replace_prefix, routed_prefixes
from netns_fixtures.ra.config import Slaac, secret_of
from netns_fixtures.ra.plan import RaPlan

EXCHANGE = "exchange"
#: The kernel's limit for interface names (IFNAMSIZ - 1).
MAX_INTERFACE_NAME = 15
#: Indices that the kernel gives out itself (TAPs of wires) stay below.
FIRST_INDEX = 1000
#: Interfaces of a host get 100, 200, ... as NetworkManager does for classes of uplinks.
METRIC_STEP = 100

_PLAIN = IpSettings()
_COMMON = (
    # No duplicate address detection: in a lab every address is ours, and it makes IPv6 unusable for a second.
    ("net/ipv6/conf/default/accept_dad", "0"),
    # Linux drops IPv6 addresses with the link; NetworkManager and systemd-networkd set this, too.
    ("net/ipv6/conf/all/keep_addr_on_down", "1"),
    # Addresses are configured, nobody sends router advertisements.
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    # A second address of a subnet survives the removal of the first.
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    # Distributions differ in this one; a multi-homed host answers on the interface that it was asked on.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    # Programs in hosts run unprivileged where the test does.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)
#: For the interfaces to come; the loopback is there already, and keeps ::1 as on a host that was set up so.
_V4_ONLY = (("net/ipv6/conf/default/disable_ipv6", "1"),)
_ROUTER = (
    *_COMMON,
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    # A lab's paths are what its description says, not what a helpful router suggests.
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
)
_FABRIC = (
    # Frames between ports are not the packet filter's business, even where Docker has loaded br_netfilter.
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
)


@dataclass(slots=True, eq=False)
class RouterPlan:
    """A router: its uplink ``wan``, its ``lan``, and its NAT. The exchange is one with only a ``lan``."""

    name: str
    node: int
    nat: NatConfig
    lan: Plug
    wan: Plug | None = None
    upstream: RouterPlan | None = None
    rules: NatRules | None = None
    nat64: Nat64Plan | None = None
    #: Outside addresses of flows that outlived a rebind, besides the present one.
    former: list[Assigned] = field(default_factory=list)
    #: The NAT by name.
    kind: str = NatKind.NONE
    #: Bytes of the largest packet that it forwards; None: what its interfaces carry.
    mtu: int | None = None
    #: None without an IPv6 LAN.
    prefixes: LanPrefixes | None = None


@dataclass(slots=True, eq=False)
class HostPlan:
    """A host and its interfaces, in the order of their metrics."""

    name: str
    node: int
    plugs: dict[str, Plug] = field(default_factory=dict)
    slaac: Slaac | None = None


class Topology:
    """All that was described. Methods that describe append to ``pending``; verbs return their steps."""

    def __init__(self) -> None:
        self.routers: dict[str, RouterPlan] = {}
        self.hosts: dict[str, HostPlan] = {}
        self.subnets = SubnetPlan()
        self._nodes = count(FABRIC + 1)
        self._indices = count(FIRST_INDEX)
        self._limits = PathLimits()
        self.backbone = Backbone()
        self._regions: dict[str, RouterPlan] = {}
        #: Interfaces that will configure themselves and have not been waited for.
        self.unconfigured: list[Plug] = []
        self.pending: list[Op] = [AddNode(FABRIC, "fabric", _FABRIC)]
        self.exchange = self._exchange()

    # -- describing

    def add_router(
        self,
        name: str,
        nat: str | NatConfig,
        upstream: RouterPlan | None,
        *,
        ipv6: bool = True,
        carrier_lan: bool = False,
        ip: IpSettings = _PLAIN,
    ) -> RouterPlan:
        """A router behind another or at the exchange. ``carrier_lan``: its LAN is 100.64.0.0/10."""
        self._check_name(name)
        config = nat_config(nat)
        outside = (upstream or self.exchange).lan.segment
        family = router_family(name, ip, ipv6, outside)
        node = self._add_node(name, _ROUTER)
        v4 = self._lan_v4(config, upstream, carrier_lan) if family.speaks(4) else None
        segment = self._segment(name, v4)
        prefixes = plan_prefixes(self.subnets, segment, ip) if family.speaks(6) else None
        wan_family = Family.DUAL if ip.nat64 else family
        wan, ops = self._cable(node, name, WAN, outside, metric=METRIC_STEP, family=wan_family)
        lan = self._lan_plug(node, name, LAN, segment)
        router = RouterPlan(name, node, config, lan, wan, upstream, kind=nat_label(nat))
        self.routers[name] = router
        self.pending += ops
        if prefixes is not None:
            router.prefixes = prefixes
            segment.ra = RaPlan(node, router.lan.index, router.lan.mac)
            self.pending += nat6_ops(router)
        if ip.nat64:
            router.nat64, ops = plan_nat64(node, self.next_index())
            self.pending += ops
        self.pending += self.rules_ops(router)
        settings = sysctls(config) if router.rules and config.translates else ()
        self.pending += [SetSysctls(node, settings, needed=True)] if settings else []
        self.pending += self.sync_routes()
        return router

    def add_region(self, name: str) -> RouterPlan:
        """A region: a router at the exchange on whose LAN others have their uplinks."""
        _check_interface_name(name)  # links to it have its name
        if name in (WAN, LAN):
            raise TopologyError(f"{name!r} is no name for a region: its router has an interface of that name")
        plan = self.add_router(name, NatKind.NONE, None)
        self._regions[name] = plan
        return plan

    def add_region_link(self, a: RouterPlan, b: RouterPlan) -> RegionLink:
        """A cable between two regions, in subnets of its own, and the routes over it."""
        segment = self._segment(f"{a.name}-{b.name}", self.subnets.public())
        segment.v6 = AddressPool(self.subnets.v6())
        ends = [self._plug(x.node, x.name, y.name, segment, None) for x, y in ((a, b), (b, a))]
        for plug in ends:
            self.pending += [SetLink(plug.node, plug.index, up=True), *plug.lease_ops()]
        link = self.backbone.add(*ends)
        self.pending += self.sync_routes()
        return link

    def add_host(
        self,
        name: str,
        uplinks: Mapping[str, RouterPlan],
        family: Family | None = None,
        slaac: Slaac | None = None,
    ) -> HostPlan:
        """A host with interfaces by name; the first has the lowest metric. ``family`` None: what the LANs speak."""
        self._check_name(name)
        if not uplinks:
            raise TopologyError(
                f"host {name!r} needs an uplink: a router, or a dict of interface name to router"
            )
        for interface in uplinks:
            _check_interface_name(interface)
        for router in uplinks.values():
            check_offered(name, family, router.lan.segment)
        if slaac and family is Family.V4:
            raise TopologyError(f"{name!r} has family='v4', and slaac is of IPv6; leave one out")
        more = _V4_ONLY if family is Family.V4 else slaac.sysctls(secret_of(name)) if slaac else ()
        host = HostPlan(name, self._add_node(name, _COMMON + more), slaac=slaac)
        for number, (interface, router) in enumerate(uplinks.items(), 1):
            plug, ops = self._cable(
                host.node,
                name,
                interface,
                router.lan.segment,
                metric=METRIC_STEP * number,
                family=family or Family.DUAL,
                slaac=slaac is not None,
            )
            host.plugs[interface] = plug
            self.pending += ops
            if plug.slaac:
                self.unconfigured.append(plug)
        self.hosts[name] = host
        return host

    def take_pending(self) -> list[Op]:
        """The steps described and not yet carried out, cables first: few and large batches for the agent."""
        ops, self.pending = self.pending, []
        rank = {AddNode: 0, PrepareRing: 0, AddBridge: 1, AddCable: 2}
        ops.sort(
            key=lambda op: (rank.get(type(op), 3), 0 if rank.get(type(op), 3) < 3 else getattr(op, "node", 0))
        )
        return ops

    # -- looking

    def plugs(self) -> Iterator[Plug]:
        """Every interface of every node."""
        for router in (self.exchange, *self.routers.values()):
            yield router.lan
            if router.wan is not None:
                yield router.wan
        for host in self.hosts.values():
            yield from host.plugs.values()
        yield from self.backbone.plugs()

    def next_index(self) -> int:
        """An interface index that is unique in this lab."""
        return next(self._indices)

    # -- changing

    def rules_ops(
        self, router: RouterPlan, *, replace: bool = False, kept: tuple[KeptFlow, ...] = ()
    ) -> list[Op]:
        """The router's rule text for its present outside address and port range; ``kept`` flows live on."""
        assert router.wan is not None
        outside = router.wan.ip(4)
        if outside is None:
            return firewall6_ops(router.node, router.nat, replace=replace)
        rules = router.rules or NatRules(router.nat, outside)
        generation = rules.generation + 1 if kept else 0
        router.rules = dataclasses.replace(rules, outside=outside, kept=kept, generation=generation)
        text = router.rules.text(replace=replace)
        return [LoadRules(router.node, text)] if text else []

    def _claim_lan(self, router: RouterPlan, subnet: str) -> IPv4Network:
        """A subnet for a LAN by the caller's choice; behind NATs two homes may have the same one."""
        network = self.subnets.claim(subnet, hidden=router.nat.translates)
        outside = router.wan.segment.v4 if router.wan is not None else None
        if outside is not None and network.overlaps(outside.network):
            raise TopologyError(
                f"{subnet} overlaps {outside.network}, the network on {router.name}'s other side"
            )
        return network

    def renumber_lan(self, router: RouterPlan, subnet: str | None) -> list[Op]:
        """New subnets for a router's LAN: the router, then everybody on it, then the routes of the others."""
        segment = router.lan.segment
        if segment.v4 is not None:
            carrier = segment.v4.network.overlaps(CARRIER_V4)
            network = (
                self._claim_lan(router, subnet)
                if subnet
                else self._lan_v4(router.nat, router.upstream, carrier)
            )
        elif subnet:
            raise TopologyError(
                f"{router.name} has no IPv4 LAN to give {subnet}; renumber() changes its IPv6"
            )
        guests = [plug for plug in self.plugs() if plug.segment is segment and plug is not router.lan]
        # Before the pools change: these routes lead to the old gateway.
        ops = [op for plug in guests for op in plug.remove_default_ops()]
        ops += router.lan.release_ops(router.lan.addresses)
        if segment.v4 is not None:
            segment.v4 = AddressPool(network)
        if segment.v6 is not None:
            replace_prefix(self, router, "deprecated")
        ops += self._gateway_ops(router.lan)
        for plug in guests:
            ops += plug.move_subnet_ops()
        for inner in self.routers.values():
            if inner.wan is not None and inner.wan.segment is segment:
                ops += self.rules_ops(inner, replace=True)
        return ops + nat6_ops(router, replace=True) + self.sync_routes() + segment.ra_ops()

    def sync_routes(self) -> list[Op]:
        """Make the static routes of all routers what the description now needs."""
        wanted: dict[Plug, list[tuple[str, str]]] = {
            r.lan: [] for r in (self.exchange, *self.routers.values())
        }
        found = [route for router in self.routers.values() for route in self._lan_routes(router)]
        if self._regions:
            wanted |= {plug: [] for plug in self.backbone.plugs()}
            found += self.backbone.routes(networks_of(self._regions, found, self._outsides))
        for plug, destination, gateway in found:
            wanted[plug].append((destination, gateway))
        ops = [op for plug, routes in wanted.items() for op in plug.route_ops(routes)]
        # Removals first: a route that moves to another interface is there twice else, and the kernel has it once.
        return sorted(ops, key=lambda op: not isinstance(op, RemoveRoute))

    def _outsides(self, name: str) -> list[str]:
        wan = self.routers[name].wan
        return [address.ip for address in wan.addresses] if wan is not None else []

    def limit_ops(self, *, changed: bool) -> list[Op]:
        """Make the routes that limit packets what the description now needs; called after every change."""
        return self._limits.ops(self.routers.values(), changed=changed)

    # -- inside

    def _exchange(self) -> RouterPlan:
        node = self._add_node(EXCHANGE, _ROUTER)
        segment = Segment(EXCHANGE, self.next_index(), AddressPool(EXCHANGE_V4), AddressPool(EXCHANGE_V6))
        for ip in (NAME_SERVER_V4, NAME_SERVER_V6):  # kept free also while nobody asks it
            segment.reserve(ip)
        self.pending.append(AddBridge(FABRIC, segment.bridge, f"br{segment.bridge}"))
        return RouterPlan(
            EXCHANGE, node, nat_config(NatKind.NONE), self._lan_plug(node, EXCHANGE, "ix", segment)
        )

    def _add_node(self, name: str, sysctls: tuple[tuple[str, str], ...]) -> int:
        node = next(self._nodes)
        self.pending.append(AddNode(node, name, sysctls))
        return node

    def _segment(self, name: str, v4: IPv4Network | None) -> Segment:
        segment = Segment(name, self.next_index(), AddressPool(v4) if v4 else None)
        self.pending.append(AddBridge(FABRIC, segment.bridge, f"br{segment.bridge}"))
        return segment

    def _lan_v4(self, nat: NatConfig, upstream: RouterPlan | None, carrier_lan: bool) -> IPv4Network:
        if carrier_lan:
            return self.subnets.carrier()
        public = not nat.translates and not any(r.nat.translates for r in _ancestors(upstream))
        return self.subnets.public() if public else self.subnets.private()

    def _plug(self, node: int, owner: str, name: str, segment: Segment, metric: int | None) -> Plug:
        port, index = self.next_index(), self.next_index()
        plug = Plug(node, owner, name, index, mac_of(index), port, f"p{port}", segment, metric)
        self.pending.append(
            AddCable(FABRIC, port, plug.port_name, segment.bridge, node, index, name, plug.mac)
        )
        return plug

    def _cable(
        self,
        node: int,
        owner: str,
        name: str,
        segment: Segment,
        *,
        metric: int,
        family: Family,
        slaac: bool = False,
    ) -> tuple[Plug, list[Op]]:
        plug = self._plug(node, owner, name, segment, metric)
        plug.family, plug.slaac = family, slaac
        if slaac:
            if segment.ra is not None:
                self.pending += segment.ra.begin(segment.prefixes)
            self.pending.append(plug.sysctl_op("ra_defrtr_metric", str(metric)))
        return plug, [SetLink(node, plug.index, up=True), *plug.lease_ops(), *plug.default_ops()]

    def _lan_plug(self, node: int, owner: str, name: str, segment: Segment) -> Plug:
        plug = self._plug(node, owner, name, segment, None)
        self.pending += [SetLink(node, plug.index, up=True), *self._gateway_ops(plug)]
        return plug

    def _gateway_ops(self, plug: Plug) -> list[Op]:
        new = [Assigned(pool.gateway, pool.prefixlen) for pool in plug.segment.pools]
        plug.addresses += new
        return [AddAddress(plug.node, plug.index, a.ip, a.prefixlen) for a in new]

    def _lan_routes(self, router: RouterPlan) -> Iterator[tuple[Plug, str, str]]:
        """Who must know the way to a router's LAN: (the plug that leads there, destination, next hop)."""
        v4 = router.lan.segment.v4
        networks = [(str(v4.network), 4)] if v4 is not None else []
        networks += [(network, 6) for network in routed_prefixes(router)]
        for network, version in networks:
            child = router
            while child.wan is not None:
                if version == 4 and child.nat.translates:
                    break  # from here on everything comes from the NAT's own address
                parent = child.upstream or self.exchange
                gateway = child.wan.ip(version)
                if gateway is None:
                    break
                yield parent.lan, network, gateway
                child = parent

    def _check_name(self, name: str) -> None:
        if not name or not isinstance(name, str) or any(c.isspace() or c == "/" for c in name):
            raise TopologyError(f"{name!r} is no name for a node: use a word without spaces and slashes")
        if name in self.routers or name in self.hosts or name == EXCHANGE:
            raise TopologyError(f"the lab has a node named {name!r} already; names are unique")


def _ancestors(router: RouterPlan | None) -> Iterator[RouterPlan]:
    while router is not None:
        yield router
        router = router.upstream


def _check_interface_name(name: str) -> None:
    if not 0 < len(name) <= MAX_INTERFACE_NAME or any(c.isspace() or c in "/:" for c in name) or name == "lo":
        raise TopologyError(
            f"{name!r} is no interface name: 1 to {MAX_INTERFACE_NAME} characters, no space, '/' or ':'"
        )
