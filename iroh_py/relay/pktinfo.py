"""Answering from the address that was asked: a relay may have several, and a NAT drops what comes from another."""

from __future__ import annotations

import socket
import struct

#: Linux numbers that Python 3.11 does not export (linux/in.h).
_IP_PKTINFO = 8
_PKTINFO4 = struct.Struct("=I4s4s")
_PKTINFO6 = struct.Struct("=16sI")
#: Bytes of control messages to ask the kernel for.
ANCILLARY_SIZE = 128

Ancillary = list[tuple[int, int, bytes]]


def ask_for_local_address(sock: socket.socket) -> None:
    """Have ``recvmsg`` tell to which address each datagram came."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)


def answer_from(ancillary: Ancillary) -> Ancillary:
    """The control message that makes the answer leave from the address the request came to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _PKTINFO4.size:
            _, local, _ = _PKTINFO4.unpack_from(data)
            return [(level, kind, _PKTINFO4.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _PKTINFO6.size:
            return [(level, kind, data[: _PKTINFO6.size])]
    return []
