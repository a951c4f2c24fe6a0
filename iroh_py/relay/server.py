"""A relay server for iroh 0.28, 0.35 and 1.x on one port (PROTOCOL.md 7, 11); STUN and address discovery beside it."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from types import TracebackType
from typing import Self

from iroh_py.errors import ClosedError
from iroh_py.network import Addr
from iroh_py.proto.qad import QadServer
from iroh_py.relay import pages
from iroh_py.relay.config import RelayConfig
from iroh_py.relay.entry import HttpEntry, PageSource
from iroh_py.relay.hub import Hub
from iroh_py.relay.metrics import RelayStats
from iroh_py.relay.qad import QadService
from iroh_py.relay.session import Session
from iroh_py.relay.sockets import OpenSocket, bind_udp, listen_tcp, stop_accepting
from iroh_py.relay.stun import StunService
from iroh_py.relay_url import RelayUrl

#: What clients may take to read their last bytes when the server closes in good order.
_GRACE = 1.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class RelayServer:
    """Forwards opaque packets between nodes that prove their ids. Use as ``async with``, or start and close.

    ``open_socket(family, type, proto)`` opens the listening sockets: a lab host's ``socket`` method puts the
    server into that host's network while it runs in this event loop. ``rng`` makes challenges and jitter; the
    default is the system's secure one.
    """

    def __init__(
        self,
        config: RelayConfig | None = None,
        *,
        open_socket: OpenSocket = socket.socket,
        rng: random.Random | None = None,
    ) -> None:
        self.config = RelayConfig() if config is None else config
        self._open_socket = open_socket
        self._rng = random.SystemRandom() if rng is None else rng
        self._hub: Hub | None = None
        self._url: RelayUrl | None = None
        self._servers: list[asyncio.Server] = []
        self._stun: list[StunService] = []
        self._qad: list[QadService] = []

    async def start(self) -> Self:
        """Open all sockets and serve. Raises BindError, and OSError or LocalProtocolError for bad certificate files."""
        context = self.config.ssl_context()
        identity = self.config.identity()
        sockets = listen_tcp(self._open_socket, self.config.bind)
        self._hub = hub = Hub(self.config, self._rng)
        self._url = self.config.public_url or self._make_url(sockets[0], tls=context is not None)
        try:
            for sock in sockets:
                await self._serve(hub, sock, self._relay_page, relays=True, context=context)
            for sock in listen_tcp(self._open_socket, self.config.captive_bind):
                await self._serve(hub, sock, pages.captive_page)
            for sock in listen_tcp(self._open_socket, self.config.metrics_bind or ()):
                await self._serve(hub, sock, self._metrics_page)
            for sock in bind_udp(self._open_socket, self.config.stun_bind):
                self._stun.append(StunService(sock, hub.counters))
            for sock in bind_udp(self._open_socket, self.config.quic_bind):
                assert identity is not None, "the configuration insists on it"
                server = QadServer(identity, rng=self._rng, limits=self.config.quic_limits)
                self._qad.append(QadService(sock, server))
        except BaseException:
            await self.close(graceful=False)
            for sock in sockets:
                sock.close()  # those that no server owns yet
            raise
        return self

    async def close(self, *, graceful: bool = True) -> None:
        """Stop listening and close every connection; returns when they are gone.

        Graceful: clients get what is queued for them and a websocket goodbye, for at most a second. Otherwise
        their connections just end, as if the process had died. Restarting frames are not sent: stock servers
        never do (7.4).
        """
        hub = self._hub
        if hub is None:
            return
        hub.closing = True
        await stop_accepting(self._servers)
        for server in self._servers:
            server.close()
        for service in self._stun:
            service.close()
        for discovery in self._qad:
            discovery.close(graceful=graceful)
        self._servers.clear()
        self._stun.clear()
        self._qad.clear()
        await hub.close()
        if graceful:
            await self._say_goodbye(hub)
        for transport in list(hub.connections):
            transport.abort()
        await hub.empty.wait()
        self._hub = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def url(self) -> RelayUrl:
        """What clients dial. Raises ClosedError before the first start."""
        if self._url is None:
            raise ClosedError("the relay server was not started")
        return self._url

    @property
    def stun_addr(self) -> Addr | None:
        """Where STUN answers (the first of its addresses), None without STUN."""
        return self._stun[0].addr if self._stun else None

    @property
    def quic_addr(self) -> Addr | None:
        """Where QUIC address discovery answers (the first of its addresses), None without it."""
        return self._qad[0].addr if self._qad else None

    def stats(self) -> RelayStats:
        """Nodes, connections and counters now. Raises ClosedError when the server does not run."""
        if self._hub is None:
            raise ClosedError("the relay server does not run")
        return self._hub.stats(self._qad)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection that somebody else accepted (a simulated network). Nothing may be read yet.

        Raises ClosedError when the server does not run.
        """
        if self._hub is None:
            raise ClosedError("the relay server does not run")
        transport = writer.transport
        entry = HttpEntry(self._hub, self._relay_page, relays=True)
        transport.set_protocol(entry)
        entry.connection_made(transport)
        if transport in self._hub.connections:  # a StreamWriter that nobody holds closes its transport
            self._hub.connections[transport] = writer

    async def _serve(
        self,
        hub: Hub,
        sock: socket.socket,
        page: PageSource,
        *,
        relays: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        server = await hub.loop.create_server(
            lambda: HttpEntry(hub, page, relays=relays),
            sock=sock,
            ssl=context,
            ssl_handshake_timeout=None if context is None else hub.limits.handshake_timeout,
        )
        self._servers.append(server)

    def _relay_page(self, path: str, headers: dict[str, str]) -> pages.Page:
        return pages.relay_page(path, headers, self.stats if self.config.metrics_bind is None else None)

    def _metrics_page(self, path: str, headers: dict[str, str]) -> pages.Page:
        return pages.metrics_page(path, self.stats())

    @staticmethod
    def _make_url(sock: socket.socket, *, tls: bool) -> RelayUrl:
        ip, port = sock.getsockname()[:2]
        ip = _LOOPBACK.get(ip, ip)
        host = f"[{ip}]" if ":" in ip else ip
        return RelayUrl.parse(f"{'https' if tls else 'http'}://{host}:{port}/")

    async def _say_goodbye(self, hub: Hub) -> None:
        for transport in list(hub.connections):
            protocol = transport.get_protocol()
            if isinstance(protocol, Session):
                protocol.close("the relay shuts down")
            else:
                transport.close()
        try:
            await asyncio.wait_for(hub.empty.wait(), _GRACE)
        except TimeoutError:
            pass  # some do not read; they are cut off next
