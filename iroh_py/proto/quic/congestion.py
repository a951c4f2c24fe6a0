"""Cubic (RFC 9438) as aioquic has it, with two of its habits changed.

It grows the window of a connection that does not use it, so that a chat of 20 ms messages ends up with a
window of gigabytes and floods its path when a transfer begins (RFC 9002 section 7.8 forbids it). And it
takes 70 % of what is left in flight after a loss instead of 70 % of the window, which with acknowledgements
that cover many packets is often next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aioquic.quic.congestion.base import K_MINIMUM_WINDOW
from aioquic.quic.congestion.cubic import K_CUBIC_LOSS_REDUCTION_FACTOR, CubicCongestionControl
from aioquic.quic.packet_builder import QuicSentPacket


class NodeCubic(CubicCongestionControl):
    """Cubic that grows only a window in use, and shrinks it by its own size."""

    def __init__(self, *, max_datagram_size: int, in_flight: int = 0) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.bytes_in_flight = in_flight
        self._used_at = float("-inf")

    def set_mtu(self, size: int) -> None:
        """Count in packets of ``size`` bytes from now on; the window stays what it is in bytes."""
        self._max_datagram_size = self.additive_increase_factor = size

    def packets_sent(self, packets: list[QuicSentPacket], size: int, now: float) -> None:
        """``on_packet_sent`` for packets sent together, ``size`` bytes in all."""
        self.on_packet_sent(packet=packets[0])
        self.bytes_in_flight += size - packets[0].sent_bytes
        if 2 * self.bytes_in_flight >= self.congestion_window:
            self._used_at = now

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        if packet.sent_time is not None and packet.sent_time <= self._used_at:
            super().on_packet_acked(now=now, packet=packet)
        else:
            self.bytes_in_flight -= packet.sent_bytes
            self.last_ack = packet.sent_time or now

    def packets_acked(self, packets: Sequence[QuicSentPacket], now: float) -> None:
        """``on_packet_acked`` for packets acknowledged together; the first that counts settles the phase for all."""
        used_at = self._used_at
        used = [packet for packet in packets if packet.sent_time is not None and packet.sent_time <= used_at]
        first = used[0] if used else packets[0]
        self.on_packet_acked(now=now, packet=first)
        self.bytes_in_flight -= sum([packet.sent_bytes for packet in packets]) - first.sent_bytes
        self.last_ack = packets[-1].sent_time or now
        size = sum([packet.sent_bytes for packet in used[1:]])
        if not size:
            return
        window = self.congestion_window
        if self.ssthresh is None or window < self.ssthresh:
            self.congestion_window = window + size
            return
        # RFC 9438 sections 4.3 to 4.5, the sum over the segments of one acknowledgement.
        since = now - self._t_epoch
        self._W_est += int(self.additive_increase_factor * size / window)
        target = min(max(self.W_cubic(since + self.rtt), window), window * 3 // 2)
        if self.is_reno_friendly(since):
            self.congestion_window = max(window, self._W_est)
        else:
            self.congestion_window = window + int((target - window) * min(1.0, size / window))

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        window, before = self.congestion_window, self._congestion_recovery_start_time
        super().on_packets_lost(now=now, packets=packets)
        if self._congestion_recovery_start_time != before:
            least = K_MINIMUM_WINDOW * self._max_datagram_size
            self.congestion_window = max(int(window * K_CUBIC_LOSS_REDUCTION_FACTOR), least)
            self.ssthresh = self.congestion_window
