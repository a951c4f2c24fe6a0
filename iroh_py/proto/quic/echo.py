"""A connection that reports the marks of what it received, and heeds reports about what it sent (RFC 9000 13.4)."""

from __future__ import annotations

from collections.abc import Hashable

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.connection import ACK_FRAME_CAPACITY, QuicReceiveContext
from aioquic.quic.packet import QuicFrameType, pull_ack_frame, push_ack_frame
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace

from iroh_py.proto.quic.ecn import CE, Arriving, CountedRanges, EcnCounts, EcnTrust
from iroh_py.proto.quic.writer import PacketWriter

#: Three variable-length integers of the largest size.
COUNTS_CAPACITY = 3 * 8


class EcnEcho(PacketWriter):
    """Counts marks, tells them, and decides whether to mark."""

    arriving: Arriving
    trust: EcnTrust

    def count_marks(self) -> None:
        """Begin to count, in each packet number space."""
        for space in self._spaces.values():
            space.ack_queue = CountedRanges(self.arriving)

    def hurry_ack(self, now: float) -> None:
        """A packet came with CE: its sender should know at once (section 13.2.1)."""
        space = self.app_space
        if self.arriving.codepoint == CE and space.ack_at is not None:
            space.ack_at = min(space.ack_at, now)

    def use_path(self, path: Hashable) -> None:
        """See ``Session.use_path``."""
        self.trust.use_path(path if self._handshake_confirmed else None, self._packet_number)

    def _write_ack_frame(self, builder: QuicPacketBuilder, space: QuicPacketSpace, now: float) -> None:
        queue = space.ack_queue
        counts = queue.counts if isinstance(queue, CountedRanges) else None
        if counts is None:
            super()._write_ack_frame(builder, space, now)
            return
        delay = now - (space.largest_received_time or now)
        buf = builder.start_frame(
            QuicFrameType.ACK_ECN,
            capacity=ACK_FRAME_CAPACITY + COUNTS_CAPACITY,
            handler=self._on_ack_delivery,
            handler_args=(space, space.largest_received_packet),
        )
        encoded = int(delay * 1_000_000) >> self._local_ack_delay_exponent
        ranges = push_ack_frame(buf, queue, encoded, builder.remaining_buffer_space - COUNTS_CAPACITY)
        for count in counts:
            buf.push_uint_var(count)
        space.ack_at = None
        if self._quic_logger is not None and builder.quic_logger_frames is not None:
            told = list(queue)[-ranges:]
            builder.quic_logger_frames.append(self._quic_logger.encode_ack_frame(ranges=told, delay=delay))
        if ranges > 1 and builder.packet_number % 8 == 0:
            # Its acknowledgement lets the ranges be forgotten.
            self._write_ping_frame(builder, comment="ACK-of-ACK trigger")

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        loss, space, trust = self._loss, self.app_space, self.trust
        plain = frame_type == QuicFrameType.ACK and not trust.marking
        if plain or context.epoch is not tls.Epoch.ONE_RTT:
            super()._handle_ack_frame(context, frame_type, buf)
            return
        counts, sent_time = self._look_ahead(frame_type, buf)
        highest, flight = space.largest_acked_packet, loss.flight_since(space, trust.begin)
        loss.watch_losses(trust.begin)
        super()._handle_ack_frame(context, frame_type, buf)
        acked = flight - loss.flight_since(space, trust.begin) - loss.watched_lost
        newest = space.largest_acked_packet > highest
        if trust.handle_ack(counts, acked, newest=newest) and sent_time is not None:
            loss.handle_congestion(context.time, sent_time)

    def _look_ahead(self, frame_type: int, buf: Buffer) -> tuple[EcnCounts | None, float | None]:
        """The counts of an ACK, and when the highest packet that it is about was sent; malformed ones have none."""
        look = Buffer(data=buf.data_slice(buf.tell(), buf.capacity))
        try:
            ranges, _delay = pull_ack_frame(look)
            packet = self.app_space.sent_packets.get(ranges.bounds().stop - 1)
            sent_time = None if packet is None else packet.sent_time
            if frame_type != QuicFrameType.ACK_ECN:
                return None, sent_time
            return EcnCounts(look.pull_uint_var(), look.pull_uint_var(), look.pull_uint_var()), sent_time
        except ValueError:
            return None, None  # aioquic says what is wrong with it, and ends the connection
