"""How a UDP datagram travels: hop by hop, each NAT deciding at the moment that the datagram is there.

Stations: the sender's link up, at most one NAT after the other upwards, then down through NATs to the link of
the receiver. Between stations it is an event in the schedule, so the order of two packets at a NAT is their
real order, which simultaneous open depends on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iroh_py.network import Addr
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.segment import Segment

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost
    from iroh_py.testing.link import Lane
    from iroh_py.testing.nat import SimNat
    from iroh_py.testing.net import SimNet

#: Datagrams under way in the whole network; more is a flood that the test should see as loss.
_IN_FLIGHT = 200_000

#: The index of the loopback interface.
_LOOPBACK = 1


class Datagram:
    """A datagram under way: ``src`` and ``dst`` as they are now, ``sent`` as the sender wrote them."""

    __slots__ = ("dst", "ecn", "host", "payload", "sent", "size", "src")

    def __init__(self, host: SimHost | None, src: Addr, dst: Addr, payload: bytes, ecn: int = 0) -> None:
        self.ecn = ecn
        self.host = host
        self.src = src
        self.dst = dst
        self.sent = (src, dst)
        self.payload = payload
        self.size = len(payload) + (48 if ":" in dst[0] else 28)


class Forwarder:
    """Moves the datagrams of one network."""

    def __init__(self, net: SimNet) -> None:
        self._net = net

    def send(
        self,
        host: SimHost,
        interface: SimInterface | None,
        src: Addr,
        dst: Addr,
        payload: bytes,
        ecn: int = 0,
    ) -> None:
        """Send from a host; without an interface, to itself."""
        net = self._net
        now = net.loop.time()
        datagram = Datagram(host, src, dst, payload, ecn)
        for tap in net.taps:
            tap(host, src, dst, payload)
        if interface is None:
            net.schedule.call_at(now, self._loop_back, datagram)
        elif host.deaf:
            self._end(datagram, "frozen" if host.frozen else "blackholed")
        elif not interface.passes:
            self._end(datagram, "no-carrier")
        elif len(net.schedule) >= _IN_FLIGHT:
            self._end(datagram, "too-many-in-flight")
        else:
            arrival = _carry(interface.link.up, now, datagram)
            self._enter(interface.segment, datagram, arrival)

    def inject(self, segment: Segment, src: Addr, dst: Addr, payload: bytes) -> None:
        """Put a datagram with any source address into a segment, as a stranger there could."""
        self._enter(segment, Datagram(None, src, dst, payload), self._net.loop.time())

    def _enter(self, segment: Segment | None, datagram: Datagram, at: float | str) -> None:
        if isinstance(at, str) or segment is None:
            self._end(datagram, at if isinstance(at, str) else "unplugged")
            return
        schedule = self._net.schedule
        node = segment.find(datagram.dst[0])
        if node is None:
            if segment.owner is None:
                self._end(datagram, "no-host")
            else:
                schedule.call_at(at, self._out_of, segment.owner, datagram)
            return
        arrival = _carry(node.link.down, at, datagram)
        if isinstance(arrival, str):
            self._end(datagram, arrival)
        elif isinstance(node, SimInterface):
            schedule.call_at(arrival, self._arrive, node, segment, datagram)
        else:
            schedule.call_at(arrival, self._into, node, datagram)

    def _out_of(self, nat: SimNat, datagram: Datagram) -> None:
        now = self._net.loop.time()
        to_itself = datagram.dst[0] == nat.outside_ip
        if to_itself and not nat.config.hairpin:
            self._end(datagram, "no-hairpin")
            return
        datagram.src = nat.outbound(now, datagram.src, datagram.dst)
        if to_itself:
            self._into(nat, datagram)
        else:
            self._enter(nat.upstream, datagram, _carry(nat.link.up, now, datagram))

    def _into(self, nat: SimNat, datagram: Datagram) -> None:
        now = self._net.loop.time()
        inner = nat.inbound(now, datagram.src, datagram.dst)
        if isinstance(inner, str):
            self._end(datagram, inner)
            return
        datagram.dst = inner
        # Inside, only who is really there counts: an address that moved away must not lead outside again.
        self._enter(nat.inside if nat.inside.find(inner[0]) else None, datagram, now)

    def _arrive(self, interface: SimInterface, segment: Segment, datagram: Datagram) -> None:
        host = interface.host
        if interface.segment is not segment or datagram.dst[0] not in interface.ips:
            self._end(datagram, "moved-away")
        elif not interface.passes:
            self._end(datagram, "no-carrier")
        elif host.deaf:
            self._end(datagram, "frozen" if host.frozen else "blackholed")
        elif datagram.host is not None and self._net.partitioned(datagram.host, host):
            self._end(datagram, "partitioned")
        else:
            self._hand_over(host, interface.index, datagram)

    def _loop_back(self, datagram: Datagram) -> None:
        assert datagram.host is not None, "only a host sends to itself"
        self._hand_over(datagram.host, _LOOPBACK, datagram)

    def _hand_over(self, host: SimHost, index: int, datagram: Datagram) -> None:
        sock = host.socket_at(datagram.dst)
        if sock is None:
            self._end(datagram, "closed-port")
        elif sock.deliver(datagram.payload, datagram.src, index, datagram.ecn):
            self._end(datagram, "delivered")
        else:
            self._end(datagram, "receive-buffer-full")

    def _end(self, datagram: Datagram, fate: str) -> None:
        name = "" if datagram.host is None else datagram.host.name
        src, dst = datagram.sent
        self._net.record("udp", name, src, dst, len(datagram.payload), fate)


def _carry(lane: Lane, now: float, datagram: Datagram) -> float | str:
    """When the datagram arrives, with the ECN field that the lane leaves it, or in a word why it does not."""
    arrival = lane.carry(now, datagram.size)
    if datagram.ecn and not isinstance(arrival, str):
        datagram.ecn = lane.mark(datagram.ecn)
    return arrival
