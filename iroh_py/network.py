"""The network an endpoint lives in: what ``iroh_py`` needs of it, and nothing more.

Three things satisfy :class:`Network`: the system's own network (``iroh_py.io.system.SystemNetwork``), a lab host
(anything with a ``socket`` method, wrapped by ``iroh_py.io.system.SocketNetwork``), and the simulated network of
``iroh_py.testing``. So the same endpoint code runs on the real network, in a namespace, and under virtual time.

This module is plain data and protocols: it imports no asyncio and opens nothing.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio
    import ssl as ssl_module

#: An IP address in canonical text form and a port. IPv4-mapped IPv6 never appears here: it is IPv4.
Addr = tuple[str, int]


class Family(enum.IntEnum):
    """An address family, with the numbers of the socket module."""

    V4 = socket.AF_INET
    V6 = socket.AF_INET6

    @classmethod
    def of(cls, ip: str) -> Family:
        """The family of an address text."""
        return cls.V6 if ":" in ip else cls.V4


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of an interface: canonical text, prefix length in bits, and the kernel's flags that matter."""

    ip: str
    prefixlen: int
    deprecated: bool = False
    tentative: bool = False
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface. ``up`` is administrative, ``running`` is carrier with an open queue behind it."""

    index: int
    name: str
    up: bool = True
    running: bool = True
    loopback: bool = False
    mac: str = ""
    addresses: tuple[InterfaceAddress, ...] = ()
    #: Counts the times that the link came up; a higher number means it may be another network now.
    generation: int = 0

    @property
    def usable(self) -> bool:
        """Whether packets can leave here at all."""
        return self.up and self.running


@dataclass(frozen=True, slots=True)
class Route:
    """One unicast route of the main table or of another table that a rule leads to.

    ``destination`` is ``"0.0.0.0/0"`` or ``"::/0"`` for a default route; ``gateway`` is "" for an on-link route.
    """

    family: Family
    destination: str
    interface: int
    gateway: str = ""
    metric: int = 0
    table: int = 254
    source: str = ""
    #: The outgoing link has no carrier. The kernel still uses the route, unless it is also ``dead``.
    linkdown: bool = False
    #: The kernel ignores the route (``ignore_routes_with_linkdown``).
    dead: bool = False

    @property
    def is_default(self) -> bool:
        """Whether this route matches every destination of its family."""
        return self.destination.endswith("/0")


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A snapshot of links, addresses, routes and rules, as the network monitor sees them."""

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    #: Policy routing rules, opaque texts: only whether they changed matters.
    rules: tuple[str, ...] = ()
    #: MAC addresses of the default gateways by address: another MAC behind the same address is another network.
    gateways: tuple[tuple[str, str], ...] = ()

    def interface(self, index: int) -> Interface | None:
        """The interface with this kernel index, or None."""
        return next((i for i in self.interfaces if i.index == index), None)


class NetworkWatch(Protocol):
    """A running network monitor."""

    @property
    def state(self) -> NetworkState:
        """The newest snapshot."""
        ...

    def refresh(self) -> None:
        """Look again at once; a difference is reported through the callback as usual."""
        ...

    def close(self) -> None:
        """Stop watching; no callback after this returns."""
        ...


class UdpSocket(Protocol):
    """A bound UDP socket of one family. All calls are non-blocking.

    Where ``on_marked`` is set, datagrams with an ECN codepoint go there; else to the receiver like all others.
    """

    on_marked: MarkedReceiver | None

    @property
    def family(self) -> Family: ...

    @property
    def local_addr(self) -> Addr:
        """The bound address and actual port."""
        ...

    def send(self, payloads: Sequence[bytes], addr: Addr, via: int = 0, ecn: int = 0) -> int:
        """Send datagrams to one address; return how many the system took (a full buffer stops early).

        ``via`` is the index of the interface to leave by; 0 lets the system's routing decide. ``ecn`` is the codepoint
        for their IP headers (RFC 3168: 2 is ECT(0)).
        Raises OSError (unreachable, no route, no such interface, gone): the caller treats it as a hint.
        """
        ...

    def close(self) -> None: ...


#: Called with a batch of (payload, source address, index of the arrival interface or 0).
Receiver = Callable[[list[tuple[bytes, Addr, int]]], None]
#: The same for datagrams that came with an ECN codepoint (RFC 3168), all with this one.
MarkedReceiver = Callable[[list[tuple[bytes, Addr, int]], int], None]


@runtime_checkable
class Network(Protocol):
    """What an endpoint needs of the network it lives in."""

    @property
    def name(self) -> str:
        """A short name for logs: the host's name."""
        ...

    def time(self) -> float:
        """Seconds on a monotonic clock."""
        ...

    def boottime(self) -> float:
        """Seconds on a clock that also counts while the machine is suspended."""
        ...

    def open_udp(self, family: Family, ip: str, port: int, receiver: Receiver) -> UdpSocket:
        """Bind a UDP socket; call ``receiver`` from the running event loop with what arrives. Raises OSError."""
        ...

    def watch(self, callback: Callable[[NetworkState], None]) -> NetworkWatch:
        """Start a network monitor; ``callback`` gets each new, different snapshot from the running event loop."""
        ...

    async def resolve(self, host: str) -> list[str]:
        """Addresses of a host name, best first. Raises OSError."""
        ...

    async def connect_tcp(
        self,
        ip: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        via: int = 0,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP (or TLS) connection, TCP_NODELAY set. Raises OSError.

        ``via`` is the index of the interface to leave by; 0 lets the system's routing decide.
        """
        ...

    async def icmp_ping(self, ip: str, timeout: float) -> float:
        """Round-trip seconds of one ICMP echo. Raises PermissionError where not allowed, TimeoutError, OSError."""
        ...


@runtime_checkable
class SocketFactory(Protocol):
    """Anything that opens sockets in a network of its own, such as a lab host.

    Also needed: ``name``. Optional: ``resolve(host) -> list[str]`` (sync or async) for names, and
    ``nameservers``, addresses of the name servers there, for DNS discovery.
    """

    @property
    def name(self) -> str: ...

    def socket(self, family: int, type: int, proto: int = 0) -> Any:
        """A new ``socket.socket`` of that network; it keeps its network for life."""
        ...
