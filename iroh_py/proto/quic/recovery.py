"""Loss recovery and pacing as connections that heal need them, on top of aioquic's (RFC 9002).

Two things differ from the book. The probe timeout stops doubling at :data:`MAX_PROBE_INTERVAL`, so that the
back-off never outlives the outage that caused it. And a proven change of the path forgets everything in
flight at once, without blaming congestion.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable

from aioquic.quic.logger import QuicLoggerTrace
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStreamSender

from iroh_py.proto.quic.bulk import BulkPacket
from iroh_py.proto.quic.congestion import NodeCubic

#: A silent outage is noticed this long after it ends at the latest, by either side's probe. Two packets in
#: two seconds cost nothing; the original doubles up to 65536 probe timeouts.
MAX_PROBE_INTERVAL = 2.0
#: A loss time is computed as sent + delay and checked as now - delay: rounding must not make a timer fire
#: for ever without effect, as it does when a virtual clock jumps exactly to it.
ROUNDING = 1e-6
#: Below this round trip time pacing gains nothing (the window is a few packets) and costs a timer per burst.
PACED_RTT = 0.004
#: Send up to this much time's worth at once: event loops wake a millisecond late, and a burst must outlast
#: that.
BURST_TIME = 0.004
#: And never less than this many packets, which is what Linux coalesces anyway.
BURST_PACKETS = 16
#: As many as anyone wants.
UNPACED = 1 << 30
#: Twice the window per round trip in slow start would be RFC 9002's cap; 1.25 is its recommendation (7.7).
PACING_GAIN = 1.25


class MarkedPacket(BulkPacket):
    """Stands for packets that arrived with CE, where the congestion window hears of losses: nothing left the flight."""

    def __init__(self, sent_time: float) -> None:
        self.sent_bytes = 0
        self.sent_time = sent_time


class BurstPacer(QuicPacketPacer):
    """A pacer that lets bursts out: a token bucket in bytes, refilled at 1.25 windows per round trip."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._rate = 0.0
        self._tokens = 0.0
        self._burst = 0.0
        self._at = 0.0

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]
        """None to send at once, or when half a burst will be allowed (so that wake-ups stay rare)."""
        if not self._rate:
            return None
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens > 0:
            return None
        return now + (self._burst / 2 - self._tokens) / self._rate

    def packets_allowed(self, now: float) -> int:
        """How many full packets may be sent at once; the last one may overdraw."""
        if not self._rate:
            return UNPACED
        if self.next_send_time(now) is not None:
            return 0
        return math.ceil(self._tokens / self._max_datagram_size)

    def spend(self, packets: int) -> None:
        """So many packets were sent."""
        self._tokens -= packets * self._max_datagram_size

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        if smoothed_rtt < PACED_RTT:
            self._rate = 0.0
            return
        if not self._rate:
            self._tokens = math.inf
        self._rate = PACING_GAIN * congestion_window / smoothed_rtt
        self._burst = max(BURST_PACKETS * self._max_datagram_size, self._rate * BURST_TIME)
        self._tokens = min(self._tokens, self._burst)


class Recovery(QuicPacketRecovery):
    """aioquic's recovery with a capped back-off, a burst-friendly pacer and a way to start over."""

    def __init__(
        self,
        *,
        initial_rtt: float,
        max_datagram_size: int,
        peer_completed_address_validation: bool,
        send_probe: Callable[[], None],
        logger: logging.LoggerAdapter[logging.Logger],
        quic_logger: QuicLoggerTrace | None,
    ) -> None:
        super().__init__(
            congestion_control_algorithm="cubic",
            initial_rtt=initial_rtt,
            max_datagram_size=max_datagram_size,
            peer_completed_address_validation=peer_completed_address_validation,
            send_probe=send_probe,
            logger=logger,
            quic_logger=quic_logger,
        )
        self._max_datagram_size = max_datagram_size
        self._cc = self.cubic = NodeCubic(max_datagram_size=max_datagram_size)
        self.burst_pacer = self._pacer = BurstPacer(max_datagram_size=max_datagram_size)
        #: Probe timeouts so far; aioquic's own count is capped here, to keep the back-off short.
        self.timeouts = 0
        #: Packets that had to be acknowledged, and were found lost since ``watch_losses``.
        self.watched_lost = 0
        self._watch_from = 0

    @property
    def rtt(self) -> float | None:
        """The smoothed round trip time in seconds, None before the first sample."""
        return self._rtt_smoothed if self._rtt_initialized else None

    @property
    def ack_eliciting_in_flight(self) -> int:
        """How many packets the peer still has to acknowledge."""
        return sum(space.ack_eliciting_in_flight for space in self.spaces)

    def on_loss_detection_timeout(self, *, now: float) -> None:
        before = self._pto_count
        super().on_loss_detection_timeout(now=now + ROUNDING)
        self.timeouts += self._pto_count > before
        period = self.get_probe_timeout(include_max_ack_delay=self.handshake_confirmed)
        while self._pto_count > 0 and period * 2**self._pto_count > MAX_PROBE_INTERVAL:
            self._pto_count -= 1

    def forget_flight(self, now: float) -> None:
        """Everything in flight is lost, not through congestion, and is due for sending again."""
        for space in self.spaces:
            if not space.discarded:
                packets = list(space.sent_packets.values())
                self._on_packets_lost(congestion_event=False, now=now, packets=packets, space=space)
                space.loss_time = None
        self._pto_count = 0

    def start_over(self) -> None:
        """A path of unknown speed: initial window, no round trip time. Bytes still in flight stay counted."""
        self._cc = self.cubic = NodeCubic(
            max_datagram_size=self._max_datagram_size, in_flight=self._cc.bytes_in_flight
        )
        self.burst_pacer = self._pacer = BurstPacer(max_datagram_size=self._max_datagram_size)
        self._rtt_initialized = False
        self._rtt_latest = self._rtt_smoothed = self._rtt_variance = 0.0
        self._rtt_min = math.inf

    def set_mtu(self, size: int) -> None:
        """Count in packets of ``size`` bytes from now on; the window stays what it is in bytes."""
        self._max_datagram_size = size
        self.cubic.set_mtu(size)
        self._pacer._max_datagram_size = size

    def on_ack_received(
        self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        if space.is_application_data and self._quic_logger is None:
            for run in ack_rangeset:
                self._acknowledge_bulk(run, now, space)
        super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)

    def flight_since(self, space: QuicPacketSpace, number: int) -> int:
        """How many packets from this number on must be acknowledged, and are neither that nor lost."""
        older = 0
        for each, packet in space.sent_packets.items():  # in the order of their numbers
            if each >= number:
                break
            older += packet.is_ack_eliciting
        return space.ack_eliciting_in_flight - older

    def watch_losses(self, number: int) -> None:
        """Count losses of packets from this number on, from now on."""
        self._watch_from, self.watched_lost = number, 0

    def handle_congestion(self, now: float, sent_time: float) -> None:
        """The network marked packets, of which the last was sent at that time: the same as a loss (RFC 9002 7.1)."""
        self.cubic.on_packets_lost(now=now, packets=[MarkedPacket(sent_time)])
        self._pacer.update_rate(self._cc.congestion_window, self._rtt_smoothed)

    def _on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[QuicSentPacket],
        persistent_congestion: bool = False,
        space: QuicPacketSpace,
    ) -> None:
        lost = list(packets)
        watched = (packet for packet in lost if packet.packet_number >= self._watch_from)
        self.watched_lost += sum(packet.is_ack_eliciting for packet in watched)
        super()._on_packets_lost(
            congestion_event=congestion_event,
            now=now,
            packets=lost,
            persistent_congestion=persistent_congestion,
            space=space,
        )

    def _acknowledge_bulk(self, run: range, now: float, space: QuicPacketSpace) -> None:
        """Settle the bulk packets of an acknowledged range but the last, which is left to give the round trip time.

        Packets in a row become one delivery to their stream, and one for the congestion window.
        """
        sent = space.sent_packets
        numbers = list(sent)
        last = bisect_left(numbers, run.stop) - 1
        sender: QuicStreamSender | None = None
        begin = end = 0
        settled: list[BulkPacket] = []
        for number in numbers[bisect_left(numbers, run.start) : max(last, 0)]:
            packet = sent[number]
            if type(packet) is not BulkPacket:
                continue
            del sent[number]
            settled.append(packet)
            if packet.start != end or packet.sender is not sender:
                if sender is not None:
                    sender.on_data_delivery(QuicDeliveryState.ACKED, begin, end, False)
                sender, begin = packet.sender, packet.start
            end = packet.stop
        if sender is None:
            return
        sender.on_data_delivery(QuicDeliveryState.ACKED, begin, end, False)
        space.ack_eliciting_in_flight -= len(settled)
        self.cubic.packets_acked(settled, now)

    def on_packets_sent(self, packets: list[QuicSentPacket], space: QuicPacketSpace, now: float) -> bool:
        """``on_packet_sent`` for 1-RTT packets sent together. Whether any of them wants an answer."""
        sent = space.sent_packets
        eliciting, flight, size = 0, [], 0
        for packet in packets:
            packet.sent_time = now
            sent[packet.packet_number] = packet
            eliciting += packet.is_ack_eliciting
            if packet.in_flight:
                flight.append(packet)
                size += packet.sent_bytes
        space.ack_eliciting_in_flight += eliciting
        if eliciting:
            self._time_of_last_sent_ack_eliciting_packet = now
        if flight:
            self.cubic.packets_sent(flight, size, now)
        return eliciting > 0
