"""The short way out: packets that hold one full STREAM frame and nothing else, written directly.

A transfer consists of them. aioquic's packet builder needs some 20 us for each, this about 7. They are
added to the same builder, so that numbering, registration and sending stay in one place.
"""

from __future__ import annotations

from aioquic.buffer import size_uint_var
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

#: Fixed bit and a packet number of two bytes (RFC 9000 section 17.3.1), what aioquic sends too.
FIRST_BYTE = 0x41
TAG_SIZE = 16
#: A STREAM frame with an offset and without a length: it reaches to the end of the packet (section 19.8).
STREAM_TO_END = 0x0C
#: The length of a variable-length integer is in its first two bits (section 16).
VARINT_BITS = {1: 0, 2: 1 << 14, 4: 2 << 30, 8: 3 << 62}


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
    if context.aead is None or context.hp is None:
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
    encrypt, mask_of = context.aead.encrypt, context.hp._mask
    first = FIRST_BYTE | context.key_phase << 2
    bits, base = VARINT_BITS[width], sender._buffer_start
    number = builder._packet_number
    size = builder._buffer_capacity
    datagrams, packets, delivered = builder._datagrams, builder._packets, sender.on_data_delivery
    with memoryview(sender._buffer) as view:
        for offset in range(run.start, run.start + count * room, room):
            short = number & 0xFFFF
            plain = b"".join(
                (frame, (offset | bits).to_bytes(width, "big"), view[offset - base : offset - base + room])
            )
            sealed = encrypt(plain, b"%c%b%b" % (first, peer_cid, short.to_bytes(2, "big")), number)
            mask = mask_of(sealed[2:18])
            short ^= mask[1] << 8 | mask[2]
            datagrams.append(
                b"%c%b%b%b" % (first ^ (mask[0] & 0x1F), peer_cid, short.to_bytes(2, "big"), sealed)
            )
            packets.append(
                QuicSentPacket(
                    Epoch.ONE_RTT,
                    True,
                    True,
                    False,
                    number,
                    QuicPacketType.ONE_RTT,
                    None,
                    size,
                    [(delivered, (offset, offset + room, False))],
                )
            )
            number += 1
    builder._packet_number = number
    builder._flight_bytes += count * size
    builder._total_bytes += count * size
    end = run.start + count * room
    sender._pending.subtract(run.start, end)
    if end > sender.highest_offset:
        sender.highest_offset = end
    return count


def _varint(value: int) -> bytes:
    """The shortest variable-length integer."""
    width = size_uint_var(value)
    return (value | VARINT_BITS[width]).to_bytes(width, "big")
