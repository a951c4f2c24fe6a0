"""What goes into 1-RTT packets, and in which order.

aioquic visits every open stream for every packet, and stops a whole batch when one frame does not fit a
packet. Here the streams that have something to say are found once per batch, and a full packet just ends. A
batch also has a limit: whoever sends 1000 datagrams in one go overruns the receiver's socket buffer (some 90
full packets with Linux's default) before a single acknowledgement was read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from aioquic import tls
from aioquic.quic.connection import NetworkAddress, QuicNetworkPath, stream_is_client_initiated
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from iroh_py.proto.quic.bulk import write_bulk
from iroh_py.proto.quic.recovery import Recovery
from iroh_py.proto.quic.runs import RunReader

#: Bytes per ``transmit``, as many as one segmented send holds (64 KiB less IPv6 and UDP headers: 45 packets of
#: 1452); the rest is due at once, after the owner had a look at its sockets.
MAX_BATCH = 65535 - 48
#: Packets of one stream in a row when several want to send.
BULK_SHARE = 8
#: Less than this is not worth a frame header: the packet counts as full.
MIN_FRAME_ROOM = 64


class PacketWriter(RunReader):
    """A connection that fills its packets by itself."""

    _loss: Recovery
    #: Streams of the peer that the application has not taken yet, and those of them that are over meanwhile.
    _held_streams: set[int]
    _owed_streams: set[int]

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        crypto = self.one_rtt
        if not crypto.send.is_valid():
            return
        space = self.app_space
        pacer = self._loss.burst_pacer
        active = deque(self._active_streams())
        left = max(1, MAX_BATCH // self._max_datagram_size)
        while left > 0:
            ack = space.ack_at is not None and space.ack_at <= now
            if not ack:
                self._pacing_at = pacer.next_send_time(now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            try:
                if ack:
                    self._write_ack_frame(builder, space, now)
                self._write_control(builder, network_path, space)
                self._write_datagrams(builder)
                self._write_streams(builder, space, active)
            except QuicPacketBuilderStop:
                # Either this packet is full and the next one goes on, or the congestion window is.
                pass
            if builder.packet_is_empty:
                return
            packet = builder._packet
            if packet is not None and packet.in_flight:
                pacer.spend(1)
            left -= 1
            if active and left and not self._datagrams_pending and builder.max_total_bytes is None:
                left -= self._write_bulk(builder, active, now, left)
        self._pacing_at = now

    def _write_bulk(
        self, builder: QuicPacketBuilder, active: deque[QuicStream], now: float, left: int
    ) -> int:
        """Full packets of the active streams in turn, as many as window, pacing and batch allow."""
        if self._quic_logger is not None or builder.max_flight_bytes is None:
            return 0
        if builder._packet is not None:
            builder._end_packet()
        total = 0
        for _ in range(len(active)):
            room = (builder.max_flight_bytes - builder._flight_bytes) // self._max_datagram_size
            limit = min(left - total, room, self._loss.burst_pacer.packets_allowed(now))
            share = limit if len(active) == 1 else min(limit, BULK_SHARE)
            stream = active[0]
            sender = stream.sender
            if share < 1:
                break
            if not (stream.is_blocked or sender.reset_pending or sender.buffer_is_empty):
                before = sender.highest_offset
                credit = before + self._remote_max_data - self._remote_max_data_used
                stop = min(credit, stream.max_stream_data_remote)
                count = write_bulk(builder, self.one_rtt, self._peer_cid.cid, stream, stop, share)
                self._remote_max_data_used += sender.highest_offset - before
                self._loss.burst_pacer.spend(count)
                total += count
            active.rotate(-1)
        return total

    def _flush_builder(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, peer_cid: bytes, now: float
    ) -> list[tuple[bytes, NetworkAddress]]:
        if not self._handshake_confirmed or self._quic_logger is not None:
            return super()._flush_builder(builder, network_path, peer_cid, now)
        datagrams, packets = builder.flush()
        if packets:
            self._packet_number = builder.packet_number
            eliciting = self._loss.on_packets_sent(packets, self.app_space, now)
            if eliciting and not self._ack_eliciting_sent_since_receipt:
                self._close_at = now + self._idle_timeout()
                self._ack_eliciting_sent_since_receipt = True
        addr = network_path.addr
        return [(datagram, addr) for datagram in datagrams]

    def _active_streams(self) -> Iterator[QuicStream]:
        """The streams that want to send a frame, in the order of service; finished ones are discarded."""
        finished = False
        for stream in self._streams_queue:
            sender, receiver = stream.sender, stream.receiver
            if receiver.is_finished and sender.is_finished:
                finished = True
                self._discard_stream(stream)
            elif (
                not sender.buffer_is_empty
                or sender.reset_pending
                or receiver.stop_pending
                or stream.max_stream_data_local != stream.max_stream_data_local_sent
            ):
                yield stream
        if finished:
            self._streams_queue = [item for item in self._streams_queue if item.stream_id in self._streams]

    def _discard_stream(self, stream: QuicStream) -> None:
        """Forget a stream that ended in both directions; the peer may open another for it (RFC 9000 4.6)."""
        stream_id = stream.stream_id
        assert stream_id is not None, "only the crypto streams have no id"
        del self._streams[stream_id]
        if stream_is_client_initiated(stream_id) != self._is_client:
            if stream_id in self._held_streams:
                self._owed_streams.add(stream_id)
            else:
                self._stream_limit(stream_id).value += 1

    def _write_control(
        self, builder: QuicPacketBuilder, path: QuicNetworkPath, space: QuicPacketSpace
    ) -> None:
        """Everything that is neither an acknowledgement nor data."""
        if self._handshake_complete:
            if self._handshake_done_pending:
                self._write_handshake_done_frame(builder)
                self._handshake_done_pending = False
            while path.remote_challenges:
                self._write_path_response_frame(builder, path.remote_challenges[0])
                path.remote_challenges.popleft()
            for cid in self._host_cids:
                if not cid.was_sent:
                    self._write_new_connection_id_frame(builder, cid)
            while self._retire_connection_ids:
                self._write_retire_connection_id_frame(builder, self._retire_connection_ids[0])
                self._retire_connection_ids.pop(0)
            if self._streams_blocked_pending:
                self._write_blocked(builder)
            self._write_connection_limits(builder, space)
        if self._ping_pending or self._probe_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
            self._probe_pending = False
        crypto_stream = self._crypto_streams[tls.Epoch.ONE_RTT]
        if not crypto_stream.sender.buffer_is_empty:
            self._write_crypto_frame(builder, space, crypto_stream)

    def _write_blocked(self, builder: QuicPacketBuilder) -> None:
        """Tell the peer that streams wait for its permission."""
        if self._streams_blocked_bidi:
            self._write_streams_blocked_frame(
                builder, QuicFrameType.STREAMS_BLOCKED_BIDI, self._remote_max_streams_bidi
            )
        if self._streams_blocked_uni:
            self._write_streams_blocked_frame(
                builder, QuicFrameType.STREAMS_BLOCKED_UNI, self._remote_max_streams_uni
            )
        self._streams_blocked_pending = False

    def _write_datagrams(self, builder: QuicPacketBuilder) -> None:
        """As many DATAGRAM frames as fit; QuicPacketBuilderStop if one has to wait for the next packet."""
        while self._datagrams_pending:
            self._write_datagram_frame(
                builder, self._datagrams_pending[0], QuicFrameType.DATAGRAM_WITH_LENGTH
            )
            self._datagrams_pending.popleft()

    def _write_streams(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, active: deque[QuicStream]
    ) -> None:
        """Frames of the active streams in turn; one with no more to say in this batch leaves the queue."""
        while active and builder.remaining_flight_space >= MIN_FRAME_ROOM:
            stream = active.popleft()
            self._write_stream_limits(builder, space, stream)
            if stream.receiver.stop_pending:
                self._write_stop_sending_frame(builder, stream)
            sender = stream.sender
            if sender.reset_pending:
                self._write_reset_stream_frame(builder, stream)
            elif not stream.is_blocked and not sender.buffer_is_empty:
                before = builder.remaining_flight_space
                credit = sender.highest_offset + self._remote_max_data - self._remote_max_data_used
                self._remote_max_data_used += self._write_stream_frame(
                    builder, space, stream, min(credit, stream.max_stream_data_remote)
                )
                if builder.remaining_flight_space < before:
                    active.append(stream)
