"""The lab: a small internet, described in a few calls, running in namespaces of its own."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from netns_fixtures.balance.handle import Balancer, BalancerVerbs
from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig
from netns_fixtures.dns.handle import LabDns
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family, IpSettings
from netns_fixtures.firewall import CAPTIVE_PORTAL, Firewall
from netns_fixtures.host import Host
from netns_fixtures.interface import Interface
from netns_fixtures.ipv6_nat import Ipv6Nat
from netns_fixtures.link import LinkCondition
from netns_fixtures.link_engine import LinkEngine
from netns_fixtures.nat import NatConfig, NatKind, nat_config
from netns_fixtures.node_options import check_dhcp, check_options, check_port_mapping
from netns_fixtures.offer import offered, router_family
from netns_fixtures.ra.config import Slaac
from netns_fixtures.regions import Region, RegionLinks, RegionVerbs
from netns_fixtures.router import Router
from netns_fixtures.running_lab import RunningLab
from netns_fixtures.topology import RouterPlan
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.timeline import Timeline


@handle(also=("router", "host"))
class Lab(RunningLab, RegionVerbs, BalancerVerbs):
    """Hosts and routers around an internet exchange. A context manager; or call :meth:`close`.

    ``link_engine``: what impaired links are made of, "auto" (the wire), "wire" or "netem"; None is what the
    environment variable NETNS_FIXTURES_LINK_ENGINE says, else "auto".

    ``router()`` and ``host()`` only describe; the first verb that needs the kernel (or :meth:`build`) makes
    all of it. Safe to use from several threads. ``seed`` decides all chance of the lab's links; drawn where
    None.
    """

    def __init__(
        self, name: str = "lab", seed: int | None = None, link_engine: str | LinkEngine | None = None
    ) -> None:
        super().__init__(name, seed, link_engine)
        self.routers: dict[str, Router] = {}
        self.hosts: dict[str, Host] = {}
        self.regions: dict[str, Region] = {}
        self.balancers: dict[str, Balancer] = {}
        self._region_links = RegionLinks(self)
        self.dns = LabDns(self)

    # -- describing

    def router(
        self,
        name: str,
        nat: str | NatConfig = "none",
        upstream: Router | None = None,
        *,
        ipv6: bool = True,
        family: str | None = None,
        nat64: bool = False,
        ula: bool | Literal["only"] = False,
        ipv6_nat: str | None = None,
        delay: float = 0.0,
        loss: float = 0.0,
        firewall: str | Firewall | None = None,
        mtu: int | None = None,
        port_mapping: str | Sequence[str] | None = None,
        dhcp: bool | DhcpConfig | None = None,
        region: str | Region | None = None,
    ) -> Router:
        """A router: ``nat`` is a NatConfig or a preset (none, open, moderate, strict, cgnat, home, ...);
        ``upstream`` None is the internet exchange.

        "cgnat" makes a carrier's router, too, named ``<name>-carrier``, with this one in its 100.64.0.0/10.
        ``family`` is what its LAN speaks: v4, dual or v6; None is what the uplink offers, or with
        ``ipv6=False`` v4. ``nat64`` lets IPv6 hosts reach IPv4 addresses under 64:ff9b::/96; where ``nat`` is
        none it is open then. ``ula`` adds a prefix of local addresses to the LAN, or is its "only" one;
        ``ipv6_nat`` translates such a LAN's addresses: nptv6 or nat66.
        ``delay`` (seconds one way) and ``loss`` (0..1) impair its uplink. ``firewall`` is a preset's name,
        "captive-portal", or a Firewall; ``mtu``: bytes of the largest packet that it forwards. ``port_mapping``: what
        hosts can ask it for ports with, of "pcp", "nat-pmp", "upnp", or "all". ``dhcp``: its LAN has a DHCP
        server (True, or a DhcpConfig), never one (False), or one as soon as a host asks (None). ``region``:
        where it is, instead of ``upstream``. Raises TopologyError.
        """
        if not nat_config(nat).translates and nat64:
            nat = NatKind.OPEN  # what is translated to IPv4 comes from the router's own address
        ip = IpSettings(
            family=None if family is None else Family.parse(family),
            nat64=nat64,
            ula=ula,
            ipv6_nat=None if ipv6_nat is None else Ipv6Nat.parse(ipv6_nat),
        )
        condition = LinkCondition(delay=delay, loss=loss)
        with self._lock:
            self._check_open()
            parent = self._plan_of(upstream if region is None else self._place(region, upstream))
            # What is refused must be refused before anything is there: the name stays free.
            outside = (parent or self.topology.exchange).lan.segment
            family_of_lan = router_family(name, ip, ipv6, outside)
            check_options(firewall, mtu, family_of_lan)
            check_dhcp(name, dhcp, family_of_lan)
            if port_mapping is not None:
                check_port_mapping(name, port_mapping, nat)
            if nat == NatKind.CGNAT:
                parent = self.topology.add_router(
                    f"{name}-carrier", nat, parent, ipv6=ipv6, carrier_lan=True, ip=ip.of_carrier
                )
                self.routers[parent.name] = Router(self, parent)
            router = Router(self, self.topology.add_router(name, nat, parent, ipv6=ipv6, ip=ip))
            self.routers[name] = router
            self._impair([router.uplink], condition)
            if firewall == CAPTIVE_PORTAL:
                router.portal.describe()
            elif firewall is not None:
                router.firewall.describe(firewall)
            if mtu is not None:
                router.uplink.describe_mtu(mtu)
            if port_mapping is not None:
                router.port_mapping.describe(port_mapping)
            if dhcp is not None:
                router.dhcp.describe(dhcp)
            return router

    def host(
        self,
        name: str,
        uplink: Router | Mapping[str, Router],
        *,
        family: str | None = None,
        slaac: bool | Slaac = False,
        dhcp: bool | DhcpClient = False,
        delay: float = 0.0,
        loss: float = 0.0,
        firewall: str | Firewall | None = None,
        mtu: int | None = None,
    ) -> Host:
        """A host plugged into a router's LAN (interface eth0), or into several: ``{"wlan0": home, "wwan0":
        hotspot}``.

        The first interface has the best default route. ``family`` is what it speaks of what the LANs offer: v4,
        dual or v6; None is all. With ``slaac`` its kernel makes its IPv6 addresses of router advertisements; with
        ``dhcp`` it leases its IPv4 address from the router, and building waits for that.
        ``delay`` and ``loss`` impair every uplink; ``firewall`` is a preset's name or a Firewall, ``mtu`` bytes on
        every interface. Raises TopologyError.
        """
        listening = slaac if isinstance(slaac, Slaac) else Slaac() if slaac else None
        asking = dhcp if isinstance(dhcp, DhcpClient) else DhcpClient() if dhcp else None
        asked = None if family is None else Family.parse(family)
        uplinks = uplink if isinstance(uplink, Mapping) else {"eth0": uplink}
        condition = LinkCondition(delay=delay, loss=loss)
        with self._lock:
            self._check_open()
            plans = {interface: self._require(router) for interface, router in uplinks.items()}
            for plan in plans.values():
                check_options(firewall, mtu, offered(plan.lan.segment), portal=False)
            host = Host(self, self.topology.add_host(name, plans, asked, listening, asking))
            self.hosts[name] = host
            if asking is not None:
                self.leasing.want()
            self._impair(host.interfaces.values(), condition)
            if firewall is not None:
                host.firewall.describe(firewall)
            if mtu is not None:
                for interface in host.interfaces.values():
                    interface.describe_mtu(mtu)
            return host

    def build(self) -> Lab:
        """Make everything described so far; returns the lab. Raises MissingCapability, CommandFailed."""
        self.ready()
        return self

    def timeline(self) -> Timeline:
        """An empty timeline: ``at(2.0, laptop.link.down)``, then ``run()`` or ``with timeline.running():``."""
        from netns_fixtures.timeline import Timeline  # few labs have one

        return Timeline(self)

    # -- looking

    def resolve(self, host: str) -> list[str]:
        """Addresses of a node's name or an IP literal, IPv4 first. Raises gaierror for an unknown name."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass  # not a literal
        node = self.hosts.get(host) or self.routers.get(host) or self.balancers.get(host)
        if node is None:
            raise socket.gaierror(socket.EAI_NONAME, f"no host or router named {host!r} in lab {self.name}")
        return [ip for ip in (node.ip, node.ip6) if ip]

    def _impair(self, interfaces: Iterable[Interface], condition: LinkCondition) -> None:
        if condition.is_clear:
            return
        for interface in interfaces:
            self.topology.pending += interface.describe_condition(condition)

    def _plan_of(self, router: Router | None) -> RouterPlan | None:
        return None if router is None else self._require(router)

    def _require(self, router: Router) -> RouterPlan:
        if not isinstance(router, Router) or router.lab is not self:
            raise TopologyError(f"{router!r} is no router of this lab; make one with lab.router(name)")
        return router.plan
