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


async def connect(
    opener: SocketOpener,
    ip: str,
    port: int,
    *,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection, or TLS if ``ssl`` is given, with TCP_NODELAY.

    ``ip`` must be an address; ``server_hostname`` is the name in TLS, the address if not given. A cancelled
    or failed attempt leaves no socket behind. Raises OSError (ssl.SSLError is one).
    """
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = opener(Family.of(ip), kind, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        # Small frames (pings, disco) must not wait for the acknowledgement of earlier ones.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, (ip, port))
        name = (server_hostname or ip) if ssl is not None else None
        return await asyncio.open_connection(sock=sock, ssl=ssl, server_hostname=name, limit=READ_LIMIT)
    except BaseException:
        sock.close()
        raise
