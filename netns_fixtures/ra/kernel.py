"""What a host's kernel made of advertisements: its IPv6 addresses with their lifetimes, read and awaited."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

# <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_addr.h>
RTMGRP_IPV6_IFADDR = 0x100
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLM_F_REPLACE = 1, 4, 0x300, 0x100
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TEMPORARY, _OPTIMISTIC, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x20, 0x40
_SCOPE_GLOBAL = 0
#: The kernel's "for ever".
_FOREVER = 0xFFFF_FFFF
_HEADER = struct.Struct("=IHHII")
_ULA = ipaddress.IPv6Network("fc00::/7")
#: Sequence numbers of our questions; reports of changes have 0, or that of the request which made them.
_DUMP, _CHANGE = 0x6C61, 0x6C62
#: The kernel answers a question about itself at once.
_ANSWER_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Address6:
    """A global IPv6 address as the kernel has it. ``preferred`` and ``valid``: seconds left, inf for ever.

    temporary: a privacy address. deprecated: new connections take another one. tentative: not checked yet.
    """

    ip: str
    prefixlen: int
    temporary: bool
    deprecated: bool
    tentative: bool
    preferred: float
    valid: float

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefixlen}"

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """Sorts those to be known by first: not deprecated, not temporary, not ULA."""
        return self.deprecated, self.temporary, ipaddress.IPv6Address(self.ip) in _ULA

    def inside(self, network: ipaddress.IPv6Network) -> bool:
        """Whether it was made of this prefix."""
        return ipaddress.IPv6Address(self.ip) in network


def read_addresses(sock: socket.socket, index: int) -> list[Address6]:
    """The addresses of an interface, best first. ``sock`` is a netlink socket of the host, subscribed or not."""
    while True:
        found = _dump(sock, index)
        # A change that was reported meanwhile may be later than the answer, and nobody will hear of it again.
        if found is not None:
            return sorted(found, key=lambda address: address.rank)


def _dump(sock: socket.socket, index: int) -> list[Address6] | None:
    """One question and its answer; None where a report of a change came between."""
    body = struct.pack("=BBBBI", socket.AF_INET6, 0, 0, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, _DUMP, 0)
    sock.settimeout(_ANSWER_TIMEOUT)
    sock.send(header + body)
    found: list[Address6] = []
    disturbed = False
    while True:
        for kind, sequence, data in _messages(sock.recv(1 << 17)):
            if sequence != _DUMP:
                disturbed = True
            elif kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return None if disturbed else found
            elif (address := _address(data, index)) is not None:
                found.append(address)


def await_change(sock: socket.socket, deadline: float) -> bool:
    """Wait for news of addresses on a subscribed socket; False at the deadline (``time.monotonic()``)."""
    left = deadline - time.monotonic()
    if left <= 0 or not select.select([sock], [], [], left)[0]:
        return False
    sock.recv(1 << 17)
    return True


def deprecate(sock: socket.socket, index: int, address: Address6) -> None:
    """Let an address's preferred lifetime end now; a temporary one is followed by the next. Raises OSError."""
    message: Any = _new_message()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET6, address.prefixlen, index
    valid = _FOREVER if address.valid == float("inf") else int(address.valid)
    lifetimes = {"ifa_preferred": 0, "ifa_valid": valid, "cstamp": 0, "tstamp": 0}
    message["attrs"] = [["IFA_ADDRESS", address.ip], ["IFA_LOCAL", address.ip], ["IFA_CACHEINFO", lifetimes]]
    message["header"]["type"] = _RTM_NEWADDR
    message["header"]["flags"] = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_REPLACE
    message["header"]["sequence_number"] = _CHANGE
    message.encode()
    sock.settimeout(_ANSWER_TIMEOUT)
    sock.send(bytes(message.data))
    while True:
        for kind, sequence, data in _messages(sock.recv(1 << 17)):
            if kind == _NLMSG_ERROR and sequence == _CHANGE:
                (code,) = struct.unpack_from("=i", data, _HEADER.size)
                if code:
                    raise OSError(-code, f"cannot deprecate {address}")
                return


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset : offset + length]
        offset += max(_HEADER.size, length + 3 & ~3)


def _address(data: bytes, index: int) -> Address6 | None:
    message: Any = _new_message(data)
    message.decode()
    if message["index"] != index or message["scope"] != _SCOPE_GLOBAL:
        return None
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    lifetimes = message.get_attr("IFA_CACHEINFO")
    return Address6(
        message.get_attr("IFA_ADDRESS"),
        message["prefixlen"],
        bool(flags & _TEMPORARY),
        bool(flags & _DEPRECATED),
        bool(flags & _TENTATIVE and not flags & _OPTIMISTIC),
        _seconds(lifetimes["ifa_preferred"]),
        _seconds(lifetimes["ifa_valid"]),
    )


def _seconds(value: int) -> float:
    return float("inf") if value == _FOREVER else float(value)


def _new_message(data: bytes | None = None) -> Any:
    """pyroute2 has no types."""
    kind: Any = ifaddrmsg
    return kind(data)
