"""A UDP socket for link-local multicast: every interface by one socket, as multicast DNS needs (RFC 6762).

Source: ip(7), ipv6(7); several programs of one machine share the port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct

from iroh_py.io.udp import IP_PKTINFO, PKTINFO4, PKTINFO6, SocketOpener
from iroh_py.network import Family, Receiver

#: Bytes read per datagram: one Ethernet frame, and what a jumbo frame carries.
_READ_SIZE = 9216
#: Datagrams per wake-up; port 5353 is shared with talkative neighbours.
_MAX_READS = 64
_ANCILLARY_SIZE = socket.CMSG_SPACE(PKTINFO6.size)
#: linux/in.h, linux/in6.h: whether groups that other sockets joined are received, too.
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29
#: PROTOCOL 9.6. IPv6 keeps its default of 1: the group is link-local.
_TTL = 16
_MREQN = struct.Struct("=4s4si")
_MREQ6 = struct.Struct("=16sI")


class MulticastSocket:
    """A socket bound to a group's port on all addresses. It receives what comes by interfaces it joined on.

    ``receiver`` is called from the running event loop. Raises OSError if the port cannot be had.
    """

    def __init__(
        self, opener: SocketOpener, family: Family, group: str, port: int, receiver: Receiver
    ) -> None:
        self.family = Family(family)
        self.read_errors = 0
        self._group = ipaddress.ip_address(group).packed
        self._to = (group, port)
        self._receiver = receiver
        self._joined: set[int] = set()
        self._loop = asyncio.get_running_loop()
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = opener(self.family, kind, socket.IPPROTO_UDP)
        try:
            self._socket.setblocking(False)
            _configure(self._socket, self.family)
            self._socket.bind(("" if self.family is Family.V4 else "::", port))
        except BaseException:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    @property
    def joined(self) -> frozenset[int]:
        """The indexes of the interfaces on which the group is joined."""
        return frozenset(self._joined)

    def join(self, index: int) -> bool:
        """Join the group on an interface; whether that is the case now."""
        if index in self._joined:
            return True
        try:
            self._membership(index, join=True)
        except OSError:
            return False  # it has no address of this family yet, or is gone: tried again at the next change
        self._joined.add(index)
        return True

    def leave(self, index: int) -> None:
        """Leave the group on an interface."""
        if index in self._joined:
            self._joined.discard(index)
            try:
                self._membership(index, join=False)
            except OSError:
                pass  # the interface, and the membership with it, is gone already

    def send(self, payload: bytes, index: int) -> bool:
        """Send a datagram to the group by an interface; whether the system took it."""
        if self.family is Family.V4:
            ancillary = (socket.IPPROTO_IP, IP_PKTINFO, PKTINFO4.pack(index, bytes(4), bytes(4)))
        else:
            ancillary = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PKTINFO6.pack(bytes(16), index))
        try:
            self._socket.sendmsg([payload], [ancillary], 0, self._to)
        except OSError:
            return False  # no address, no route, no buffer: multicast promises nothing, the next round comes
        return True

    def close(self) -> None:
        """Close it, and leave everywhere."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._joined.clear()

    def _membership(self, index: int, *, join: bool) -> None:
        if self.family is Family.V4:
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
            self._socket.setsockopt(socket.IPPROTO_IP, option, _MREQN.pack(self._group, bytes(4), index))
        else:
            option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
            self._socket.setsockopt(socket.IPPROTO_IPV6, option, _MREQ6.pack(self._group, index))

    def _read(self) -> None:
        batch = []
        for _ in range(_MAX_READS):
            try:
                data, ancillary, _flags, source = self._socket.recvmsg(_READ_SIZE, _ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError:
                self.read_errors += 1
                break
            batch.append((data, (source[0].partition("%")[0], source[1]), _arrival(ancillary)))
        if batch:
            self._receiver(batch)


def _arrival(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The index of the interface on which a datagram arrived; 0 if the system did not tell."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(data) >= PKTINFO4.size:
            return int(PKTINFO4.unpack_from(data)[0])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= PKTINFO6.size:
            return int(PKTINFO6.unpack_from(data)[1])
    return 0


def _configure(sock: socket.socket, family: Family) -> None:
    # Everybody on port 5353 sets this, most SO_REUSEPORT as well, which we leave out: of a group of sockets
    # with it of which only one has joined, Linux (6.18) gives each datagram to any one, joined or not.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family is Family.V6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
