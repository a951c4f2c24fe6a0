"""The simulated network: build it, move it, and read what happened."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from iroh_py.network import Addr, Family
from iroh_py.testing import oracle
from iroh_py.testing.errors import TopologyError
from iroh_py.testing.forward import Forwarder
from iroh_py.testing.host import SimHost
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import Direction
from iroh_py.testing.nat import SimNat
from iroh_py.testing.nat_table import NatConfig, nat_kind
from iroh_py.testing.schedule import Schedule
from iroh_py.testing.segment import Segment, parse_address
from iroh_py.testing.trace import Trace, TraceEvent

#: Where an interface can be plugged in.
Upstream = SimNat | Segment

#: One interface of a new host: an upstream (a free address), addresses (on the Internet), both, or None:
#: unplugged.
Plug = Upstream | str | tuple[Upstream | str, ...] | None

#: Sees every datagram as it is sent: host, source, destination, payload.
Tap = Callable[[SimHost, Addr, Addr, bytes], None]

#: The Internet's own addresses (documentation ranges, RFC 5737 and RFC 3849): hosts here, NATs' outsides
#: below.
_HOSTS = {Family.V4: "198.51.100.0/24", Family.V6: "2001:db8::/64"}
_OUTSIDES = "203.0.113.0/24"

#: The LANs: home routers as they are sold, carrier-grade ones in their shared range (RFC 6598), plain routers
#: in the benchmarking range (RFC 2544) because their inside addresses are seen outside.
_LANS = {"cgnat": "100.64.{}.0/24", "none": "198.18.{}.0/24"}
_HOME_LAN = "192.168.{}.0/24"

#: Metrics in the order of a host's interfaces, 100 apart as NetworkManager does it.
_METRIC_STEP = 100


class SimNet:
    """An in-memory Internet with hosts, NATs and imperfect links; the same seed gives the same run.

    Build it anywhere; it belongs to the event loop in which it is first used, with :func:`run_virtual` under
    virtual time. Everything is plain calls, effective at once; times in seconds, sizes in bytes.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.schedule = Schedule()
        self.forwarder = Forwarder(self)
        self.hosts: dict[str, SimHost] = {}
        self.nats: dict[str, SimNat] = {}
        #: How long a name lookup takes.
        self.resolve_delay = 0.01
        self.taps: list[Tap] = []
        self._trace = Trace()
        self._on_change: list[Callable[[TraceEvent], None]] = []
        self._names: dict[str, tuple[str, ...]] = {}
        self._partitions: set[frozenset[str]] = set()
        self._macs = 0
        self.internet = Segment("internet", self.new_mac(), dict(_HOSTS))

    # --- building -------------------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        ip: str | tuple[str, ...] | None = None,
        *,
        nat: SimNat | None = None,
        interfaces: Mapping[str, Plug] | None = None,
    ) -> SimHost:
        """A new host: on the Internet or behind ``nat`` with one interface, or with ``interfaces`` by name.

        ``ip`` is one address or several ("ip" or "ip/prefixlen"; a free IPv4 one by default). In
        ``interfaces``, a value is an upstream, or addresses on the Internet, or ``(upstream, ip, ...)``, or
        None for unplugged; the first interface has the lowest metric. Raises TopologyError.
        """
        if name in self.hosts:
            raise TopologyError(f"there is a host {name!r} already")
        ips = (ip,) if isinstance(ip, str) else ip or ()
        plugs: Mapping[str, Plug] = interfaces or {"eth0": (nat or self.internet, *ips)}
        if interfaces is not None and (ip is not None or nat is not None):
            raise TopologyError("give either interfaces, or ip and nat for the only one")
        host = SimHost(self, name)
        for number, (interface_name, plug) in enumerate(plugs.items(), start=1):
            # Index 1 is the loopback interface.
            interface = SimInterface(host, interface_name, number + 1, number * _METRIC_STEP)
            segment, texts = self._place(plug)
            interface.plug(segment, tuple(parse_address(text) for text in texts))
            host.interfaces[interface_name] = interface
        self.hosts[name] = host
        return host

    def nat(
        self,
        name: str,
        kind: str | NatConfig = "moderate",
        outside_ip: str | None = None,
        *,
        behind: SimNat | None = None,
        lan: str | None = None,
        **rules: Any,
    ) -> SimNat:
        """A new NAT: "open", "moderate", "strict", "cgnat", "none" (a plain router), or a :class:`NatConfig`.

        ``rules`` replace single fields of it (``timeout=30``), ``behind`` puts it behind another NAT, ``lan``
        is the IPv4 network inside. Raises TopologyError.
        """
        if name in self.nats:
            raise TopologyError(f"there is a NAT {name!r} already")
        try:
            config = dataclasses.replace(nat_kind(kind), **rules)
        except TypeError as error:
            raise TopologyError(f"no such NAT rule: {error}") from None
        number = len(self.nats) + 1
        upstream = self.internet if behind is None else behind.inside
        outside = outside_ip or upstream.free_address(Family.V4, None if behind else _OUTSIDES)
        v4 = lan or _LANS.get(kind if isinstance(kind, str) else "", _HOME_LAN).format(number)
        prefixes = {Family.V4: v4, Family.V6: f"2001:db8:{number:x}::/64"}
        self.nats[name] = SimNat(self, name, config, upstream, outside, prefixes)
        return self.nats[name]

    def link(
        self,
        node: SimHost | SimInterface | SimNat,
        *,
        direction: Literal["both", "up", "down"] = "both",
        **condition: Any,
    ) -> None:
        """Change the link of an interface, of all interfaces of a host, or of a NAT's outside.

        ``condition`` are fields of :class:`LinkCondition`; the others stay as they are. Raises TopologyError.
        """
        nodes: Iterable[SimInterface | SimNat] = (
            node.interfaces.values() if isinstance(node, SimHost) else (node,)
        )
        directions = Direction if direction == "both" else (Direction(direction),)
        for each in nodes:
            for one in directions:
                lane = each.link.lane(one)
                try:
                    lane.condition = dataclasses.replace(lane.condition, **condition)
                except TypeError as error:
                    raise TopologyError(f"no such link condition: {error}") from None
        name = node.host.name if isinstance(node, SimInterface) else node.name
        self.changed(name, "link " + " ".join(f"{key}={value}" for key, value in sorted(condition.items())))

    def name(self, name: str, *ips: str) -> None:
        """Let every host resolve a name to these addresses (to none: let it fail)."""
        self._names[name] = ips

    # --- what happens ---------------------------------------------------------------------------------------

    def partition(self, a: SimHost, b: SimHost) -> None:
        """Let nothing through between two hosts, silently."""
        self._partitions.add(frozenset((a.name, b.name)))
        self.changed(a.name, f"partition {b.name}")

    def heal(self, a: SimHost | None = None, b: SimHost | None = None) -> None:
        """End the partition of two hosts; of one host from all, or all partitions, with fewer names."""
        wanted = {host.name for host in (a, b) if host is not None}
        self._partitions = {pair for pair in self._partitions if not wanted <= pair}
        self.changed(a.name if a is not None else "", "heal")

    def inject(self, src: Addr, dst: Addr, payload: bytes, *, at: Upstream | None = None) -> None:
        """Send a datagram from any source address, as a stranger on the Internet (or the LAN ``at``)."""
        self.forwarder.inject(at.inside if isinstance(at, SimNat) else at or self.internet, src, dst, payload)

    # --- what is, and what was ------------------------------------------------------------------------------

    def reachable(self, first: SimHost, second: SimHost, *, punch: bool = False) -> bool:
        """Whether UDP could flow both ways if ``first`` sends first (or both): see ``oracle.reachable``."""
        return oracle.reachable(first, second, punch=punch)

    @property
    def trace(self) -> list[TraceEvent]:
        """The newest events (bounded), oldest first: equal for two runs of one program with one seed."""
        return list(self._trace.events)

    def on_change(self, callback: Callable[[TraceEvent], None]) -> Callable[[], None]:
        """Have each change of the network reported as it is made; returns what ends that."""
        self._on_change.append(callback)
        return lambda: self._on_change.remove(callback)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often each (kind, fate) happened."""
        return self._trace.counts

    def partitioned(self, a: SimHost, b: SimHost) -> bool:
        """Whether a partition lies between two hosts."""
        return bool(self._partitions) and frozenset((a.name, b.name)) in self._partitions

    # --- for its parts --------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that this network lives on."""
        return self.schedule.loop

    def record(self, kind: str, node: str, src: Addr | None, dst: Addr | None, size: int, fate: str) -> None:
        """Add to the trace."""
        self._trace.add(self.schedule.now(), kind, node, src, dst, size, fate)

    def changed(self, node: str, what: str) -> None:
        """Add a change to the trace, and report it."""
        self.record("change", node, None, None, 0, what)
        for callback in tuple(self._on_change):
            callback(self._trace.events[-1])

    def lookup(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, of a host, or the address itself."""
        if name in self._names:
            return self._names[name]
        if name in self.hosts:
            return tuple(a.ip for i in self.hosts[name].interfaces.values() for a in i.active_addresses())
        try:
            return (parse_address(name).ip,)
        except TopologyError:
            return ()

    def new_mac(self) -> str:
        """A MAC address that nobody has yet, locally administered."""
        self._macs += 1
        return "02:00:00:{:02x}:{:02x}:{:02x}".format(*self._macs.to_bytes(3, "big"))

    def _place(self, plug: Plug) -> tuple[Segment | None, tuple[str, ...]]:
        if plug is None:
            return None, ()
        parts = plug if isinstance(plug, tuple) else (plug,)
        segment, texts = self.internet, []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
            else:
                segment = part.inside if isinstance(part, SimNat) else part
        return segment, tuple(texts) or (segment.free_address(Family.V4),)
