"""The lab: a small internet, described in a few calls, running in namespaces of its own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from netns_fixtures.client import Agent, shared_agent
from netns_fixtures.dns.handle import LabDns
from netns_fixtures.errors import AgentDied, LabClosed, TopologyError
from netns_fixtures.events import EventLog, LabEvent
from netns_fixtures.family import Family, IpSettings
from netns_fixtures.features import Capabilities
from netns_fixtures.firewall import CAPTIVE_PORTAL, Firewall
from netns_fixtures.host import Host
from netns_fixtures.interface import Interface
from netns_fixtures.ipv6_nat import Ipv6Nat
from netns_fixtures.link import LinkCondition
from netns_fixtures.link_engine import NETEM_FEATURES, LinkEngine
from netns_fixtures.messages import Apply, CloseLab, OpenLab, Request
from netns_fixtures.nat import NatConfig, NatKind, nat_config
from netns_fixtures.ops import Op, SetQdisc, Splice
from netns_fixtures.plug import Plug
from netns_fixtures.ra.config import Slaac
from netns_fixtures.regions import Region, RegionLinks, RegionVerbs
from netns_fixtures.router import Router
from netns_fixtures.tape import Tape
from netns_fixtures.topology import RouterPlan, Topology
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.timeline import Timeline


class LabService(Protocol):
    """A program of the lab's own in one of its nodes."""

    def start(self) -> None: ...

    def wait_started(self) -> None: ...

    def close(self) -> None: ...


@handle(also=("router", "host"), but=("apply", "await_configured", "close", "add_service", "remove_service"))
class Lab(RegionVerbs):
    """Hosts and routers around an internet exchange. A context manager; or call :meth:`close`.

    ``link_engine``: what impaired links are made of, "auto" (the wire), "wire" or "netem".

    ``router()`` and ``host()`` only describe; the first verb that needs the kernel (or :meth:`build`) makes
    all of it. Safe to use from several threads. ``seed`` decides all chance of the lab's links; drawn where
    None.
    """

    def __init__(
        self, name: str = "lab", seed: int | None = None, link_engine: str | LinkEngine = LinkEngine.AUTO
    ) -> None:
        self.name = name
        self._link_engine = LinkEngine.parse(link_engine)
        # From the system's own source: a test that seeds `random` must not make all labs alike unasked.
        self.seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        self.topology = Topology()
        self.routers: dict[str, Router] = {}
        self.hosts: dict[str, Host] = {}
        self.regions: dict[str, Region] = {}
        self._region_links = RegionLinks(self)
        self.number = 0
        self.dns = LabDns(self)
        #: What deadlines of the hosts' processes are multiplied by, for slow machines.
        self.timeout_scale = 1.0
        self.tape = Tape()
        self._log = EventLog()
        self._lock = threading.RLock()
        self._agent: Agent | None = None
        #: Programs of the lab's own in its nodes, and those that start with the next building.
        self._services: list[LabService] = []
        self._starting: list[LabService] = []
        self._closed = False
        self._impaired = False
        #: The thread that carries out a verb now, and when it began.
        self._verb: tuple[int, float] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._agent else "described"
        return f"<Lab {self.name} {state}: {len(self.hosts)} hosts, {len(self.routers)} routers>"

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

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
        hosts can ask it for ports with, of "pcp", "nat-pmp", "upnp", or "all". ``region``: where it is,
        instead of ``upstream``. Raises TopologyError.
        """
        if not nat_config(nat).translates and nat64:
            nat = NatKind.OPEN  # what is translated to IPv4 comes from the router's own address
        ip = IpSettings(
            family=None if family is None else Family.parse(family),
            nat64=nat64,
            ula=ula,
            ipv6_nat=None if ipv6_nat is None else Ipv6Nat.parse(ipv6_nat),
        )
        with self._lock:
            self._check_open()
            parent = self._plan_of(upstream if region is None else self._place(region, upstream))
            if nat == NatKind.CGNAT:
                parent = self.topology.add_router(
                    f"{name}-carrier", nat, parent, ipv6=ipv6, carrier_lan=True, ip=ip.of_carrier
                )
                self.routers[parent.name] = Router(self, parent)
            router = Router(self, self.topology.add_router(name, nat, parent, ipv6=ipv6, ip=ip))
            self.routers[name] = router
            self._impair([router.uplink], delay, loss)
            if firewall == CAPTIVE_PORTAL:
                router.portal.describe()
            elif firewall is not None:
                router.firewall.describe(firewall)
            if mtu is not None:
                router.uplink.describe_mtu(mtu)
            if port_mapping is not None:
                router.port_mapping.describe(port_mapping)
            return router

    def host(
        self,
        name: str,
        uplink: Router | Mapping[str, Router],
        *,
        family: str | None = None,
        slaac: bool | Slaac = False,
        delay: float = 0.0,
        loss: float = 0.0,
        firewall: str | Firewall | None = None,
        mtu: int | None = None,
    ) -> Host:
        """A host plugged into a router's LAN (interface eth0), or into several: ``{"wlan0": home, "wwan0":
        hotspot}``.

        The first interface has the best default route. ``family`` is what it speaks of what the LANs offer: v4,
        dual or v6; None is all. With ``slaac`` its kernel makes its IPv6 addresses of router advertisements.
        ``delay`` and ``loss`` impair every uplink; ``firewall`` is a preset's name or a Firewall, ``mtu`` bytes on
        every interface. Raises TopologyError.
        """
        listening = slaac if isinstance(slaac, Slaac) else Slaac() if slaac else None
        asked = None if family is None else Family.parse(family)
        uplinks = uplink if isinstance(uplink, Mapping) else {"eth0": uplink}
        with self._lock:
            self._check_open()
            plans = {interface: self._require(router) for interface, router in uplinks.items()}
            host = Host(self, self.topology.add_host(name, plans, asked, listening))
            self.hosts[name] = host
            self._impair(host.interfaces.values(), delay, loss)
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

    @property
    def events(self) -> tuple[LabEvent, ...]:
        """What happened so far, in order."""
        return self._log.snapshot()

    def on_event(self, callback: Callable[[LabEvent], None]) -> Callable[[], None]:
        """Call ``callback`` at each later event, in the thread that caused it; returns how to unsubscribe."""
        return self._log.subscribe(callback)

    @property
    def closed(self) -> bool:
        """Whether the lab was closed."""
        return self._closed

    @property
    def link_engine(self) -> str:
        """What carries the links: "veth" while none is impaired, then "wire", or "netem" if asked for."""
        return self._link_engine.carrier if self._impaired else "veth"

    @property
    def uses_netem(self) -> bool:
        """Whether impaired links are the kernel's (``Lab(link_engine="netem")``)."""
        return self._link_engine is LinkEngine.NETEM

    @property
    def mode(self) -> str:
        """How the agent got its rights: "root" or "userns"; "" before the lab is built."""
        return self._agent.mode if self._agent else ""

    @property
    def agent_pid(self) -> int:
        """The process that holds the namespaces; 0 before the lab is built."""
        return self._agent.pid if self._agent else 0

    @property
    def capabilities(self) -> Capabilities:
        """What this machine can do."""
        from netns_fixtures.doctor import capabilities  # the probes cost time, and few ask

        return capabilities()

    def resolve(self, host: str) -> list[str]:
        """Addresses of a node's name or an IP literal, IPv4 first. Raises gaierror for an unknown name."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass  # not a literal
        node: Host | Router | None = self.hosts.get(host) or self.routers.get(host)
        if node is None:
            raise socket.gaierror(socket.EAI_NONAME, f"no host or router named {host!r} in lab {self.name}")
        return [ip for ip in (node.ip, node.ip6) if ip]

    # -- ending

    def close(self) -> None:
        """Kill every process of the hosts and let every namespace go; does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for service in self._services:
                service.close()
            try:
                self.dns.close()
            finally:
                if self._agent is not None:
                    with contextlib.suppress(AgentDied):  # then there is nothing left to close
                        self._agent.request(CloseLab(self.number))
        self.log_event("lab_closed", "", f"lab {self.name} closed")

    # -- for the handles

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lab still for one verb: one thread at a time, steps and events in one order.

        Events recorded inside carry the time at which the verb began, before the kernel's work.
        """
        with self._lock:
            self._check_open()
            outer, self._verb = self._verb, self._verb or (threading.get_ident(), time.monotonic())
            try:
                yield
            finally:
                self._verb = outer

    @contextlib.contextmanager
    def describing(self) -> Iterator[None]:
        """Hold the lab still while something is described."""
        with self._lock:
            self._check_open()
            yield

    @property
    def is_built(self) -> bool:
        """Whether the kernel has a part in it already: what is described now is made at the next verb."""
        return self._agent is not None

    def apply(self, ops: Sequence[Op]) -> None:
        """Carry out steps, after what is not yet built. A lab that cannot be built is closed."""
        with self._lock:
            self._check_open()
            pending = self.topology.take_pending()
            limits = self.topology.limit_ops(changed=bool(pending or ops))
            steps = (*pending, *ops, *limits)
            if not steps:
                return
            first = self._agent is None
            try:
                self._started().request(Apply(self.number, steps))
            except BaseException:
                if pending:
                    self.close()
                raise
            self._impaired = self._impaired or any(isinstance(step, Splice | SetQdisc) for step in steps)
            if first:
                self.tape.begin(time.monotonic())
                size = f"{len(self.hosts)} hosts, {len(self.routers)} routers"
                text = f"lab {self.name} built: {size}, seed {self.seed}"
                self.log_event("lab_built", "", text, seed=self.seed, mode=self.mode)
                self.dns.lab_built()
            unconfigured, self.topology.unconfigured = self.topology.unconfigured, []
            self.await_configured(unconfigured)
            self._start_services()

    def await_configured(self, plugs: Iterable[Plug]) -> None:
        """Wait until those of these interfaces that configure themselves have done so. Raises LabError."""
        listening = [plug for plug in plugs if plug.slaac]
        if listening:
            from netns_fixtures.ra.waiting import (
                await_configured,  # it brings pyroute2, and most labs are static
            )

            await_configured(self, listening)

    def ready(self) -> int:
        """Build what is not yet built; returns the agent's number of this lab."""
        self.apply([])
        return self.number

    def add_service(self, service: LabService, *, at_build: bool = False) -> None:
        """Close this program of the lab's own with the lab; ``at_build`` also starts it after the next building."""
        with self._lock:
            self._services.append(service)
            if at_build:
                self._starting.append(service)

    def remove_service(self, service: LabService) -> None:
        """It has ended."""
        with self._lock:
            self._services.remove(service)

    def request(self, request: Request, fds: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """One request to the agent. Raises LabClosed, AgentDied, and what the agent raised."""
        self._check_open()
        return self._started().request(request, fds)

    def log_event(self, kind: str, node: str, text: str, **data: Any) -> LabEvent:
        """Record an event, stamped now; inside a verb, with the time at which it began."""
        verb = self._verb  # of another thread, perhaps: that one's time is not ours
        began = verb[1] if verb is not None and verb[0] == threading.get_ident() else None
        return self._log.emit(kind, node, text, at=began, **data)

    def wire_seed(self, node: str, interface: str) -> int:
        """The seed of one link: the same lab seed and names give the same, whatever else is in the lab."""
        return random.Random(f"{self.seed}/{node}/{interface}").getrandbits(64)

    def _start_services(self) -> None:
        starting, self._starting = self._starting, []
        for service in starting:
            service.start()
        for service in starting:  # they start side by side
            service.wait_started()

    def _started(self) -> Agent:
        if self._agent is None:
            if self.uses_netem:
                self.capabilities.require(*NETEM_FEATURES)
            self._agent = shared_agent()
            self.number, _fds = self._agent.request(OpenLab(self.name))
        return self._agent

    def _impair(self, interfaces: Iterable[Interface], delay: float, loss: float) -> None:
        condition = LinkCondition(delay=delay, loss=loss)
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

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosed(f"lab {self.name} is closed")
