"""The short way out: packets that hold one full STREAM frame and nothing else, written directly.

A transfer consists of them. aioquic's packet builder needs some 20 us for each, this about 3.5, two of which are
AES. They are added to the same builder, so that numbering, registration and sending stay in one place.
"""

from __future__ import annotations

from typing import Any

from aioquic._crypto import AEAD, AEAD_NONCE_LENGTH, HeaderProtection
from aioquic.buffer import size_uint_var
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryHandler, QuicPacketBuilder, QuicSentPacket
from aioquic.quic.stream import QuicStream, QuicStreamSender
from aioquic.tls import Epoch

#: Fixed bit and a packet number of two bytes (RFC 9000 section 17.3.1), what aioquic sends too.
FIRST_BYTE = 0x41
TAG_SIZE = 16
#: A STREAM frame with an offset and without a length: it reaches to the end of the packet (section 19.8).
STREAM_TO_END = 0x0C
#: The length of a variable-length integer is in its first two bits (section 16).
VARINT_BITS = {1: 0, 2: 1 << 14, 4: 2 << 30, 8: 3 << 62}
#: Header protection takes a sample of the packet that starts 4 bytes after the packet number does (RFC 9001 5.4.2).
SAMPLE_SIZE = 16


class BulkPacket(QuicSentPacket):
    """A sent packet with bytes ``start`` to ``stop`` of one stream: a tenth of the price of its base class."""

    epoch = Epoch.ONE_RTT
    in_flight = True
    is_ack_eliciting = True
    is_crypto_packet = False
    packet_type = QuicPacketType.ONE_RTT
    quic_logger_frames = []  # noqa: RUF012 - the type is aioquic's; nobody logs these packets

    def __init__(self, number: int, size: int, sender: QuicStreamSender, start: int, stop: int) -> None:
        self.packet_number = number
        self.sent_bytes = size
        self.sender = sender
        self.start = start
        self.stop = stop

    @property
    def delivery_handlers(self) -> list[tuple[QuicDeliveryHandler, Any]]:  # type: ignore[override]
        """What to tell the stream; made on demand, since most packets are acknowledged in runs."""
        return [(self.sender.on_data_delivery, (self.start, self.stop, False))]


def write_bulk(
    builder: QuicPacketBuilder, crypto: CryptoPair, peer_cid: bytes, stream: QuicStream, stop: int, limit: int
) -> int:
    """Up to ``limit`` full packets with pending bytes of ``stream`` below offset ``stop``.

    Returns how many were written; the stream's own state is up to date. The builder must be between packets.
    """
    sender = stream.sender
    stream_id = stream.stream_id
    context = crypto.send
    if stream_id is None or not len(sender._pending) or crypto._update_key_requested:
        return 0
    if context.aead is None or context.hp is None or context.hp._is_chacha20:
        return 0
    run = sender._pending[0]
    stop = min(stop, run.stop)
    width = size_uint_var(stop)
    frame = bytes((STREAM_TO_END,)) + _varint(stream_id)
    overhead = 1 + len(peer_cid) + 2 + TAG_SIZE + len(frame) + width
    room = builder._buffer_capacity - overhead
    count = min(limit, (stop - run.start) // room)
    if count < 1:
        return 0
    first = FIRST_BYTE | context.key_phase << 2
    number = builder._packet_number
    offsets = range(run.start, run.start + count * room, room)
    sealed = _seal(context.aead, first, peer_cid, number, _plain_texts(sender, frame, offsets, room, width))
    builder._datagrams += _protect(context.hp, first, peer_cid, number, sealed)
    size = builder._buffer_capacity
    packets = builder._packets
    for offset in offsets:
        packets.append(BulkPacket(number, size, sender, offset, offset + room))
        number += 1
    builder._packet_number = number
    builder._flight_bytes += count * size
    builder._total_bytes += count * size
    end = run.start + count * room
    sender._pending.subtract(run.start, end)
    if end > sender.highest_offset:
        sender.highest_offset = end
    return count


def _plain_texts(
    sender: QuicStreamSender, frame: bytes, offsets: range, room: int, width: int
) -> list[bytes]:
    """The payload of each packet: type and stream id (``frame``), the offset in ``width`` bytes, ``room`` bytes."""
    bits, base, join = VARINT_BITS[width], sender._buffer_start, b"".join
    with memoryview(sender._buffer) as view:
        return [
            join((frame, (at | bits).to_bytes(width, "big"), view[at - base : at - base + room]))
            for at in offsets
        ]


def _seal(aead: AEAD, first: int, peer_cid: bytes, number: int, plain: list[bytes]) -> list[bytes]:
    """Encrypt the payloads of packets ``number`` and following."""
    encrypt, iv = aead._aead.encrypt, aead._iv
    prefix = bytes((first,)) + peer_cid
    sealed = []
    for text in plain:
        nonce = (iv ^ number).to_bytes(AEAD_NONCE_LENGTH, "big")
        sealed.append(encrypt(nonce, text, prefix + (number & 0xFFFF).to_bytes(2, "big")))
        number += 1
    return sealed


def _protect(
    hp: HeaderProtection, first: int, peer_cid: bytes, number: int, sealed: list[bytes]
) -> list[bytes]:
    """Put protected headers before sealed payloads; one call makes the masks of all."""
    masks = hp._encryptor.update(b"".join([text[2 : 2 + SAMPLE_SIZE] for text in sealed]))
    starts = [bytes((first ^ bits,)) + peer_cid for bits in range(0x20)]
    datagrams, join, at = [], b"".join, 0
    for text in sealed:
        short = (masks[at + 1] << 8 | masks[at + 2]) ^ (number & 0xFFFF)
        datagrams.append(join((starts[masks[at] & 0x1F], short.to_bytes(2, "big"), text)))
        number += 1
        at += SAMPLE_SIZE
    return datagrams


def _varint(value: int) -> bytes:
    """The shortest variable-length integer."""
    width = size_uint_var(value)
    return (value | VARINT_BITS[width]).to_bytes(width, "big")
