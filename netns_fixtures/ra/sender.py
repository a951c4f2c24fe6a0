"""The agent's side: sockets that send advertisements and hear solicitations, served by the agent's own loop."""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import struct
import time
from dataclasses import dataclass

from netns_fixtures.ops import Advertise
from netns_fixtures.ra.packet import ROUTER_SOLICITATION

_ALL_NODES, _ALL_ROUTERS = "ff02::1", "ff02::2"
# RFC 4861 section 6.1: receivers drop what passed a router, which this proves.
_HOP_LIMIT = 255
# <linux/icmpv6.h>: a bit per type, set = not delivered.
_ICMP6_FILTER = 1
#: An interface that just came up has no link-local address for some milliseconds; then for as long as a link may
#: be down, ever more seldom.
_RETRY_INTERVAL = 0.01
_MAX_RETRY_INTERVAL = 1.0
#: Longer than any solicitation with its options.
_MAX_MESSAGE = 2048
_NOT_READY = (
    errno.EADDRNOTAVAIL,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EINVAL,
    errno.ENODEV,
    errno.ENOBUFS,
)


@dataclass(slots=True)
class _Sender:
    """One LAN. ``due`` None: nothing is to be sent unasked."""

    socket: socket.socket
    step: Advertise
    due: float | None
    retry: float = _RETRY_INTERVAL

    def send(self, now: float) -> None:
        try:
            self.socket.sendmsg(
                [self.step.packet], [_source(self.step)], 0, (_ALL_NODES, 0, 0, self.step.index)
            )
        except OSError as error:
            if error.errno not in _NOT_READY:
                raise
            self.due = now + self.retry
            self.retry = min(_MAX_RETRY_INTERVAL, 2 * self.retry)
            return
        self.retry = _RETRY_INTERVAL
        self.due = now + self.step.interval if self.step.interval else None

    def hear(self, now: float) -> None:
        asked = False
        while True:
            try:
                data = self.socket.recv(_MAX_MESSAGE)
            except BlockingIOError:
                break
            asked = asked or data[:1] == bytes((ROUTER_SOLICITATION,))
        if asked and self.step.packet and self.step.interval:
            self.send(now)


class Advertisers:
    """All LANs of all labs that are advertised to. ``fileno`` is readable when a host solicits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._senders: dict[tuple[int, int], _Sender] = {}
        self._by_fd: dict[int, _Sender] = {}

    def fileno(self) -> int:
        """For a poll of the agent's loop."""
        return self._epoll.fileno()

    def change(self, lab: int, step: Advertise) -> None:
        """Say this from now on, and at once. The step's node must be entered when it is new here."""
        now = time.monotonic()
        sender = self._senders.get((lab, step.index))
        if sender is None:
            sender = _Sender(_open(step), step, now)
            self._senders[lab, step.index] = self._by_fd[sender.socket.fileno()] = sender
            self._epoll.register(sender.socket, select.EPOLLIN)
        sender.step = step
        if step.packet:
            sender.send(now)
        else:
            sender.due = None

    def wait_ms(self) -> int | None:
        """Milliseconds until something is to be sent; None: nothing is."""
        due = min((s.due for s in self._senders.values() if s.due is not None), default=None)
        return None if due is None else max(0, int((due - time.monotonic()) * 1000) + 1)

    def serve(self) -> None:
        """Answer solicitations, and send what is due."""
        now = time.monotonic()
        for fd, _events in self._epoll.poll(0):
            self._by_fd[fd].hear(now)
        for sender in self._senders.values():
            if sender.due is not None and sender.due <= now:
                sender.send(now)

    def remove(self, lab: int) -> None:
        """Forget a lab that is closed."""
        for key in [key for key in self._senders if key[0] == lab]:
            sender = self._senders.pop(key)
            del self._by_fd[sender.socket.fileno()]
            self._epoll.unregister(sender.socket)
            sender.socket.close()


def _open(step: Advertise) -> socket.socket:
    flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(socket.AF_INET6, flags, socket.IPPROTO_ICMPV6)
    wanted = [0xFFFF_FFFF] * 8
    wanted[ROUTER_SOLICITATION >> 5] &= ~(1 << (ROUTER_SOLICITATION & 31))
    sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *wanted))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    group = socket.inet_pton(socket.AF_INET6, _ALL_ROUTERS)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=i", step.index))
    return sock


def _source(step: Advertise) -> tuple[int, int, bytes]:
    """The link-local address of the LAN: hosts believe no other source (RFC 4861 section 6.1.2)."""
    packet_info = link_local(step.mac).packed + struct.pack("=I", step.index)
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packet_info


def link_local(mac: str) -> ipaddress.IPv6Address:
    """The link-local address that the kernel makes of a hardware address (RFC 4291, EUI-64)."""
    raw = bytearray.fromhex(mac.replace(":", ""))
    raw[0] ^= 2
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes(raw[:3]) + b"\xff\xfe" + bytes(raw[3:]))
