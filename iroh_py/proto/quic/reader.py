"""The short way in: 1-RTT packets of the usual kind, taken apart directly.

Nine of ten packets of a transfer hold one STREAM frame that continues its stream. aioquic handles them
through the same layers as any packet, some 20 us each; here it is about 8. Everything unusual goes the long
way: the handshake, other connection ids, new keys, gaps, ends of streams, other frames, limits, qlog.
"""

from __future__ import annotations

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic import events as quic_events
from aioquic.quic.connection import (
    END_STATES,
    NetworkAddress,
    QuicConnectionError,
    QuicReceiveContext,
)
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import decode_packet_number
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketSpace

from iroh_py.proto.quic.standing import Standing

#: A short header starts with these two bits (RFC 9000 section 17.3.1) ...
FORM_MASK, SHORT_HEADER = 0xC0, 0x40
#: ... and, once unprotected, has two reserved ones that must be zero, the key phase and the number's length.
RESERVED_BITS, KEY_PHASE, NUMBER_LENGTH = 0x18, 0x04, 0x03
#: Flags and our connection id come first; the header protection sample is 4 bytes on (RFC 9001 5.4.2).
NUMBER_AT = 9
SAMPLE_AT, SAMPLE_END = NUMBER_AT + 4, NUMBER_AT + 20
#: STREAM frames are 0x08 to 0x0f: offset present, length present, end of stream (section 19.8).
STREAM_MASK, STREAM = 0xF8, 0x08
OFFSET, LENGTH, FIN = 4, 2, 1
#: The idle timeout depends on the probe timeout, which moves slowly; it is looked at this often, in seconds.
IDLE_REFRESH = 1.0


class PacketReader(Standing):
    """A connection that takes the usual packets apart by itself."""

    app_space: QuicPacketSpace
    one_rtt: CryptoPair
    _idle = 0.0
    _idle_until = float("-inf")

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        usual = (
            self._handshake_confirmed
            and len(data) >= SAMPLE_END
            and data[0] & FORM_MASK == SHORT_HEADER
            and data[1:NUMBER_AT] == self.host_cid
            and self._quic_logger is None
        )
        if not (usual and self._receive_short(data, now)):
            super().receive_datagram(data, addr, now)

    def _receive_short(self, data: bytes, now: float) -> bool:
        """Handle a packet with our present connection id; False if the long way has to."""
        crypto = self.one_rtt.recv
        if crypto.hp is None or crypto.aead is None or self._state in END_STATES:
            return False
        mask = crypto.hp._mask(data[SAMPLE_AT:SAMPLE_END])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & RESERVED_BITS or (first & KEY_PHASE) >> 2 != crypto.key_phase:
            return False
        size = (first & NUMBER_LENGTH) + 1
        body = NUMBER_AT + size
        truncated = int.from_bytes(data[NUMBER_AT:body], "big") ^ int.from_bytes(mask[1 : 1 + size], "big")
        space = self.app_space
        number = decode_packet_number(truncated, size * 8, space.expected_packet_number)
        header = b"%c%b%b" % (first, self.host_cid, truncated.to_bytes(size, "big"))
        try:
            plain = crypto.aead.decrypt(data[body:], header, number)
        except CryptoError:
            return True
        if number not in space.received_packets:
            self._handle_plain(plain, number, now)
        return True

    def _handle_plain(self, plain: bytes, number: int, now: float) -> None:
        """Handle the frames of a genuine new packet and remember that it arrived."""
        eliciting = True
        done = self._read_streams(plain)
        if done < len(plain) or not plain:
            context = QuicReceiveContext(
                epoch=tls.Epoch.ONE_RTT,
                host_cid=self.host_cid,
                network_path=self._network_paths[0],
                quic_logger_frames=None,
                time=now,
                version=None,
            )
            try:
                eliciting, _ = self._payload_received(context, plain[done:])
            except QuicConnectionError as error:
                self._logger.warning(error)
                self.close(error.error_code, error.frame_type, error.reason_phrase)
            if self._close_pending or self._state in END_STATES:
                return
        self._record(range(number, number + 1), now, eliciting or done > 0)

    def _read_streams(self, plain: bytes) -> int:
        """Handle the STREAM frames at the start that continue their stream; how many bytes they took."""
        done, end = 0, len(plain)
        while done < end and plain[done] & STREAM_MASK == STREAM and not plain[done] & FIN:
            flags = plain[done]
            buf = Buffer(data=plain[done:] if done else plain)
            try:
                buf.pull_uint8()
                stream_id = buf.pull_uint_var()
                offset = buf.pull_uint_var() if flags & OFFSET else 0
                length = buf.pull_uint_var() if flags & LENGTH else end - done - buf.tell()
                data = buf.pull_bytes(length)
            except ValueError:
                break
            if not self._continue_stream(stream_id, offset, data):
                break
            done += buf.tell()
        return done

    def _continue_stream(self, stream_id: int, offset: int, data: bytes) -> bool:
        """Hand out the next bytes of a stream; False unless they are exactly that and within the limits."""
        stream = self._streams.get(stream_id)
        if stream is None or not data:
            return False
        receiver = stream.receiver
        if receiver._buffer_start != offset or receiver.highest_offset != offset:
            return False
        end, limit = offset + len(data), self._local_max_data
        if (
            receiver.is_finished
            or receiver._final_size is not None
            or end > stream.max_stream_data_local
            or limit.used + len(data) > limit.value
        ):
            return False
        receiver._buffer_start = receiver.highest_offset = end
        limit.used += len(data)
        self._events.append(quic_events.StreamDataReceived(data, False, stream_id))
        return True

    def _record(self, numbers: range, now: float, eliciting: bool) -> None:
        """Genuine packets arrived: the peer is alive, and an acknowledgement may be due."""
        if now >= self._idle_until:
            self._idle, self._idle_until = self._idle_timeout(), now + IDLE_REFRESH
        self._close_at = now + self._idle
        self._ack_eliciting_sent_since_receipt = False
        space = self.app_space
        last = numbers[-1]
        if last > space.largest_received_packet:
            space.largest_received_packet = last
            space.largest_received_time = now
        if last >= space.expected_packet_number:
            space.expected_packet_number = last + 1
        space.ack_queue.add(numbers.start, numbers.stop)
        if len(numbers) > 1:
            space.received_packets._received.update(numbers)
        space.received_packets.add(last)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if eliciting and space.ack_at is None:
            space.ack_at = now + self._ack_delay
