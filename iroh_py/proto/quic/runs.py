"""The short way in for a transfer: packets in a row that carry one stream in a row, taken together.

What arrives together is mostly the next packets with the next bytes of one stream. One call makes the header masks of
all, each is decrypted, and events, acknowledgements and limits are settled once at the end: some 4 us a packet, two of
which are AES. The first packet that is anything else ends the run, untouched, for ``reader.py`` to judge.
"""

from __future__ import annotations

from collections.abc import Sequence

from aioquic.quic import events as quic_events
from aioquic.quic.connection import END_STATES
from aioquic.quic.crypto import CryptoContext
from cryptography.exceptions import InvalidTag

from iroh_py.proto.quic.reader import (
    FIN,
    FORM_MASK,
    KEY_PHASE,
    LENGTH,
    NUMBER_AT,
    NUMBER_LENGTH,
    OFFSET,
    RESERVED_BITS,
    SAMPLE_AT,
    SAMPLE_END,
    SHORT_HEADER,
    STREAM,
    STREAM_MASK,
    PacketReader,
)

NONCE_LENGTH = 12
#: The bits of an unprotected first byte that are the same for every packet of a run; not the spin bit.
SHAPE_MASK = FORM_MASK | RESERVED_BITS | KEY_PHASE


class RunReader(PacketReader):
    """A connection that takes the packets of a transfer in runs."""

    def receive_run(self, datagrams: Sequence[bytes], now: float) -> int:
        """Take datagrams (short headers, one destination id) from the front as long as they belong to a transfer.

        Returns how many, often 0; nothing was done with the rest.
        """
        crypto = self.one_rtt.recv
        if not self._may_run(crypto, datagrams):
            return 0
        begin = self.app_space.largest_received_packet + 1
        run = StreamRun(self)
        end = self._decrypt_run(crypto, datagrams, begin, run)
        if end > begin:
            run.hand_out()
            self._record(range(begin, end), now, eliciting=True)
        return end - begin

    def _may_run(self, crypto: CryptoContext, datagrams: Sequence[bytes]) -> bool:
        return (
            self._handshake_confirmed
            and self._quic_logger is None
            and self._state not in END_STATES
            and crypto.aead is not None
            and crypto.hp is not None
            and not crypto.hp._is_chacha20
            and datagrams[0][1:NUMBER_AT] == self.host_cid
            and min(map(len, datagrams)) >= SAMPLE_END
        )

    def _decrypt_run(
        self, crypto: CryptoContext, datagrams: Sequence[bytes], number: int, run: StreamRun
    ) -> int:
        """Decrypt packets from ``number`` on into ``run``; return the number of the first that is not of it."""
        assert crypto.aead is not None, "_may_run() looked"
        assert crypto.hp is not None, "_may_run() looked"
        masks = crypto.hp._encryptor.update(b"".join([data[SAMPLE_AT:SAMPLE_END] for data in datagrams]))
        decrypt, iv, take = crypto.aead._aead.decrypt, crypto.aead._iv, run.take
        cid, shape, at = self.host_cid, SHORT_HEADER | crypto.key_phase << 2, 0
        for data in datagrams:
            first = data[0] ^ (masks[at] & 0x1F)
            size = (first & NUMBER_LENGTH) + 1
            body = NUMBER_AT + size
            short = number & (1 << 8 * size) - 1
            mask = int.from_bytes(masks[at + 1 : at + 1 + size], "big")
            # Whatever is not the next packet (lost, late, repeated, forged) takes the long way.
            if first & SHAPE_MASK != shape or int.from_bytes(data[NUMBER_AT:body], "big") ^ mask != short:
                break
            header = b"%c%b%b" % (first, cid, short.to_bytes(size, "big"))
            try:
                plain = decrypt((iv ^ number).to_bytes(NONCE_LENGTH, "big"), data[body:], header)
            except InvalidTag:
                break
            if not take(plain):
                break
            number += 1
            at += 16
        return number


class StreamRun:
    """The next bytes of one stream, collected packet by packet; which stream, the first packet says."""

    __slots__ = ("_connection", "_end", "_id", "_limit", "_parts", "_start", "_stream_id")

    def __init__(self, connection: RunReader) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        #: The stream's id as it stands in each packet; empty before the first.
        self._id = b""
        self._stream_id = self._start = self._end = self._limit = 0

    def take(self, plain: bytes) -> bool:
        """Take a packet's payload if it is one STREAM frame with the next bytes, and within the limits."""
        try:
            if plain[0] & (STREAM_MASK | OFFSET | FIN) != STREAM | OFFSET:
                return False
            if not (self._id or self._begin(plain)) or not plain.startswith(self._id, 1):
                return False
            offset, at = _varint(plain, 1 + len(self._id))
            if plain[0] & LENGTH:
                length, at = _varint(plain, at)
                if length != len(plain) - at:
                    return False
        except IndexError:
            return False
        end = offset + len(plain) - at
        if offset != self._end or end > self._limit or end <= offset:
            return False
        self._parts.append(plain[at:])
        self._end = end
        return True

    def hand_out(self) -> None:
        """Everything taken becomes one event; the stream and its limits are brought up to date."""
        connection = self._connection
        receiver = connection._streams[self._stream_id].receiver
        receiver._buffer_start = receiver.highest_offset = self._end
        connection._local_max_data.used += self._end - self._start
        connection._events.append(
            quic_events.StreamDataReceived(b"".join(self._parts), False, self._stream_id)
        )

    def _begin(self, plain: bytes) -> bool:
        """Start with this packet's stream; False if it is not one that simply goes on."""
        stream_id, at = _varint(plain, 1)
        stream = self._connection._streams.get(stream_id)
        if stream is None:
            return False
        receiver = stream.receiver
        start = receiver._buffer_start
        if receiver.is_finished or receiver._final_size is not None or receiver.highest_offset != start:
            return False
        credit = self._connection._local_max_data
        self._stream_id, self._start, self._end = stream_id, start, start
        self._limit = min(stream.max_stream_data_local, start + credit.value - credit.used)
        self._id = plain[1:at]
        return True


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 section 16) and where it ends. Raises IndexError where data ends."""
    first = data[at]
    end = at + (1 << (first >> 6))
    return int.from_bytes(data[at:end], "big") & (1 << 8 * (end - at) - 2) - 1, end
