"""Asking another name server of the lab, for the zones that were delegated to it."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message

#: Seconds until a question is asked again, and the last wait.
_TRIES = (0.3, 0.7, 1.0)
#: Bytes of a UDP answer that are asked for: what passes one Ethernet frame.
_PAYLOAD = 1232
_MAX_UDP = 65535

Opener = Callable[[int, int], socket.socket]


async def ask_other(
    opener: Opener, query: dns.message.Message, server: tuple[str, int], *, tcp: bool
) -> dns.message.Message | None:
    """The answer of that server; None where it gave none. Over TCP where the client asks so, or it must be."""
    question = query.question[0]
    ours = dns.message.make_query(
        question.name, question.rdtype, use_edns=0, payload=_PAYLOAD, id=random.getrandbits(16)
    )
    try:
        answer = None if tcp else await _by_udp(opener, ours, server)
        if tcp or (answer is not None and answer.flags & dns.flags.TC):
            async with asyncio.timeout(sum(_TRIES)):
                answer = await _by_tcp(opener, ours, server)
    except (OSError, EOFError):  # TimeoutError among them
        return None
    return answer


async def _by_udp(
    opener: Opener, query: dns.message.Message, server: tuple[str, int]
) -> dns.message.Message | None:
    loop = asyncio.get_running_loop()
    with opener(_family(server), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        for wait in _TRIES:
            try:
                await loop.sock_sendall(sock, query.to_wire())
                async with asyncio.timeout(wait):
                    while True:
                        answer = _parsed(query, await loop.sock_recv(sock, _MAX_UDP))
                        if answer is not None:
                            return answer
            except OSError:
                continue  # no answer yet, or "port unreachable": it may be starting
    return None


async def _by_tcp(
    opener: Opener, query: dns.message.Message, server: tuple[str, int]
) -> dns.message.Message | None:
    loop = asyncio.get_running_loop()
    with opener(_family(server), socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, query.to_wire(prepend_length=True))
        length = int.from_bytes(await _read(sock, 2), "big")
        return _parsed(query, await _read(sock, length))


async def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _parsed(query: dns.message.Message, data: bytes) -> dns.message.Message | None:
    """The answer to this very question; of a cut one, the beginning. Each record stays for itself."""
    try:
        cut = len(data) > 2 and bool(data[2] & dns.flags.TC >> 8)
        answer = dns.message.from_wire(data, question_only=cut, one_rr_per_rrset=True)
        return answer if query.is_response(answer) else None
    except (dns.exception.DNSException, ValueError):
        return None


def _family(server: tuple[str, int]) -> int:
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET
