"""TCP and TLS connections over a socket from elsewhere, such as another network namespace."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Callable

from iroh_py.network import Family

SocketOpener = Callable[[int, int, int], socket.socket]

#: Bytes buffered before the peer is slowed down: some relay frames of 64 KiB each.
READ_LIMIT = 1 << 18
#: Missing in the socket module of Python 3.11 (asm-generic/socket.h). By index and not by name, since the names of
#: another network namespace are not ours to look up; unprivileged since Linux 5.7, as long as nothing is bound yet.
SO_BINDTOIFINDEX = 62


async def connect(
    opener: SocketOpener,
    ip: str,
    port: int,
    *,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    via: int = 0,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection, or TLS if ``ssl`` is given, with TCP_NODELAY.

    ``ip`` must be an address; ``server_hostname`` is the name in TLS, the address if not given. ``via``
    is the index of the interface to leave by, 0 lets routing decide. A cancelled or failed attempt leaves no socket
    behind. Raises OSError (ssl.SSLError is one).
    """
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = opener(Family.of(ip), kind, socket.IPPROTO_TCP)
    reader = asyncio.StreamReader(READ_LIMIT, loop)
    protocol = _Protocol(reader, loop=loop)
    try:
        sock.setblocking(False)
        # Small frames (pings, disco) must not wait for the acknowledgement of earlier ones.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if via:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, via)
        await loop.sock_connect(sock, (ip, port))
        name = (server_hostname or ip) if ssl is not None else None
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=ssl, server_hostname=name
        )
    except BaseException:
        if protocol.transport is not None:
            # Cancelled after the handshake: asyncio says goodbye by TLS then, on a socket that closes below.
            protocol.transport.abort()
        sock.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _Protocol(asyncio.StreamReaderProtocol):
    """Remembers its transport, which asyncio gives to nobody else when a connection is cancelled."""

    transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        super().connection_lost(exc)
