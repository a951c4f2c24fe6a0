"""One ICMP echo, over a socket without rights where the system allows (RFC 792, RFC 4443, icmp(7))."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import Callable

from iroh_py.network import Family

SocketOpener = Callable[[int, int, int], socket.socket]

ECHO = struct.Struct("!BBHHH")
#: (echo request, echo reply) by family.
TYPES = {Family.V4: (8, 0), Family.V6: (128, 129)}
PROTOCOLS = {Family.V4: socket.IPPROTO_ICMP, Family.V6: socket.IPPROTO_ICMPV6}
#: Random bytes that tell our echo from everybody else's: a raw socket hears them all.
COOKIE_SIZE = 16
READ_SIZE = 2048
REFUSED = (errno.EACCES, errno.EPERM)


async def ping(opener: SocketOpener, ip: str, timeout: float) -> float:
    """Round-trip seconds of one echo. Raises PermissionError where not allowed, TimeoutError, OSError."""
    family = Family.of(ip)
    cookie = os.urandom(COOKIE_SIZE)
    sock, raw = _open(opener, family)
    with sock:
        sock.setblocking(False)
        started = time.monotonic()
        sock.sendto(echo_request(family, cookie), (ip, 0))
        async with asyncio.timeout(timeout):
            while not is_reply(await _receive(sock), family, cookie, raw=raw):
                pass
        return time.monotonic() - started


def echo_request(family: Family, cookie: bytes) -> bytes:
    """An echo request with its checksum; the kernel fills in the id (unprivileged) and the IPv6 checksum."""
    kind = TYPES[family][0]
    identifier = int.from_bytes(cookie[:2], "big")
    unsummed = ECHO.pack(kind, 0, 0, identifier, 1) + cookie
    checksum = 0 if family is Family.V6 else internet_checksum(unsummed)
    return ECHO.pack(kind, 0, checksum, identifier, 1) + cookie


def is_reply(packet: bytes, family: Family, cookie: bytes, *, raw: bool) -> bool:
    """Whether this is the reply to the request with this cookie. Any bytes are fine."""
    if raw and family is Family.V4 and packet:
        packet = packet[(packet[0] & 0x0F) * 4 :]  # A raw IPv4 socket also gives the IP header.
    if len(packet) != ECHO.size + len(cookie):
        return False
    return packet[0] == TYPES[family][1] and packet[ECHO.size :] == cookie


def internet_checksum(data: bytes) -> int:
    """The checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _open(opener: SocketOpener, family: Family) -> tuple[socket.socket, bool]:
    """A datagram ICMP socket (net.ipv4.ping_group_range), else a raw one (CAP_NET_RAW)."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return opener(family, kind | socket.SOCK_CLOEXEC, PROTOCOLS[family]), kind == socket.SOCK_RAW
        except OSError as error:
            if error.errno not in REFUSED:
                raise
    raise PermissionError(
        errno.EPERM, "no ICMP socket: needs net.ipv4.ping_group_range to include this group, or CAP_NET_RAW"
    )


async def _receive(sock: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, READ_SIZE)
