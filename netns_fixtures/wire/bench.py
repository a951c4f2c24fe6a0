"""A link on the bench: two TAPs in two fresh network namespaces, and a ping between them.

The doctor tries the engine with it, the tests measure delay and loss, the benchmark floods it. The
namespaces are anonymous: they end with the descriptors held here.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Self, TypeVar

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.client import WireProcess
from netns_fixtures.wire.tap import open_tap

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

# <linux/sockios.h> and <linux/if.h>; plain ioctls, so that the doctor works where netlink does not.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
_IFF_UP = 1

# RFC 2544: set aside for benchmarks, and these namespaces have no other address.
ADDRESS_A = IPv4Interface("198.18.0.1/30")
ADDRESS_B = IPv4Interface("198.18.0.2/30")

_ICMP_ECHO, _ICMP_ECHO_REPLY = 8, 0


@dataclass(frozen=True, slots=True)
class BenchEnd:
    """One namespace with one TAP that is up and has an address."""

    name: str
    address: IPv4Interface
    namespace: int
    tap: int

    @classmethod
    def open(cls, name: str, address: IPv4Interface) -> BenchEnd:
        """Make it; raises PermissionError without CAP_NET_ADMIN and CAP_SYS_ADMIN."""

        def build() -> BenchEnd:
            _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
            tap = open_tap(name)
            _set_address(name, address)
            set_up(name, True)
            return cls(name, address, os.open("/proc/thread-self/ns/net", os.O_RDONLY), tap)

        return _in_own_thread(build)

    def run(self, function: Callable[[], T]) -> T:
        """Call the function in a thread inside the namespace."""

        def enter() -> T:
            _checked(_libc.setns(self.namespace, _CLONE_NEWNET), "setns")
            return function()

        return _in_own_thread(enter)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in the namespace."""
        return self.run(lambda: socket.socket(family, kind, protocol))

    def close(self) -> None:
        """Give up the namespace and the TAP."""
        os.close(self.tap)
        os.close(self.namespace)


class Bench:
    """Two ends and a wire process between them with one link, number 1; use it as a context manager."""

    LINK = 1

    def __init__(self, forward: LinkCondition, backward: LinkCondition, seed: int = 0) -> None:
        with ExitStack() as undo:
            self.a = undo.enter_context(closing(BenchEnd.open("bench-a", ADDRESS_A)))
            self.b = undo.enter_context(closing(BenchEnd.open("bench-b", ADDRESS_B)))
            self.wire = undo.enter_context(closing(WireProcess.spawn()))
            self.wire.add_link(self.LINK, self.a.tap, self.b.tap, forward, backward, seed)
            self._undo = undo.pop_all()

    def ping(self, count: int, interval: float, within: float) -> list[float | None]:
        """Send `count` echo requests from a to b; returns each round trip in seconds, None where none came.

        interval: seconds between requests, 0 waits for each answer instead. within: seconds to wait for the
        last answers.
        """
        with self.a.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as pinger:
            pinger.connect((str(self.b.address.ip), 0))
            return _ping(pinger, count, interval, within)

    def close(self) -> None:
        """End the process and both namespaces."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def set_up(name: str, up: bool) -> None:
    """Set an interface of the calling thread's namespace up or down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        request = struct.pack("16sh14x", name.encode(), 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(query, _SIOCGIFFLAGS, request), 16)
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(query, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags))


def _set_address(name: str, address: IPv4Interface) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        for code, value in ((_SIOCSIFADDR, address.ip), (_SIOCSIFNETMASK, address.netmask)):
            fcntl.ioctl(query, code, struct.pack("16sH2x4s8x", name.encode(), socket.AF_INET, value.packed))


def _in_own_thread(function: Callable[[], T]) -> T:
    """Namespaces belong to threads: this one ends, and with it its stay in the other namespace."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()


def _ping(pinger: socket.socket, count: int, interval: float, within: float) -> list[float | None]:
    sent: list[float] = []
    trips: list[float | None] = [None] * count
    waiting = count
    next_send = time.monotonic()
    deadline = next_send + count * interval + within
    while waiting and (now := time.monotonic()) < deadline:
        if len(sent) < count and now >= next_send:
            next_send = now + within if interval == 0 else next_send + interval
            pinger.send(_echo_request(len(sent)))
            sent.append(now)
            continue
        until = deadline if len(sent) == count else min(deadline, next_send)
        number = _echo_reply(pinger, until - now)
        if number is not None and number < len(sent) and trips[number] is None:
            trips[number] = time.monotonic() - sent[number]
            waiting -= 1
            if interval == 0:
                next_send = 0.0
    return trips


def _echo_request(number: int) -> bytes:
    body = struct.pack("!BBHHH", _ICMP_ECHO, 0, 0, 0, number) + bytes(56)
    total: int = sum(struct.unpack("!32H", body))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return body[:2] + checksum.to_bytes(2, "big") + body[4:]


def _echo_reply(pinger: socket.socket, timeout: float) -> int | None:
    """The number of the next answer, None after the timeout or for another packet."""
    pinger.settimeout(max(timeout, 1e-6))  # zero would mean not to wait at all
    try:
        packet = pinger.recv(2048)
    except TimeoutError:
        return None
    message = packet[(packet[0] & 0x0F) * 4 :]  # behind the IP header, whose length is in words
    if len(message) < 8 or message[0] != _ICMP_ECHO_REPLY:
        return None
    return int.from_bytes(message[6:8], "big")


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
