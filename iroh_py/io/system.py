"""The networks of real sockets: the system's own, and those of lab hosts that open sockets for us."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import time
import weakref
from collections.abc import Callable

from iroh_py.errors import LocalProtocolError
from iroh_py.io import clock, icmp, names, tcp
from iroh_py.io.multicast import MulticastSocket
from iroh_py.io.netmon import NetworkMonitor
from iroh_py.io.udp import AsyncUdpSocket
from iroh_py.network import Family, Network, NetworkState, Receiver, SocketFactory


class SocketNetwork:
    """The network that a socket factory opens its sockets in; implements ``Network``.

    Names are resolved by the factory's ``resolve(host)``, sync or async, if it has one; a sync one is called
    in a thread. Without it only IP addresses resolve, since this process's resolver belongs to another
    network.
    """

    def __init__(self, factory: SocketFactory) -> None:
        self._factory = factory
        self._udp: weakref.WeakSet[AsyncUdpSocket] = weakref.WeakSet()

    @property
    def name(self) -> str:
        """The factory's name."""
        return str(self._factory.name)

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Addresses of the name servers that hold in this network, as far as the factory tells (``nameservers``)."""
        return tuple(getattr(self._factory, "nameservers", ()))

    def time(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def boottime(self) -> float:
        """Seconds on a clock that also counts while the machine is suspended."""
        return clock.boottime()

    def open_udp(self, family: Family, ip: str, port: int, receiver: Receiver) -> AsyncUdpSocket:
        """Bind a UDP socket; ``receiver`` is called from the running event loop. Raises OSError."""
        opened = AsyncUdpSocket(self._open, family, ip, port, receiver)
        self._udp.add(opened)
        return opened

    def open_multicast(self, family: Family, group: str, port: int, receiver: Receiver) -> MulticastSocket:
        """A socket for a multicast group, which shares its port with others. Raises OSError."""
        return MulticastSocket(self._open, family, group, port, receiver)

    def watch(self, callback: Callable[[NetworkState], None]) -> NetworkMonitor:
        """Start a network monitor. Raises OSError where netlink is not to be had."""
        written = 0

        def busy() -> bool:
            nonlocal written
            before, written = written, sum(udp.counters.writes for udp in self._udp)
            return written != before

        return NetworkMonitor(self._open, callback, busy=busy)

    async def resolve(self, host: str) -> list[str]:
        """Addresses of a host name, best first; an address gives itself. Raises OSError."""
        ip = names.literal(host)
        return [ip] if ip is not None else await self._look_up(host)

    async def connect_tcp(
        self,
        ip: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        via: int = 0,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP (or TLS) connection to an address, TCP_NODELAY set. Raises OSError.

        ``via`` is the index of the interface to leave by; 0 lets the system's routing decide.
        """
        return await tcp.connect(self._open, ip, port, ssl=ssl, server_hostname=server_hostname, via=via)

    async def icmp_ping(self, ip: str, timeout: float) -> float:
        """Round-trip seconds of an ICMP echo. Raises PermissionError if refused, TimeoutError, OSError."""
        return await icmp.ping(self._open, ip, timeout)

    def _open(self, family: int, kind: int, proto: int) -> socket.socket:
        opened = self._factory.socket(family, kind, proto)
        if not isinstance(opened, socket.socket):
            raise LocalProtocolError(f"{self.name}.socket() must return a socket.socket, not {opened!r}")
        return opened

    async def _look_up(self, host: str) -> list[str]:
        resolver = getattr(self._factory, "resolve", None)
        if resolver is None:
            raise socket.gaierror(
                socket.EAI_NONAME, f"{self.name} has no resolve method: give an address instead of {host}"
            )
        return await names.resolve_by(resolver, host)


class SystemNetwork(SocketNetwork):
    """The network that this process is in; implements ``Network``."""

    def __init__(self) -> None:
        super().__init__(_ThisProcess())

    async def _look_up(self, host: str) -> list[str]:
        return await names.resolve_by_system(host)


class _ThisProcess:
    """Opens sockets here."""

    @property
    def name(self) -> str:
        return socket.gethostname()

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        return socket.socket(family, type, proto)


def as_network(source: object) -> Network:
    """The network that is meant: None is the system's, a ``Network`` is itself, a socket factory is wrapped.

    Raises LocalProtocolError for anything else.
    """
    if source is None:
        return SystemNetwork()
    if isinstance(source, Network):
        return source
    if isinstance(source, SocketFactory):
        return SocketNetwork(source)
    raise LocalProtocolError(
        f"{source!r} is no network: give None, a Network, or an object with a name and a method"
        " socket(family, type, proto) that opens sockets, such as a lab host"
    )
