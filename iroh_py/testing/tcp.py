"""TCP in the simulated network: dialling, and the way between two ends.

No packets: an end hands chunks to the schedule, and each chunk needs the whole way to stand when it leaves
and when it arrives. A way that is broken loses nothing and tells nobody: chunks are tried again with TCP's
back-off, so a connection survives a short outage and is half-open, silently, for as long as Linux would leave
it so.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
from typing import TYPE_CHECKING, Any

from iroh_py.errors import LocalProtocolError
from iroh_py.network import Addr
from iroh_py.testing import path as paths
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import Lane
from iroh_py.testing.nat_table import Ports
from iroh_py.testing.stream import SimTransport

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost
    from iroh_py.testing.listener import SimListener

#: Seconds between tries of a SYN: Linux doubles from 1 s and gives up after tcp_syn_retries=6, 127 s in all.
_SYN_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

#: Seconds from a host to itself.
_LOOPBACK_DELAY = 0.00005

#: A SYN or its answer that is lost this often in a row meets the caller's patience first.
_FULL_LOSS = 1.0


class Wire:
    """The way between two ends of a connection: as it was when it began, and whether it still stands."""

    def __init__(
        self, client: SimHost, client_addr: Addr, server: SimHost, server_addr: Addr, *, via: int = 0
    ) -> None:
        self.client = client
        #: The interface that the client's socket is bound to, by index; 0: routing decides for each chunk.
        self.via = via
        self.client_addr = client_addr
        self.server = server
        self.server_addr = server_addr
        self._began: tuple[str, tuple[Any, ...]] | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether both ends are on one host."""
        return self.client is self.server

    def lanes(self, *, from_client: bool) -> list[Lane] | None:
        """The lanes of one direction right now; None if nothing gets through."""
        if self.is_loopback:
            return None if self.client.frozen else []
        found = self._path()
        if found is None:
            return None
        lanes = list(found.forward() if from_client else found.backward())
        return None if any(lane.condition.loss >= _FULL_LOSS for lane in lanes) else lanes

    def arrival(self, now: float, lanes: list[Lane], size: int) -> float:
        """When bytes that leave now are there."""
        if self.is_loopback:
            return now + _LOOPBACK_DELAY
        for lane in lanes:
            now = lane.carry_stream(now, size)
        return now

    def _path(self) -> paths.Path | None:
        try:
            there = self.client.route(self.server_addr[0], bound=self.client_addr[0], via=self.via)
        except OSError:
            # The kernel of an established connection retries what it cannot route, and says nothing.
            return None
        found = paths.find(self.client, there, self.server_addr[0])
        if (
            found is None
            or not isinstance(found.target, SimInterface)
            or found.target.host is not self.server
        ):
            return None
        if self._began is None:
            self._began = (found.seen_ip, found.nats)
        return found if self._began == (found.seen_ip, found.nats) and self._answers(found) else None

    def _answers(self, found: paths.Path) -> bool:
        # The server's own routing must lead back out of the interface that has its end of the connection.
        try:
            back = self.server.route(found.seen_ip, bound=self.server_addr[0])
        except OSError:
            return False
        return back.interface is found.target


async def connect(
    host: SimHost, addr: Addr, *, wants_tls: bool, via: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Dial; see ``SimHost.connect_tcp``."""
    if wants_tls:
        raise LocalProtocolError("the simulated network has no TLS; use a plain http:// relay in it")
    source = host.route(addr[0], via=via).source
    local = (source, host.ephemeral_port(source))
    for wait in _SYN_WAITS:
        server = _owner(host, addr[0], via)
        if server is not None:
            wire = Wire(host, local, server, addr, via=via)
            if (rtt := _handshake_time(host, wire)) is not None:
                await asyncio.sleep(rtt)
                return _establish(wire, server.listener_at(addr))
        await asyncio.sleep(wait)
    raise TimeoutError(errno.ETIMEDOUT, f"{os.strerror(errno.ETIMEDOUT)} (to {addr[0]}:{addr[1]})")


def _owner(host: SimHost, ip: str, via: int) -> SimHost | None:
    try:
        choice = host.route(ip, via=via)
    except OSError:
        return None  # The route went away while dialling: Linux goes on trying.
    if choice.interface is None:
        return host
    found = paths.find(host, choice, ip)
    return found.target.host if found is not None and isinstance(found.target, SimInterface) else None


def _handshake_time(host: SimHost, wire: Wire) -> float | None:
    forward, backward = wire.lanes(from_client=True), wire.lanes(from_client=False)
    if forward is None or backward is None:
        return None
    now = host.time()
    # A handshake is small: what it waits for is delay and loss, not the rate.
    return wire.arrival(wire.arrival(now, forward, 1), backward, 1) - now


def _establish(wire: Wire, listener: SimListener | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if listener is None or wire.lanes(from_client=False) is None:
        raise ConnectionRefusedError(
            errno.ECONNREFUSED,
            f"{os.strerror(errno.ECONNREFUSED)} ({wire.server_addr[0]}:{wire.server_addr[1]})",
        )
    loop = wire.client.net.loop
    seen = _seen_by_server(wire)
    client = SimTransport(wire, from_client=True, sockname=wire.client_addr, peername=wire.server_addr)
    server = SimTransport(wire, from_client=False, sockname=wire.server_addr, peername=seen)
    client.peer, server.peer = server, client

    server_reader = asyncio.StreamReader(loop=loop)
    server_protocol = asyncio.StreamReaderProtocol(server_reader, _accepting(listener), loop=loop)
    listener.connections.append(server)
    server.when_lost = lambda: listener.connections.remove(server)
    server.start(server_protocol)

    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    client.start(protocol)
    return reader, asyncio.StreamWriter(client, protocol, reader, loop)


def _accepting(listener: SimListener) -> Any:
    on_client = listener.on_client

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        result = on_client(reader, writer)
        if inspect.isawaitable(result):
            await result

    return accept


def _seen_by_server(wire: Wire) -> Addr:
    """The client's address as the server sees it: behind NATs theirs, with a port that they chose."""
    choice = wire.client.route(wire.server_addr[0], bound=wire.client_addr[0], via=wire.via)
    found = paths.find(wire.client, choice, wire.server_addr[0])
    if found is None or found.seen_ip == wire.client_addr[0]:
        return wire.client_addr
    keeps = all(nat.config.ports is Ports.PRESERVE for nat, _ in found.nats)
    return found.seen_ip, wire.client_addr[1] if keeps else wire.client.ephemeral_port(found.seen_ip)
