"""The network as a description: nodes, segments, plugs; and the steps that build or change it. Pure.

Every node (host, router, the exchange) is a namespace. Every Ethernet segment is a bridge in one more namespace,
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

from netns_fixtures.addressing import (
    EXCHANGE_V4,
    EXCHANGE_V6,
    NAME_SERVER_V4,
    NAME_SERVER_V6,
    AddressPool,
    IPv4Network,
)
from netns_fixtures.backbone import Backbone, RegionLink
from netns_fixtures.balance.rules import Balancers
from netns_fixtures.cabling import Cabling
from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.dhcp.plan import DhcpPlan
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family, IpSettings
from netns_fixtures.names import check_interface_name, check_node_name
from netns_fixtures.nat import LAN, WAN, NatConfig, NatKind, nat_config, nat_label
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.pool import check_addresses, claim_ops, pool_ops
from netns_fixtures.nat.rules import NatRules, sysctls
from netns_fixtures.nat64.plan import plan_nat64
from netns_fixtures.node_settings import HOST, ROUTER, V4_ONLY
from netns_fixtures.offer import check_offered, firewall6_ops, router_family
from netns_fixtures.ops import LoadRules, Op, SetLink, SetSysctls
from netns_fixtures.path_limits import PathLimits
from netns_fixtures.plans import HostPlan, RouterPlan, ancestors
from netns_fixtures.plug import Plug
from netns_fixtures.prefixes import nat6_ops, plan_prefixes
from netns_fixtures.ra.config import Slaac, secret_of
from netns_fixtures.ra.plan import RaPlan
from netns_fixtures.routing import routes_ops

__all__ = ["EXCHANGE", "HostPlan", "RouterPlan", "Topology"]

EXCHANGE = "exchange"
#: Interfaces of a host get 100, 200, ... as NetworkManager does for classes of uplinks.
METRIC_STEP = 100

_PLAIN = IpSettings()


class Topology(Cabling):
    """All that was described. Methods that describe append to ``pending``; verbs return their steps."""

    def __init__(self) -> None:
        super().__init__()
        self.routers: dict[str, RouterPlan] = {}
        self.hosts: dict[str, HostPlan] = {}
        self.regions: dict[str, RouterPlan] = {}
        self.backbone = Backbone()
        self._limits = PathLimits()
        self.balancers = Balancers()
        #: Interfaces that will configure themselves and have not been waited for.
        self.unconfigured: list[Plug] = []
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
        self.check_name(name)
        config = nat_config(nat)
        outside = (upstream or self.exchange).lan.segment
        check_addresses(name, config, outside)
        family = router_family(name, ip, ipv6, outside)
        node = self.add_node(name, ROUTER)
        v4 = AddressPool(self.lan_v4(config, upstream, carrier=carrier_lan)) if family.speaks(4) else None
        segment = self.add_segment(name, v4)
        prefixes = plan_prefixes(self.subnets, segment, ip) if family.speaks(6) else None
        wan_family = Family.DUAL if ip.nat64 else family
        wan, ops = self.add_uplink(node, name, WAN, outside, metric=METRIC_STEP, family=wan_family)
        lan = self.add_lan(node, name, LAN, segment)
        router = RouterPlan(name, node, config, lan, wan, upstream, kind=nat_label(nat))
        self.routers[name] = router
        self.pending += [*ops, *claim_ops(router)]
        if v4 is not None:
            segment.dhcp = DhcpPlan(node, lan.index, lan.name, lan.mac)
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
        check_interface_name(name)  # links to it have its name
        if name in (WAN, LAN):
            raise TopologyError(f"{name!r} is no name for a region: its router has an interface of that name")
        plan = self.add_router(name, NatKind.NONE, None)
        self.regions[name] = plan
        return plan

    def add_region_link(self, a: RouterPlan, b: RouterPlan) -> RegionLink:
        """A cable between two regions, in subnets of its own, and the routes over it."""
        segment = self.add_segment(f"{a.name}-{b.name}", AddressPool(self.subnets.public()))
        segment.v6 = AddressPool(self.subnets.v6())
        ends = [self.add_plug(x.node, x.name, y.name, segment, None) for x, y in ((a, b), (b, a))]
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
        dhcp: DhcpClient | None = None,
    ) -> HostPlan:
        """A host with interfaces by name; the first has the lowest metric. ``family`` None: what the LANs speak."""
        self.check_name(name)
        if not uplinks:
            raise TopologyError(
                f"host {name!r} needs an uplink: a router, or a dict of interface name to router"
            )
        for interface in uplinks:
            check_interface_name(interface)
        for router in uplinks.values():
            check_offered(name, family, router.lan.segment)
        if slaac and family is Family.V4:
            raise TopologyError(f"{name!r} has family='v4', and slaac is of IPv6; leave one out")
        if dhcp and family is Family.V6:
            raise TopologyError(f"{name!r} has family='v6', and dhcp is of IPv4; leave one out")
        more = V4_ONLY if family is Family.V4 else slaac.sysctls(secret_of(name)) if slaac else ()
        host = HostPlan(name, self.add_node(name, HOST + more), slaac=slaac, dhcp=dhcp)
        for number, (interface, router) in enumerate(uplinks.items(), 1):
            plug, ops = self.add_uplink(
                host.node,
                name,
                interface,
                router.lan.segment,
                metric=METRIC_STEP * number,
                family=family or Family.DUAL,
                slaac=slaac is not None,
                dhcp=dhcp,
            )
            host.plugs[interface] = plug
            self.pending += ops
            if plug.slaac or plug.dhcp:
                self.unconfigured.append(plug)
        self.hosts[name] = host
        return host

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

    # -- changing

    def rules_ops(
        self, router: RouterPlan, *, replace: bool = False, kept: tuple[KeptFlow, ...] = ()
    ) -> list[Op]:
        """The router's rule text for its present outside address and port range; ``kept`` flows live on."""
        assert router.wan is not None
        outside = router.wan.ip(4)
        if outside is None:
            return firewall6_ops(router.node, router.nat, replace=replace)
        ops = pool_ops(router)
        rules = router.rules or NatRules(router.nat, outside)
        generation = rules.generation + 1 if kept else 0
        pool = tuple(address.ip for address in router.pool)
        router.rules = dataclasses.replace(
            rules, outside=outside, kept=kept, generation=generation, pool=pool
        )
        text = router.rules.text(replace=replace)
        return [*ops, LoadRules(router.node, text)] if text else ops

    def sync_routes(self) -> list[Op]:
        """Make the static routes of all routers what the description now needs."""
        return routes_ops(self)

    def derived_ops(self, *, changed: bool) -> list[Op]:
        """Make what follows from the rest what it must be now: routes that limit packets, and balancers' rules.

        Called after every change.
        """
        return [*self._limits.ops(self.routers.values(), changed=changed), *self.balancers.ops()]

    def lan_v4(self, nat: NatConfig, upstream: RouterPlan | None, *, carrier: bool) -> IPv4Network:
        """The next IPv4 subnet for a LAN: a carrier's (RFC 6598), or public where nothing translates, or private."""
        if carrier:
            return self.subnets.carrier()
        public = not nat.translates and not any(r.nat.translates for r in ancestors(upstream))
        return self.subnets.public() if public else self.subnets.private()

    # -- inside

    def _exchange(self) -> RouterPlan:
        node = self.add_node(EXCHANGE, ROUTER)
        segment = self.add_segment(EXCHANGE, AddressPool(EXCHANGE_V4), AddressPool(EXCHANGE_V6))
        for ip in (NAME_SERVER_V4, NAME_SERVER_V6):  # kept free also while nobody asks it
            segment.reserve(ip)
        return RouterPlan(
            EXCHANGE, node, nat_config(NatKind.NONE), self.add_lan(node, EXCHANGE, "ix", segment)
        )

    def check_name(self, name: str) -> None:
        """Raises TopologyError for what is no name, or taken."""
        check_node_name(name)
        balancers = [plan.name for plan in self.balancers.plans]
        if name in (*self.routers, *self.hosts, *balancers, EXCHANGE):
            raise TopologyError(f"the lab has a node named {name!r} already; names are unique")
