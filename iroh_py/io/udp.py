"""A UDP socket for an endpoint: batches in both directions, any interface by one port, deaf to ICMP errors.

Source: udp(7), ip(7), ipv6(7), PROTOCOL.md 3.13; UDP_SEGMENT and UDP_GRO: linux/udp.h.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iroh_py.network import Addr, Family, MarkedReceiver, Receiver

SocketOpener = Callable[[int, int, int], socket.socket]

#: Bytes requested for each of the kernel's buffers, as upstream does: some 50 ms at 1 Gbit/s.
BUFFER_SIZE = 7 << 20
#: Datagrams handed over per wake-up, about: more would keep timers and other sockets waiting.
MAX_BATCH = 256
#: Reads per wake-up at most; one read can hold 64 datagrams.
MAX_READS = 64
#: A coalesced read holds at most this many bytes; without coalescing a jumbo frame is the largest.
GRO_READ_SIZE, PLAIN_READ_SIZE = 65535, 9216
#: The kernel's UDP_MAX_SEGMENTS, and the largest UDP payload below an IPv6 header.
MAX_SEGMENTS, MAX_SEGMENTED = 64, 65535 - 40 - 8
#: Read errors in a row after which reading rests for this many seconds: a broken socket must not spin the
#: loop.
MAX_READ_ERRORS, READ_REST = 16, 0.1
#: What the kernel says when it cannot segment at all (no checksum offload), or not these: above the MTU.
CANNOT_SEGMENT = (errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP)
WILL_NOT_SEGMENT = (errno.EINVAL, errno.EMSGSIZE)

# Numbers that the socket module of Python 3.11 lacks (linux/in.h, linux/in6.h, linux/udp.h,
# asm-generic/socket.h).
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, PMTUDISC_PROBE = 8, 10, 11, 3
IPV6_MTU_DISCOVER, IPV6_RECVERR, IPV6_DONTFRAG = 23, 25, 62
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104

IP_RECVTOS, IPV6_RECVTCLASS = 13, 66
#: The two low bits of the former TOS byte are the ECN field (RFC 3168 section 5).
ECN_MASK = 0b11

GSO_SIZE = struct.Struct("=H")
GRO_SIZE = struct.Struct("=i")
TRAFFIC_CLASS = struct.Struct("=i")
PKTINFO4 = struct.Struct("=I4s4s")
PKTINFO6 = struct.Struct("=16sI")
ANCILLARY_SIZE = sum(socket.CMSG_SPACE(each.size) for each in (PKTINFO6, GRO_SIZE, TRAFFIC_CLASS))


#: What puts a codepoint into the headers of one send.
_MARKS = {
    family: [(level, kind, TRAFFIC_CLASS.pack(ecn)) for ecn in range(4)]
    for family, level, kind in (
        (Family.V4, socket.IPPROTO_IP, socket.IP_TOS),
        (Family.V6, socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    )
}


@dataclass(slots=True)
class UdpCounters:
    """What a socket did so far. ``reads`` and ``writes`` are system calls, the rest datagrams or events."""

    received: int = 0
    reads: int = 0
    sent: int = 0
    writes: int = 0
    unsent: int = 0
    read_errors: int = 0
    refusals: int = 0


class AsyncUdpSocket:
    """A bound UDP socket of one family; implements ``UdpSocket``.

    ``receiver`` gets all datagrams of a wake-up in one call, from the running event loop. Datagrams are never
    fragmented, whatever path MTU the kernel has cached. Read errors are counted in ``counters`` and
    swallowed. Raises OSError if the address cannot be bound.
    """

    def __init__(self, opener: SocketOpener, family: Family, ip: str, port: int, receiver: Receiver) -> None:
        self._family = Family(family)
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._rest: asyncio.TimerHandle | None = None
        self._errors_in_a_row = 0
        self.on_marked: MarkedReceiver | None = None
        self.counters = UdpCounters()
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = opener(self._family, kind, socket.IPPROTO_UDP)
        try:
            self._socket.setblocking(False)
            _configure(self._socket, self._family)
            self._coalesces = _coalesce(self._socket, self._family)
            self._segments = _can_segment(self._socket)
            self._socket.bind((ip, port))
            self._local: Addr = self._socket.getsockname()[:2]
        except BaseException:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()
        self._on_readable = self._read_coalesced if self._coalesces else self._read_plain
        self._loop.add_reader(self._fd, self._on_readable)

    @property
    def family(self) -> Family:
        """The address family."""
        return self._family

    @property
    def local_addr(self) -> Addr:
        """The bound address and actual port."""
        return self._local

    @property
    def segments(self) -> bool:
        """Whether runs of datagrams go out in one system call."""
        return self._segments

    @property
    def coalesces(self) -> bool:
        """Whether the kernel hands over several datagrams at once, and the arrival interface is known."""
        return self._coalesces

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._fd < 0

    def send(self, payloads: Sequence[bytes], addr: Addr, via: int = 0, ecn: int = 0) -> int:
        """Send datagrams to one address; return how many the system took (a full buffer stops early).

        ``via`` is the index of the interface to leave by, with that interface's source address if the socket
        is bound to the unspecified one; 0 lets routing decide. ``ecn`` goes into their IP headers. Runs of equal
        length (the last may be shorter) go out in one system call. Raises OSError if already the first datagram is
        refused (EMSGSIZE: larger than the link's MTU); a later refusal returns the count before it.
        """
        taken, total = 0, len(payloads)
        control = [_leave_by(self._family, via)] if via else []
        if ecn:
            control.append(_MARKS[self._family][ecn])
        segments = self._segments
        retried = False
        while taken < total:
            run = equal_run(payloads, taken) if segments and total - taken > 1 else 1
            try:
                self.counters.writes += 1
                if run > 1:
                    size = (SOL_UDP, UDP_SEGMENT, GSO_SIZE.pack(len(payloads[taken])))
                    self._socket.sendmsg(payloads[taken : taken + run], [*control, size], 0, addr)
                elif control:
                    self._socket.sendmsg((payloads[taken],), control, 0, addr)
                else:
                    self._socket.sendto(payloads[taken], addr)
            except BlockingIOError:
                break
            except OSError as error:
                if run > 1 and error.errno in CANNOT_SEGMENT + WILL_NOT_SEGMENT:
                    self.counters.refusals += 1
                    # The latter may be about this destination only: one by one now, in runs again next time.
                    segments = False
                    self._segments = self._segments and error.errno in WILL_NOT_SEGMENT
                    continue
                if error.errno == errno.ECONNREFUSED and not retried:
                    # An ICMP error about an earlier datagram; this one was not sent yet.
                    retried = True
                    continue
                if error.errno == errno.ENOBUFS:
                    break
                if taken == 0:
                    self.counters.unsent += total
                    raise
                break
            taken += run
        self.counters.sent += taken
        self.counters.unsent += total - taken
        return taken

    def close(self) -> None:
        """Close it; no receiver call after this returns. Closing twice does nothing."""
        if self._fd < 0:
            return
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        self._loop.remove_reader(self._fd)
        self._fd = -1
        self._socket.close()

    def _read_coalesced(self) -> None:
        """Read with ancillary data: the arrival interface, and the segment size of coalesced reads."""
        batch: list[tuple[bytes, Addr, int]] = []
        recvmsg = self._socket.recvmsg
        reads = marks = 0
        while reads < MAX_READS and len(batch) < MAX_BATCH:
            try:
                data, control, _, source = recvmsg(GRO_READ_SIZE, ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if self._read_failed(error):
                    break
                continue
            reads += 1
            length = segment = len(data)
            index = ecn = 0
            for level, kind, value in control:
                if level == SOL_UDP:
                    segment = GRO_SIZE.unpack_from(value)[0]
                elif kind == socket.IPV6_PKTINFO and level == socket.IPPROTO_IPV6:
                    index = PKTINFO6.unpack_from(value)[1]
                elif kind == IP_PKTINFO and level == socket.IPPROTO_IP:
                    index = PKTINFO4.unpack_from(value)[0]
                else:
                    # A byte of IPv4, and the low byte of an int in IPv6, whose other bytes are 0 (the order of bytes
                    # is that of the machine).
                    ecn = (value[0] | value[-1]) & ECN_MASK
            if ecn != marks and self.on_marked is not None:
                # What was read so far came with other marks.
                self._deliver(batch, 0, marks)
                batch, marks = [], ecn
                if self._fd < 0:
                    return  # its owner closed it, and wants nothing more
            addr = source[:2]
            if segment >= length or segment <= 0:
                batch.append((data, addr, index))
            else:
                for start in range(0, length, segment):
                    batch.append((data[start : start + segment], addr, index))
        self._deliver(batch, reads, marks)

    def _read_plain(self) -> None:
        """Read without ancillary data, which makes each read a good deal cheaper."""
        batch: list[tuple[bytes, Addr, int]] = []
        recvfrom = self._socket.recvfrom
        while len(batch) < MAX_READS:
            try:
                data, source = recvfrom(PLAIN_READ_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if self._read_failed(error):
                    break
                continue
            batch.append((data, source[:2], 0))
        self._deliver(batch, len(batch))

    def _deliver(self, batch: list[tuple[bytes, Addr, int]], reads: int, ecn: int = 0) -> None:
        self.counters.reads += reads
        if not batch:
            return
        self._errors_in_a_row = 0
        self.counters.received += len(batch)
        if ecn and self.on_marked is not None:
            self.on_marked(batch, ecn)
        else:
            self._receiver(batch)

    def _read_failed(self, error: OSError) -> bool:
        """Count it; whether to stop reading for now."""
        self.counters.read_errors += 1
        self._errors_in_a_row += 1
        if error.errno == errno.EBADF or self._errors_in_a_row >= MAX_READ_ERRORS:
            self._loop.remove_reader(self._fd)
            self._rest = self._loop.call_later(READ_REST, self._read_again)
            return True
        return False

    def _read_again(self) -> None:
        self._rest = None
        try:
            self._loop.add_reader(self._fd, self._on_readable)
        except OSError:
            # The descriptor is gone; every send says so, and the owner opens another socket.
            self.counters.read_errors += 1


def _leave_by(family: Family, index: int) -> tuple[int, int, bytes]:
    if family is Family.V6:
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PKTINFO6.pack(bytes(16), index)
    return socket.IPPROTO_IP, IP_PKTINFO, PKTINFO4.pack(index, bytes(4), bytes(4))


def equal_run(payloads: Sequence[bytes], start: int) -> int:
    """How many datagrams from ``start`` on one segmented send can hold."""
    size = total = len(payloads[start])
    end = start + 1
    limit = min(len(payloads), start + MAX_SEGMENTS)
    while end < limit:
        length = len(payloads[end])
        total += length
        if not 0 < length <= size or total > MAX_SEGMENTED:
            break
        end += 1
        if length < size:
            break
    return end - start


def _configure(sock: socket.socket, family: Family) -> None:
    for forced, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_SIZE)
        except PermissionError:
            # Beyond the system's limit only with CAP_NET_ADMIN; as much as it allows, then.
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_SIZE)
    # PROBE sets DF and ignores the cached path MTU: a stale or forged one cannot wedge us, QUIC finds its
    # own.
    if family is Family.V6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 0)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)


def _coalesce(sock: socket.socket, family: Family) -> bool:
    """Ask for coalesced reads (Linux 5.0), and then also for arrival interface and ECN field: cheap then."""
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    if family is Family.V6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
    return True


def _can_segment(sock: socket.socket) -> bool:
    """Whether the kernel knows segmented sends (Linux 4.18)."""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
