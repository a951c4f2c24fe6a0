"""Questions to the kernel over a raw NETLINK_ROUTE socket, and its answers as plain data.

The sockets come from outside, so that they may belong to another network namespace than this process.
Messages are decoded with pyroute2's message classes; its own sockets are not used, because they open in the
calling thread's namespace. Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h,
linux/neighbour.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from iroh_py.network import Family, InterfaceAddress, Route

SocketOpener = Callable[[int, int, int], socket.socket]
Decoded = TypeVar("Decoded")

AF_NETLINK, NETLINK_ROUTE = 16, 0
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST_DUMP = 0x301
NLM_F_DUMP_INTR = 0x10
HEADER = struct.Struct("=IHHII")

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34

IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP, IFF_DORMANT = 0x1, 0x8, 0x40, 0x10000, 0x20000
IFA_F_TEMPORARY, IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = (
    0x1,
    0x4,
    0x8,
    0x20,
    0x40,
)
RTNH_F_DEAD, RTNH_F_LINKDOWN = 0x1, 0x10
RTN_UNICAST = 1
TABLE_LOCAL = 255
#: reachable, stale, delay, probe, permanent: the states in which the kernel uses the MAC.
NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x80

#: A link dump without counters (IFLA_EXT_MASK = RTEXT_FILTER_SKIP_STATS): they differ each time and would
#: hide that nothing else did.
LINK_REQUEST = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HHI", 8, 29, 8)
ADDRESS_REQUEST, ROUTE_REQUEST, RULE_REQUEST, NEIGHBOUR_REQUEST = bytes(8), bytes(12), bytes(12), bytes(12)

#: The kernel fills at most 32 KiB per read of a dump.
READ_SIZE = 65536
#: Seconds: the kernel answers at once, so no answer means a broken socket.
ANSWER_TIMEOUT = 1.0
#: A dump that the kernel calls inconsistent is repeated so often; after that, what it has is taken.
DUMP_ATTEMPTS = 3
#: Routes kept at most: a host has dozens; on a router with a full table only the default routes are kept
#: beyond.
MAX_ROUTES = 1024


@dataclass(frozen=True, slots=True)
class Link:
    """What one link message says; ``carrier_ups`` is how often its carrier came, 0 if not counted."""

    index: int
    name: str
    mac: str
    flags: int
    carrier_ups: int

    @property
    def up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Split what was read into (type, flags, message with its header); a cut message ends it."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            return
        yield kind, flags, data[offset : offset + length]
        offset += (length + 3) & ~3


def link_flags(message: bytes) -> tuple[int, int]:
    """Index and flags of a link message, without the cost of decoding it."""
    index, flags = struct.unpack_from("=iI", message, HEADER.size + 4)
    return index, flags


def route_table(message: bytes) -> int:
    """The table byte of a route message."""
    return message[HEADER.size + 4]


class KernelQuery:
    """Asks the kernel for whole tables, and remembers decoded messages: what did not change costs nothing."""

    def __init__(self, opener: SocketOpener) -> None:
        self._socket = opener(AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._memory: dict[int, dict[bytes, Any]] = {}
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(ANSWER_TIMEOUT)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> list[Link]:
        """All links. Raises OSError, as do the others."""
        return self._table(RTM_GETLINK, self.dump(RTM_GETLINK, LINK_REQUEST), _link)

    def carriers(self) -> list[tuple[int, int]]:
        """Index and flags of all links, at a fraction of the cost of :meth:`links`."""
        return [link_flags(message) for message in self.dump(RTM_GETLINK, LINK_REQUEST)]

    def addresses(self) -> list[tuple[int, InterfaceAddress]]:
        """All addresses, each with the index of its interface."""
        return self._table(RTM_GETADDR, self.dump(RTM_GETADDR, ADDRESS_REQUEST), _address)

    def routes(self) -> list[Route]:
        """All unicast routes but those of the local table and link-local ones, one for each next hop."""
        wanted = _unicast(self.dump(RTM_GETROUTE, ROUTE_REQUEST))
        return [route for hops in self._table(RTM_GETROUTE, wanted, _routes) for route in hops]

    def rules(self) -> list[str]:
        """All policy routing rules as texts."""
        return self._table(RTM_GETRULE, self.dump(RTM_GETRULE, RULE_REQUEST), _rule)

    def neighbours(self, wanted: Iterable[tuple[int, str]]) -> dict[tuple[int, str], str]:
        """MAC addresses of those of the (interface, address) pairs that the kernel has."""
        pairs = set(wanted)
        if not pairs:
            return {}
        packed = {packed_ip(ip) for _, ip in pairs}
        found: dict[tuple[int, str], str] = {}
        for message in self.dump(RTM_GETNEIGH, NEIGHBOUR_REQUEST):
            if any(ip in message for ip in packed):
                entry = neighbour(message)
                if entry is not None and entry[0] in pairs:
                    found[entry[0]] = entry[1]
        return found

    def dump(self, kind: int, request: bytes) -> list[bytes]:
        """All messages that answer a dump request. Raises OSError."""
        for _ in range(DUMP_ATTEMPTS):
            found, consistent = self._dump_once(kind, request)
            if consistent:
                break
        return found

    def _dump_once(self, kind: int, request: bytes) -> tuple[list[bytes], bool]:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        header = HEADER.pack(HEADER.size + len(request), kind, NLM_F_REQUEST_DUMP, self._sequence, 0)
        self._socket.send(header + request)
        found: list[bytes] = []
        consistent = True
        while True:
            for answer, flags, message in messages(self._socket.recv(READ_SIZE)):
                if HEADER.unpack_from(message)[3] != self._sequence:
                    continue  # The rest of a dump that timed out before.
                consistent = consistent and not flags & NLM_F_DUMP_INTR
                if answer == NLMSG_DONE:
                    return found, consistent
                if answer == NLMSG_ERROR:
                    _raise(message)
                found.append(message)

    def _table(
        self, kind: int, found: Iterable[bytes], decode: Callable[[bytes], Decoded | None]
    ) -> list[Decoded]:
        before: dict[bytes, Decoded | None] = self._memory.get(kind, {})
        after: dict[bytes, Decoded | None] = {}
        for message in found:
            # Without the header: its sequence number differs in each dump.
            body = message[HEADER.size :]
            after[body] = before[body] if body in before else decode(message)
        self._memory[kind] = after
        return [value for value in after.values() if value is not None]


def packed_ip(ip: str) -> bytes:
    """The bytes of an address, as they stand in a message."""
    return socket.inet_pton(Family.of(ip), ip)


def neighbour(message: bytes) -> tuple[tuple[int, str], str] | None:
    """((interface, address), MAC) of a neighbour message, None if it tells no usable MAC."""
    decoded = _decode(ndmsg, message)
    ip, mac = decoded.get("NDA_DST"), decoded.get("NDA_LLADDR")
    if not ip or not mac or not decoded["state"] & NUD_VALID:
        return None
    return (decoded["ifindex"], ip), mac


def _decode(kind: type[nlmsg], message: bytes) -> Any:
    decoded: Any = kind(message)
    decoded.decode()
    return decoded


def _link(message: bytes) -> Link:
    decoded = _decode(ifinfmsg, message)
    return Link(
        index=decoded["index"],
        name=decoded.get("IFLA_IFNAME") or str(decoded["index"]),
        mac=decoded.get("IFLA_ADDRESS") or "",
        flags=decoded["flags"],
        carrier_ups=decoded.get("IFLA_CARRIER_UP_COUNT") or 0,
    )


def _address(message: bytes) -> tuple[int, InterfaceAddress] | None:
    decoded = _decode(ifaddrmsg, message)
    # On a point-to-point link IFA_ADDRESS is the other end's.
    ip = decoded.get("IFA_LOCAL") or decoded.get("IFA_ADDRESS")
    if not ip or decoded["family"] not in (Family.V4, Family.V6):
        return None
    flags = decoded.get("IFA_FLAGS") or decoded["flags"]
    unready = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    return decoded["index"], InterfaceAddress(
        ip=ip,
        prefixlen=decoded["prefixlen"],
        deprecated=bool(flags & IFA_F_DEPRECATED),
        tentative=bool(unready or flags & IFA_F_DADFAILED),
        # The same bit means "secondary" for IPv4.
        temporary=decoded["family"] == Family.V6 and bool(flags & IFA_F_TEMPORARY),
    )


def _unicast(found: Iterable[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for message in found:
        family, prefixlen, _, _, table, _, _, kind = struct.unpack_from("=8B", message, HEADER.size)
        wanted = kind == RTN_UNICAST and table != TABLE_LOCAL and family in (Family.V4, Family.V6)
        if wanted and (prefixlen == 0 or len(kept) < MAX_ROUTES):
            kept.append(message)
    return kept


def _routes(message: bytes) -> tuple[Route, ...]:
    decoded = _decode(rtmsg, message)
    family = Family(decoded["family"])
    destination = decoded.get("RTA_DST") or ("::" if family is Family.V6 else "0.0.0.0")
    if family is Family.V6 and packed_ip(destination)[:2] in (b"\xfe\x80", b"\xff\x00"):
        return ()
    hops = decoded.get("RTA_MULTIPATH") or [decoded]
    return tuple(
        Route(
            family=family,
            destination=f"{destination}/{decoded['dst_len']}",
            interface=hop["oif"] if hop is not decoded else decoded.get("RTA_OIF") or 0,
            gateway=_gateway(hop),
            metric=decoded.get("RTA_PRIORITY") or 0,
            table=decoded.get("RTA_TABLE") or decoded["table"],
            source=decoded.get("RTA_PREFSRC") or "",
            linkdown=bool(hop["flags"] & RTNH_F_LINKDOWN),
            dead=bool(hop["flags"] & RTNH_F_DEAD),
        )
        for hop in hops
    )


def _gateway(hop: Any) -> str:
    gateway = hop.get("RTA_GATEWAY")
    if not gateway:
        # RTA_VIA: an IPv4 route by an IPv6 gateway (RFC 5549).
        via = hop.get("RTA_VIA")
        gateway = via.get("addr") if via else ""
    return str(gateway or "")


def _rule(message: bytes) -> str | None:
    decoded = _decode(fibmsg, message)
    if decoded["family"] not in (Family.V4, Family.V6):
        return None
    header = f"family {decoded['family']} action {decoded['action']} flags {decoded['flags']}"
    prefixes = f"src_len {decoded['src_len']} dst_len {decoded['dst_len']} tos {decoded['tos']}"
    attributes = (f"{name.removeprefix('FRA_').lower()} {value}" for name, value in decoded["attrs"])
    return " ".join((header, prefixes, *sorted(attributes)))


def _raise(message: bytes) -> None:
    code = -struct.unpack_from("=i", message, HEADER.size)[0] or errno.EPROTO
    raise OSError(code, f"rtnetlink: {os.strerror(code)}")
