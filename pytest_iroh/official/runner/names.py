"""Names of our own for this process: a name server on loopback, and a resolv.conf that only this process sees.

0.28 to 0.35 have no option for relays; they ask three built-in ones, by name, where they are. With these names leading
to a lab's relay they learn their public address from it. A name server and not /etc/hosts, which 0.28 does not read.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

RESOLV_CONF = b"/etc/resolv.conf"
#: An address of loopback that nobody else listens at.
SERVER = "127.77.0.1"
PORT = 53
#: linux/sched.h and linux/mount.h.
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
#: RFC 1035 section 4.1: identifier, flags, counts; and in an answer a pointer to the question's name, then
#: type, class, seconds to live, length.
HEADER = struct.Struct(">6H")
ANSWER = struct.Struct(">HHHIH")
POINTER = 0xC000 | HEADER.size
RESPONSE, NO_NAME = 0x8580, 0x8583
TYPES = {1: socket.AF_INET, 28: socket.AF_INET6}
INTERNET = 1
TIME_TO_LIVE = 60


async def use_names(names: Mapping[str, str], directory: str) -> asyncio.DatagramTransport:
    """Make each name lead to an IP address, and no other name to any; returns the name server, to be kept.

    ``directory`` holds the file. Has to come before the bindings' first thread. Raises OSError where this process may
    not mount or listen (it is not root in its user namespace, which it is in every lab).
    """
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(names), local_addr=(SERVER, PORT))
    try:
        _use_server(os.path.join(directory, "resolv.conf"))
    except OSError:
        transport.close()
        raise
    return transport


def _use_server(path: str) -> None:
    """Put a resolv.conf at this path in the place of the machine's, for this thread and those that it starts."""
    with open(path, "w") as file:
        file.write(f"nameserver {SERVER}\n")
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount")
    target = os.path.realpath(RESOLV_CONF)
    _check(libc.mount(path.encode(), target, None, ctypes.c_ulong(MS_BIND), None), "mount")


class NameServer(asyncio.DatagramProtocol):
    """Answers for the names it was given; every other name does not exist."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {name.lower().rstrip("."): ip for name, ip in names.items()}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are sent with."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer one question; what is none gets no answer."""
        try:
            answer = self._answer(data)
        except (ValueError, IndexError, struct.error):
            return
        self._transport.sendto(answer, addr)

    def _answer(self, data: bytes) -> bytes:
        identifier = HEADER.unpack_from(data)[0]
        name, end = _name(data)
        kind = int.from_bytes(data[end : end + 2], "big")
        question = data[HEADER.size : end + 4]
        ip = self._names.get(name)
        if ip is None:
            return HEADER.pack(identifier, NO_NAME, 1, 0, 0, 0) + question
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        if TYPES.get(kind) is not family:
            return HEADER.pack(identifier, RESPONSE, 1, 0, 0, 0) + question
        packed = socket.inet_pton(family, ip)
        answer = ANSWER.pack(POINTER, kind, INTERNET, TIME_TO_LIVE, len(packed)) + packed
        return HEADER.pack(identifier, RESPONSE, 1, 1, 0, 0) + question + answer


def _name(data: bytes) -> tuple[str, int]:
    """The name of the first question and where it ends. Raises ValueError, IndexError."""
    labels = []
    at = HEADER.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1


def _check(result: int, call: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
