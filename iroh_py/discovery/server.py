"""A pkarr relay and DNS server in one: what nodes publish by HTTP is served as TXT records, too.

It runs in the caller's event loop and listens in any network: the system's, a lab host's, a simulated host's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from iroh_py.discovery.store import PacketStore
from iroh_py.discovery.web import serve_http
from iroh_py.discovery.zone import Zone
from iroh_py.errors import BindError, ClosedError, LocalProtocolError
from iroh_py.io.system import as_network
from iroh_py.network import Addr, Family, SocketFactory, UdpSocket
from iroh_py.relay.sockets import listen_tcp, stop_accepting

log = logging.getLogger("iroh_py.discovery")

#: Origins of iroh-dns-server's development configuration.
ORIGINS = ("irohdns.example", ".")
#: Connections served at once; more are closed. Each holds a task and some kilobytes.
MAX_CONNECTIONS = 256
#: Seconds for one request, or between two questions on a TCP connection.
REQUEST_TIMEOUT = 5.0
#: Questions on one TCP connection.
_MAX_QUESTIONS = 100
#: Ports tried until one is free for TCP and UDP alike.
_PORT_TRIES = 8
_WILDCARDS = ("0.0.0.0", "::")

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class DiscoveryServer:
    """A pkarr relay over HTTP at ``/pkarr`` and an authoritative DNS server over UDP and TCP.

    ``network``: None (the system's), a lab host, a simulated host. ``ips``: where to listen; by default
    127.0.0.1 on the system, and all addresses elsewhere. Ports of 0 take free ones, which then stay.
    ``origins``: the zones. ``ssl``: makes the relay an https one. ``store``: the packets, kept over a
    restart. An async context manager; ``start`` and ``close`` may be called again and again.
    """

    def __init__(
        self,
        network: object = None,
        *,
        ips: Iterable[str] | None = None,
        http_port: int = 0,
        dns_port: int = 0,
        origins: Iterable[str] = ORIGINS,
        ssl: ssl_module.SSLContext | None = None,
        store: PacketStore | None = None,
    ) -> None:
        self.store = PacketStore() if store is None else store
        self._zone = Zone(self.store, origins)
        self._source = network
        self._ips = tuple(ips) if ips is not None else ("127.0.0.1",) if network is None else _WILDCARDS
        self._http_port = http_port
        self._dns_port = dns_port
        self._ssl = ssl
        self._listeners: list[Any] = []
        self._udp: list[UdpSocket] = []
        self._clients: set[asyncio.Task[None]] = set()

    # --- where it is ---

    @property
    def ip(self) -> str:
        """The address to reach it at: the one it listens on, or its host's own."""
        first = self._ips[0]
        if first not in _WILDCARDS:
            return first
        return str(getattr(self._source, "ip", "") or "127.0.0.1")

    @property
    def pkarr_url(self) -> str:
        """The base URL for PkarrDiscovery. Raises ClosedError before the first start."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{'http' if self._ssl is None else 'https'}://{host}:{self._started(self._http_port)}/pkarr"

    @property
    def dns_addr(self) -> Addr:
        """The name server for DnsDiscovery. Raises ClosedError before the first start."""
        return self.ip, self._started(self._dns_port)

    @property
    def origin(self) -> str:
        """The longest of its origins, for DnsDiscovery."""
        return self._zone.origins[0].to_text(omit_final_dot=True)

    def _started(self, port: int) -> int:
        if not port:
            raise ClosedError("the discovery server was not started")
        return port

    # --- life ---

    async def start(self) -> Self:
        """Listen. Raises BindError; nothing stays open then."""
        try:
            self._http_port = await self._listen(self._http_port, self._http, self._ssl)
            await self._listen_dns()
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Stop listening and cut the connections; the packets stay."""
        await stop_accepting(each for each in self._listeners if isinstance(each, asyncio.Server))
        for listener in self._listeners:
            listener.close()
        for udp in self._udp:
            udp.close()
        self._listeners.clear()
        self._udp.clear()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _listen(self, port: int, client: Client, ssl: ssl_module.SSLContext | None = None) -> int:
        """Accept TCP connections on all addresses; the port."""
        if hasattr(self._source, "listen_tcp"):
            listener = self._source.listen_tcp(port, self._guarded(client))
            self._listeners.append(listener)
            return int(listener.port)
        sockets = listen_tcp(self._opener(), [(ip, port) for ip in self._ips])
        for sock in sockets:
            server = await asyncio.start_server(self._guarded(client), sock=sock, ssl=ssl)
            self._listeners.append(server)
            port = port or sock.getsockname()[1]
        return port

    def _opener(self) -> Callable[[int, int, int], Any]:
        if self._source is None:
            return socket.socket
        if isinstance(self._source, SocketFactory):
            return self._source.socket
        raise LocalProtocolError(f"{self._source!r} cannot listen: give None, a lab host or a simulated host")

    async def _listen_dns(self) -> None:
        network = as_network(self._source)
        for attempt in range(_PORT_TRIES):
            before = list(self._listeners)
            port = await self._listen(self._dns_port, self._dns_tcp)
            try:
                for ip in self._ips:
                    udp = _Udp(self._zone)
                    udp.socket = network.open_udp(Family.of(ip), ip, port, udp.receive)
                    self._udp.append(udp.socket)
            except OSError as error:
                if self._dns_port or attempt == _PORT_TRIES - 1:
                    raise BindError(f"the DNS server cannot listen on {ip} port {port}: {error}") from error
                # A port that TCP had free and UDP has not: another one.
                self._end_since(before)
                continue
            self._dns_port = port
            return

    def _end_since(self, before: list[Any]) -> None:
        for listener in [one for one in self._listeners if one not in before]:
            listener.close()
            self._listeners.remove(listener)
        for udp in self._udp:
            udp.close()
        self._udp.clear()

    # --- serving ---

    def _guarded(self, client: Client) -> Client:
        """Serve a connection within bounds of number and time, whatever the other end does."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is None or len(self._clients) >= MAX_CONNECTIONS:
                writer.transport.abort()
                return
            self._clients.add(task)
            try:
                await client(reader, writer)
            except (OSError, EOFError) as error:
                log.debug("discovery server: a client left: %r", error)  # TimeoutError among them
            except asyncio.CancelledError:
                # We close. Not raised again: asyncio's callback for accepted connections would log it as an
                # error.
                writer.transport.abort()
            finally:
                self._clients.discard(task)
                writer.close()

        return serve

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            await serve_http(self.store, reader, writer)

    async def _dns_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(_MAX_QUESTIONS):
            async with asyncio.timeout(REQUEST_TIMEOUT):
                query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                answer = self._zone.answer(query, udp=False)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()


class _Udp:
    """The receiver of one UDP socket."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self.socket: UdpSocket | None = None

    def receive(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            answer = self._zone.answer(data, udp=True)
            if answer is not None and self.socket is not None:
                try:
                    self.socket.send([answer], source)
                except OSError:
                    continue  # the client's way back is gone; it asks again
