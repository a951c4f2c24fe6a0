"""UDP sockets of lab nodes, for tests of the lab itself."""

from __future__ import annotations

import socket

from netns_fixtures import Host, Router

#: What does not arrive within this, in a lab without delays, does not arrive.
SILENCE = 0.15
#: What must arrive has this long, on a busy machine.
PATIENCE = 5.0

Address = tuple[str, int]
_opened: list[socket.socket] = []


def udp(node: Host | Router, port: int = 0, ip: str = "") -> socket.socket:
    """A bound IPv4 (or, by ``ip``, IPv6) socket with patience."""
    sock = node.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.bind((ip, port))
    _opened.append(sock)
    return sock


def close_all() -> None:
    """Close every socket made by :func:`udp`; for the end of a test."""
    while _opened:
        _opened.pop().close()


def port_of(sock: socket.socket) -> int:
    """The local port."""
    port: int = sock.getsockname()[1]
    return port


def hear(sock: socket.socket) -> Address:
    """Where the next datagram comes from. Raises TimeoutError."""
    address = sock.recvfrom(2000)[1]
    return address[0], address[1]


def drain(sock: socket.socket) -> None:
    """Forget what has arrived."""
    sock.setblocking(False)
    try:
        while True:
            sock.recv(2000)
    except BlockingIOError:
        sock.settimeout(PATIENCE)


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing arrives for a while."""
    sock.settimeout(SILENCE)
    try:
        sock.recv(2000)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(PATIENCE)
    return False


def outside_of(client: socket.socket, server: socket.socket, server_ip: str) -> Address:
    """How a client looks from a server: send one datagram there."""
    drain(server)
    client.sendto(b"hello", (server_ip, port_of(server)))
    return hear(server)
