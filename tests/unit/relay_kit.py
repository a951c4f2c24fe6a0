"""Raw relay clients for tests of the server: sockets and codecs, none of our client code."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request

from iroh_py.io import tcp
from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    Ping,
    Pong,
    ServerChallenge,
    ServerConfirmsAuth,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.handshake import client_auth, client_info
from iroh_py.relay import RelayConfig, RelayLimits, RelayServer

#: Nothing on loopback takes this long unless it is broken.
PATIENCE = 5.0
#: Connections of raw clients, dropped when their relay's block ends.
_WRITERS: list[asyncio.StreamWriter] = []
UPGRADE = b"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\nhost: localhost\r\n\r\n"


def relay_vector(name: str) -> str:
    """The hex of a test vector by its name in ``tests/vectors/RELAY.txt``."""
    lines = (Path(__file__).parent.parent / "vectors" / "RELAY.txt").read_text().splitlines()
    return lines[lines.index(name) + 1].strip()


def key(number: int) -> SecretKey:
    """A fixed key per number."""
    return SecretKey(bytes([number]) * 32)


@contextlib.asynccontextmanager
async def relay(**options: Any) -> AsyncIterator[RelayServer]:
    """A plain relay on loopback; options are those of RelayConfig, ``limits`` a dict."""
    limits = RelayLimits(**options.pop("limits", {}))
    options = {"bind": (("127.0.0.1", 0),), "stun_bind": ()} | options
    config = RelayConfig(limits=limits, **options)
    async with RelayServer(config) as server:
        try:
            yield server
        finally:
            drop_clients()


def drop_clients() -> None:
    """Drop the connections of all raw clients of this test."""
    for writer in _WRITERS:
        writer.transport.abort()
    _WRITERS.clear()


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true, checking as often as the loop turns."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # counters of a server have no event to wait for
            await asyncio.sleep(0.001)
    assert condition(), what


async def http_get(
    server: RelayServer, path: str, *headers: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names) and body of one request."""
    reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(PATIENCE):
        raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, body


class V3Client:
    """A generation 3 client over the native upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        _WRITERS.append(writer)
        self._frames = v3.FrameReader()
        self._pending: list[V3Frame] = []

    @classmethod
    async def connect(
        cls,
        server: RelayServer,
        secret: SecretKey | None = None,
        *,
        ssl: ssl_module.SSLContext | None = None,
        request: bytes = UPGRADE,
        receive_buffer: int | None = None,
    ) -> V3Client:
        """Upgrade, and log in with a key if there is one."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (server.url.host, server.url.port))
        name = "localhost" if ssl is not None else None
        client = cls(*await asyncio.open_connection(sock=sock, ssl=ssl, server_hostname=name))
        client.writer.write(request)
        async with asyncio.timeout(PATIENCE):
            head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        if secret is not None:
            client.send(client_info(secret))
            await client.sync()
        return client

    def send(self, frame: V3Frame) -> None:
        """Write a frame."""
        self.writer.write(v3.encode(frame))

    async def sync(self) -> None:
        """Wait until the server has handled all that was sent, by a ping."""
        self.send(Ping(b"kit-sync"))
        while (frame := await self._read()) != Pong(b"kit-sync"):
            self._pending.append(frame)

    async def receive(self) -> V3Frame:
        """The next frame."""
        return self._pending.pop(0) if self._pending else await self._read()

    async def _read(self) -> V3Frame:
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readexactly(5)
            payload = await self.reader.readexactly(int.from_bytes(head[1:], "big"))
        return v3.decode(head[0], payload)

    async def ended(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()


class WsClient:
    """A websocket client made with wsproto's client side; generation 3 without a subprotocol, else 1.x."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ws: WSConnection) -> None:
        self.reader = reader
        self.writer = writer
        _WRITERS.append(writer)
        self.ws = ws
        self.subprotocol: str | None = None
        self._messages: list[bytes] = []
        self._partial = b""
        self.closed = False

    @classmethod
    async def connect(
        cls, server: RelayServer, *subprotocols: str, target: str = "/relay", token: str | None = None
    ) -> WsClient:
        """Upgrade only."""
        reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
        client = cls(reader, writer, WSConnection(ConnectionType.CLIENT))
        headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
        writer.write(
            client.ws.send(
                Request(
                    host="localhost", target=target, subprotocols=list(subprotocols), extra_headers=headers
                )
            )
        )
        while client.subprotocol is None:
            await client._feed()
        return client

    @classmethod
    async def login(
        cls, server: RelayServer, secret: SecretKey, *subprotocols: str, token: str | None = None
    ) -> WsClient:
        """Upgrade and answer the challenge of 1.x."""
        client = await cls.connect(server, *(subprotocols or v1.SUBPROTOCOLS), token=token)
        challenge = await client.receive()
        assert isinstance(challenge, ServerChallenge)
        client.send(client_auth(secret, challenge.challenge))
        assert await client.receive() == ServerConfirmsAuth()
        return client

    def send(self, frame: V1Frame) -> None:
        """Write a 1.x frame."""
        self.send_message(v1.encode(frame))

    def send_message(self, message: bytes) -> None:
        """Write any binary message."""
        self.writer.write(self.ws.send(BytesMessage(data=message)))

    async def receive(self) -> V1Frame:
        """The next 1.x frame."""
        return v1.decode(await self.receive_message(), self.subprotocol or v1.SUBPROTOCOL_V2)

    async def receive_message(self) -> bytes:
        """The next binary message."""
        while not self._messages:
            assert not self.closed, "the server closed the websocket"
            await self._feed()
        return self._messages.pop(0)

    async def ended(self) -> list[bytes]:
        """The messages that still come until the server closes."""
        while not self.closed:
            await self._feed()
        return self._messages

    async def _feed(self) -> None:
        async with asyncio.timeout(PATIENCE):
            try:
                data = await self.reader.read(65536)
            except ConnectionResetError:
                data = b""
        if not data:
            self.closed = True
            if self.subprotocol is None:
                raise ConnectionResetError
            return
        self.ws.receive_data(data)
        for event in self.ws.events():
            if isinstance(event, AcceptConnection):
                self.subprotocol = event.subprotocol or ""
            elif isinstance(event, RejectConnection):
                raise ConnectionRefusedError(event.status_code)
            elif isinstance(event, BytesMessage):
                self._partial += bytes(event.data)
                if event.message_finished:
                    self._messages.append(self._partial)
                    self._partial = b""
            elif isinstance(event, CloseConnection):
                self.closed = True

    def close(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()


class LoopbackNetwork:
    """The part of the Network protocol that relay clients use, on the machine's own loopback."""

    name = "loopback"

    def __init__(self) -> None:
        #: Addresses that ``resolve`` answers.
        self.addresses = ["127.0.0.1"]

    def time(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    async def resolve(self, host: str) -> list[str]:
        """Always the same."""
        return self.addresses

    async def connect_tcp(
        self,
        ip: str,
        port: int,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        via: int = 0,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A real connection."""
        return await tcp.connect(socket.socket, ip, port, ssl=ssl, server_hostname=server_hostname, via=via)
