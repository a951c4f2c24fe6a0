"""A host of the simulated network: an ``iroh_py.network.Network``, and verbs that change its surroundings."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl as ssl_module
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family, NetworkState, NetworkWatch, Receiver
from iroh_py.testing import path as paths
from iroh_py.testing import tcp
from iroh_py.testing.errors import TopologyError
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import Direction
from iroh_py.testing.listener import OnClient, SimListener
from iroh_py.testing.routing import LOOPBACKS, WILDCARDS, Choice, choose, has_default, network_state
from iroh_py.testing.udp import SimUdpSocket
from iroh_py.testing.watch import SimWatch

if TYPE_CHECKING:
    from iroh_py.testing.nat import SimNat
    from iroh_py.testing.net import SimNet

#: The ports that Linux gives to sockets which ask for none.
_EPHEMERAL = (32_768, 60_999)

#: Routing decisions kept until the next change; more destinations than a birthday probe has.
_ROUTE_CACHE = 4_096

#: Bytes of IP and UDP headers.
HEADERS = {Family.V4: 28, Family.V6: 48}

#: Seconds that a resolver tries before it gives up when nothing answers (resolv.conf: timeout 5).
_RESOLVE_TIMEOUT = 5.0


class SimHost:
    """A simulated machine, usable wherever ``iroh_py`` takes a network. Made by ``SimNet.host``.

    ``watch_delay`` is how late its monitors notice a change, in seconds; ``icmp_allowed=False`` makes ICMP
    raise PermissionError, as for a process without the right.
    """

    def __init__(self, net: SimNet, name: str) -> None:
        self.net = net
        self._name = name
        self.interfaces: dict[str, SimInterface] = {}
        self.watch_delay = 0.0
        self.icmp_allowed = True
        #: No packet gets in or out, silently.
        self.blackholed = False
        #: Suspended: deaf, dumb, and its monitors see nothing.
        self.frozen = False
        self._frozen_at = 0.0
        self._suspended = 0.0
        self._sockets: dict[Addr, SimUdpSocket] = {}
        self._listeners: dict[Addr, SimListener] = {}
        self._watches: list[SimWatch] = []
        self._routes: dict[tuple[str, str, int], Choice] = {}

    def __repr__(self) -> str:
        return f"<SimHost {self._name}>"

    # --- its surroundings -----------------------------------------------------------------------------------

    def interface(self, name: str | None = None) -> SimInterface:
        """An interface by name; the only or first one without. Raises TopologyError."""
        if name is None:
            return next(iter(self.interfaces.values()))
        if name not in self.interfaces:
            raise TopologyError(
                f"{self._name} has no interface {name!r}; it has {', '.join(self.interfaces)}"
            )
        return self.interfaces[name]

    @property
    def ip(self) -> str:
        """The first IPv4 address of the first interface."""
        return self.interface().ip

    @property
    def ip6(self) -> str:
        """The first IPv6 address of the first interface."""
        return self.interface().ip6

    @property
    def state(self) -> NetworkState:
        """What the kernel would show right now."""
        return network_state(self.interfaces.values())

    def set_default(self, name: str) -> None:
        """Make this interface the way out: its default routes get the lowest metric."""
        chosen = self.interface(name)
        others = [i for i in self.interfaces.values() if i is not chosen]
        for number, interface in enumerate([chosen, *sorted(others, key=lambda i: i.metric)], start=1):
            interface.metric = 100 * number
        self.changed(f"default {name}")

    def blackhole(self, on: bool = True) -> None:
        """Make every packet from and to this host vanish, silently; or end that."""
        self.blackholed = on
        self.net.changed(self._name, "blackhole" if on else "no-blackhole")

    def suspend(self, seconds: float) -> None:
        """Wake up from a sleep of that long, just now: ``boottime`` jumps, and NATs above have aged by it.

        Raises ValueError for negative seconds.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._suspended += seconds
        for nat in self._nats_above():
            nat.age(seconds)
        self.net.changed(self._name, f"suspend {seconds:g}")

    def freeze(self) -> None:
        """Fall asleep: nothing gets in or out and monitors see nothing until ``thaw``; others live on.

        Its code still runs, on the clock that it shares with all hosts: only its contact to the world stops.
        """
        if not self.frozen:
            self.frozen = True
            self._frozen_at = self.time()
            self.net.changed(self._name, "freeze")

    def thaw(self) -> None:
        """Wake up: ``boottime`` jumped ahead by the length of the sleep; changes meanwhile are noticed."""
        if self.frozen:
            self.frozen = False
            self._suspended += self.time() - self._frozen_at
            self.changed("thaw")

    def changed(self, what: str) -> None:
        """Note a change of links, addresses or routes, and tell the monitors."""
        self._routes.clear()
        self.net.changed(self._name, what)
        for watch in self._watches:
            watch.notice()

    # --- iroh_py.network.Network ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The host's name, which other hosts can resolve."""
        return self._name

    def time(self) -> float:
        """Seconds on the event loop's clock."""
        return self.net.schedule.now()

    def boottime(self) -> float:
        """Seconds on the event loop's clock, plus what the host has slept."""
        return self.time() + self._suspended

    def open_udp(self, family: Family, ip: str, port: int, receiver: Receiver) -> SimUdpSocket:
        """Bind a UDP socket; port 0 takes a free one. Raises OSError (address in use, not ours)."""
        if Family.of(ip) is not family:
            raise OSError(errno.EAFNOSUPPORT, f"{ip} is not of family {family.name}")
        self._check_ours(ip)
        addr = (ip, port or self._free_port(self._sockets, ip))
        if self._in_use(self._sockets, addr):
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {addr}")
        self._sockets[addr] = SimUdpSocket(self, family, addr, receiver)
        return self._sockets[addr]

    def watch(self, callback: Callable[[NetworkState], None]) -> NetworkWatch:
        """Start a network monitor; see ``iroh_py.network.Network.watch``."""
        watch = SimWatch(self, callback)
        self._watches.append(watch)
        return watch

    async def resolve(self, host: str) -> list[str]:
        """Addresses from the network's table of names, IPv6 first where there is an IPv6 default route.

        Raises socket.gaierror: unknown name, or no answer because this host is cut off.
        """
        if self.cut_off:
            await asyncio.sleep(_RESOLVE_TIMEOUT)
        await asyncio.sleep(self.net.resolve_delay)
        if self.cut_off:
            raise socket.gaierror(socket.EAI_AGAIN, f"temporary failure in name resolution: {host}")
        ips = self.net.lookup(host)
        if not ips:
            raise socket.gaierror(socket.EAI_NONAME, f"name or service not known: {host}")
        preferred = Family.V6 if has_default(self.interfaces.values(), Family.V6) else Family.V4
        return sorted(ips, key=lambda ip: Family.of(ip) is not preferred)

    async def connect_tcp(
        self,
        ip: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        via: int = 0,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open an in-memory TCP connection to a listener of another host, by one interface if ``via`` names it.

        Raises OSError (refused, unreachable, timed out) as the kernel would, and LocalProtocolError if TLS is
        asked for: there is none in the simulation, use a plain ``http://`` relay.
        """
        return await tcp.connect(self, (ip, port), wants_tls=ssl is not None, via=via)

    async def icmp_ping(self, ip: str, timeout: float) -> float:
        """Round-trip seconds to a host or a NAT's outside address. Raises as ``Network.icmp_ping`` says."""
        if not self.icmp_allowed:
            raise PermissionError(errno.EPERM, "ICMP is not allowed on this host")
        choice = self.route(ip)
        there = 0.0
        if choice.interface is not None:
            found = paths.find(self, choice, ip)
            losses = [lane.condition.loss for lane in found.lanes()] if found is not None else []
            if found is None or any(self.net.rng.random() < loss for loss in losses):
                await asyncio.sleep(timeout)
                raise TimeoutError(f"no ICMP answer from {ip} within {timeout} s")
            there = found.round_trip()
        if there > timeout:
            await asyncio.sleep(timeout)
            raise TimeoutError(f"no ICMP answer from {ip} within {timeout} s")
        await asyncio.sleep(there)
        return there

    # --- TCP servers ----------------------------------------------------------------------------------------

    def listen_tcp(self, port: int, on_client: OnClient, *, ip: str = "0.0.0.0") -> SimListener:
        """Accept TCP connections, calling ``on_client(reader, writer)``, plain or async, for each one.

        "0.0.0.0" and "::" take IPv4 and IPv6 alike. Raises OSError (address in use, not ours).
        """
        self._check_ours(ip)
        addr = (ip, port or self._free_port(self._listeners, ip))
        if self._in_use(self._listeners, addr):
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {addr}")
        self._listeners[addr] = SimListener(self, addr, on_client)
        return self._listeners[addr]

    def listener_at(self, addr: Addr) -> SimListener | None:
        """Who accepts TCP connections to this address."""
        ip, port = addr
        wanted = (ip, "0.0.0.0", "::")
        return next((found for i in wanted if (found := self._listeners.get((i, port)))), None)

    def end_listener(self, listener: SimListener) -> None:
        """Forget a closed listener."""
        self._listeners.pop(listener.addr, None)

    # --- what its sockets and the network call --------------------------------------------------------------

    @property
    def deaf(self) -> bool:
        """Whether packets neither come in nor get out, although links and routes look well."""
        return self.blackholed or self.frozen

    @property
    def cut_off(self) -> bool:
        """Whether no default route leads through a link that works."""
        if self.deaf:
            return True
        for family in Family:
            if has_default(self.interfaces.values(), family):
                # A documentation address of no host: only the route to it is asked for.
                found = self.route("192.0.2.53" if family is Family.V4 else "2001:db8:ffff::53").interface
                if found is not None and found.passes:
                    return False
        return True

    def route(self, dst: str, *, bound: str = "", via: int = 0) -> Choice:
        """The kernel's routing decision. Raises OSError."""
        key = (dst, bound, via)
        choice = self._routes.get(key)
        if choice is None:
            choice = choose(self.interfaces.values(), dst, bound=bound, via=via)
            if len(self._routes) >= _ROUTE_CACHE:
                self._routes.clear()
            self._routes[key] = choice
        return choice

    def send_udp(self, local: Addr, payloads: Sequence[bytes], dst: Addr, via: int, ecn: int = 0) -> int:
        """Send datagrams of a socket; how many were taken. Raises OSError."""
        choice = self.route(dst[0], bound=local[0], via=via)
        src = (choice.source, local[1])
        limit = self._largest(choice)
        for count, payload in enumerate(payloads):
            if len(payload) > limit:
                if count:
                    return count
                raise OSError(errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: {len(payload)} bytes")
            self.net.forwarder.send(self, choice.interface, src, dst, payload, ecn)
        return len(payloads)

    def socket_at(self, addr: Addr) -> SimUdpSocket | None:
        """The UDP socket that gets packets to this address: bound to exactly it, or to any."""
        found = self._sockets.get(addr)
        return found or self._sockets.get(("::" if ":" in addr[0] else "0.0.0.0", addr[1]))

    def close_udp(self, sock: SimUdpSocket) -> None:
        """Forget a closed socket."""
        self._sockets.pop(sock.local_addr, None)

    def end_watch(self, watch: SimWatch) -> None:
        """Forget a closed monitor."""
        if watch in self._watches:
            self._watches.remove(watch)

    def ephemeral_port(self, ip: str) -> int:
        """A port for an outgoing TCP connection."""
        return self._free_port(self._listeners, ip)

    def _largest(self, choice: Choice) -> int:
        family = Family.of(choice.source)
        # 16 bits of IP or UDP length, less the headers that they count.
        limit = 65_535 - (HEADERS[Family.V4] if family is Family.V4 else 8)
        if choice.interface is not None:
            condition = choice.interface.link.lane(Direction.UP).condition
            if condition.oversize == "error":
                limit = min(limit, condition.mtu - HEADERS[family])
        return limit

    def _check_ours(self, ip: str) -> None:
        ours = {a.ip for i in self.interfaces.values() for a in i.active_addresses()}
        if ip not in ours | WILDCARDS | set(LOOPBACKS.values()):
            raise OSError(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: {ip}")

    def _in_use(self, table: Iterable[Addr], addr: Addr) -> bool:
        family = Family.of(addr[0])
        return any(
            port == addr[1] and Family.of(ip) is family and (ip == addr[0] or WILDCARDS & {ip, addr[0]})
            for ip, port in table
        )

    def _free_port(self, table: Iterable[Addr], ip: str) -> int:
        for _ in range(_EPHEMERAL[1] - _EPHEMERAL[0]):
            port = self.net.rng.randint(*_EPHEMERAL)
            if not self._in_use(table, (ip, port)):
                return port
        raise OSError(errno.EADDRINUSE, "no free port")

    def _nats_above(self) -> list[SimNat]:
        found: list[SimNat] = []
        for interface in self.interfaces.values():
            nat = interface.segment.owner if interface.segment is not None else None
            while nat is not None:
                if nat not in found:
                    found.append(nat)
                nat = nat.upstream.owner
        return found
