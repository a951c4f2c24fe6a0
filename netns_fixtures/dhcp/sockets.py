"""Sockets for DHCP: packet sockets that see only what is for one UDP port, and UDP sockets beside them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct

from netns_fixtures.dhcp.frame import ETH_ARP, ETH_IP

# <linux/filter.h>: classic BPF over an Ethernet frame.
_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_X, _LOAD_HEADER = 0x28, 0x30, 0x48, 0xB1
_JUMP_EQUAL, _JUMP_SET, _RETURN = 0x15, 0x45, 0x06
_ALL = 0x40000
_ETHERNET = 14
_UDP, _FRAGMENT_OFFSET = 17, 0x1FFF
# <linux/rtnetlink.h>
_RTMGRP_LINK = 1
# <linux/sockios.h>, <linux/if.h>
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
#: Longer than any frame of a lab, so that none is cut.
_MAX_FRAME = 65536
#: Frames that are taken before others get their turn: a flood must not stop the agent.
_TURN = 64


def udp_filter(port: int) -> bytes:
    """Accept unfragmented IPv4 UDP to a port."""
    return _program(
        (_LOAD_HALF, 0, 0, 12),
        (_JUMP_EQUAL, 0, 8, ETH_IP),
        (_LOAD_BYTE, 0, 0, _ETHERNET + 9),
        (_JUMP_EQUAL, 0, 6, _UDP),
        (_LOAD_HALF, 0, 0, _ETHERNET + 6),
        (_JUMP_SET, 4, 0, _FRAGMENT_OFFSET),
        (_LOAD_HEADER, 0, 0, _ETHERNET),
        (_LOAD_HALF_X, 0, 0, _ETHERNET + 2),
        (_JUMP_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    )


def packet_socket(interface: str, protocol: int, program: bytes) -> socket.socket:
    """A packet socket of the namespace that is entered, bound to one interface. Raises OSError."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        if program:
            _attach(sock, program)
        sock.bind((interface, protocol))
    except OSError:
        sock.close()
        raise
    return sock


def arp_socket(interface: str) -> socket.socket:
    """A packet socket for ARP. Raises OSError."""
    return packet_socket(interface, ETH_ARP, b"")


def control_socket() -> socket.socket:
    """A socket of the namespace that is entered, to ask about its interfaces. Raises OSError."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def link_socket() -> socket.socket:
    """Readable when an interface of the namespace that is entered changes. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, _RTMGRP_LINK))
    except OSError:
        sock.close()
        raise
    return sock


def deaf_socket(interface: str, ip: str, port: int) -> socket.socket:
    """A UDP socket that receives nothing: it sends, and keeps the kernel from answering "port unreachable".

    What arrives is read from the packet socket. Raises OSError.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        _attach(sock, _program((_RETURN, 0, 0, 0)))
        sock.bind((ip, port))
    except OSError:
        sock.close()
        raise
    return sock


def frames(sock: socket.socket) -> list[bytes]:
    """The packets that wait, some of them at most."""
    found: list[bytes] = []
    # Nothing more, or the link went down, which a packet socket reports once, or too many came.
    with contextlib.suppress(OSError):
        while len(found) < _TURN:
            found.append(sock.recv(_MAX_FRAME))
    return found


def is_running(sock: socket.socket, interface: str) -> bool:
    """Whether an interface is up with a live far end, and takes frames; ``sock`` is any of its namespace."""
    request = struct.pack("16sh22x", interface.encode(), 0)
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
    (flags,) = struct.unpack_from("=H", answer, 16)
    return bool(flags & _IFF_RUNNING)


def _program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)


def _attach(sock: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
