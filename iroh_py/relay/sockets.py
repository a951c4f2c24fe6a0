"""Listening sockets of a relay, opened through a factory: they may live in another network namespace."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

from iroh_py.errors import BindError
from iroh_py.network import Addr, Family

#: ``socket.socket``, or the ``socket`` method of a lab host.
OpenSocket = Callable[[int, int, int], Any]

#: Connections that wait for accept; a relay that restarts gets all its clients back within a second.
_BACKLOG = 1024
#: Unsent bytes in the kernel per client. More would only make packets of a slow client older; in-flight bytes
#: do not count, so fast distant clients keep their full window.
NOTSENT_LOWAT = 128 * 1024
#: Turns of the event loop from a connection that was just accepted to one that can be ended.
_ACCEPT_TURNS = 3
_WILDCARDS = frozenset({"0.0.0.0", "::"})
#: What a machine without IPv6 (or with it disabled) answers.
_NO_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def listen_tcp(open_socket: OpenSocket, addresses: Iterable[Addr]) -> list[socket.socket]:
    """Listening TCP sockets; a port of 0 becomes the first socket's port for all. Raises BindError."""
    return _bind_all(open_socket, addresses, socket.SOCK_STREAM)


def bind_udp(open_socket: OpenSocket, addresses: Iterable[Addr]) -> list[socket.socket]:
    """Bound UDP sockets, as ``listen_tcp``. Raises BindError."""
    return _bind_all(open_socket, addresses, socket.SOCK_DGRAM)


def _bind_all(open_socket: OpenSocket, addresses: Iterable[Addr], kind: int) -> list[socket.socket]:
    bound: list[socket.socket] = []
    port = 0
    try:
        for ip, wanted in addresses:
            sock = _bind(open_socket, (ip, wanted or port), kind, optional=bool(bound))
            if sock is not None:
                bound.append(sock)
                port = port or sock.getsockname()[1]
    except BaseException as error:  # whatever a lab says that is closed already
        for sock in bound:
            sock.close()
        if not isinstance(error, OSError):
            raise
        raise BindError(f"the relay cannot listen on {ip} port {wanted or port}: {error}") from error
    return bound


def _bind(open_socket: OpenSocket, address: Addr, kind: int, *, optional: bool) -> socket.socket | None:
    family = Family.of(address[0])
    sock: socket.socket | None = None
    try:
        sock = open_socket(family, kind, 0)
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:  # a restarted relay gets its port back although old connections linger
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is Family.V6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        if optional and address[0] in _WILDCARDS and error.errno in _NO_FAMILY:
            return None
        raise
    return sock


def tune_relay_socket(transport: asyncio.Transport) -> None:
    """Keep the kernel's queue of unsent bytes short; TCP_NODELAY is asyncio's default."""
    sock = transport.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)


async def stop_accepting(servers: Iterable[asyncio.Server]) -> None:
    """Stop before the servers close: asyncio 3.11 leaks a connection that it takes in the turn of the close."""
    loop = asyncio.get_running_loop()
    sockets = [sock for server in servers for sock in server.sockets]
    for sock in sockets:
        loop.remove_reader(sock.fileno())
    for _ in range(_ACCEPT_TURNS if sockets else 0):
        await asyncio.sleep(0)
