"""Relay protocol version 3, of iroh 0.28 to 0.35: frames and their two transports (PROTOCOL.md 7.2).

After an HTTP upgrade a frame is ``type u8 | length u32be | payload``; over a websocket it is one binary
message ``type u8 | payload``. Encoding is checked only where a caller can get it wrong; decoding trusts
nothing.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.proto.relay.frames import (
    MAX_FRAME_LENGTH,
    MAX_PACKET_LENGTH,
    NODE_ID_LENGTH,
    PING_LENGTH,
    SIGNATURE_LENGTH,
    ClientInfo,
    Health,
    KeepAlive,
    NodeGone,
    NotePreferred,
    Ping,
    Pong,
    RecvPacket,
    Restarting,
    SendPacket,
    V3Frame,
)

#: "RELAY" and the key emoji, first in every ClientInfo.
MAGIC = b"RELAY\xf0\x9f\x94\x91"
#: postcard of {version: 3}: what a ClientInfo signs. A constant, so a signature can be replayed (trap 17).
CLIENT_MESSAGE = b"\x03"
HEADER_LENGTH = 5
#: Clients fill packets up to here, 32 below the limit that a server enforces (7.2).
MAX_DATA_LENGTH = MAX_PACKET_LENGTH - NODE_ID_LENGTH
#: A datagram with its two length bytes must fit into one packet.
MAX_DATAGRAM_LENGTH = MAX_DATA_LENGTH - 2


class FrameType(enum.IntEnum):
    """First byte of a frame."""

    CLIENT_INFO = 2
    SEND_PACKET = 4
    RECV_PACKET = 5
    KEEP_ALIVE = 6
    NOTE_PREFERRED = 7
    NODE_GONE = 8
    PING = 12
    PONG = 13
    HEALTH = 14
    RESTARTING = 15


#: Plain ints for the hot paths: an enum member costs an attribute look-up per frame.
SEND_PACKET = int(FrameType.SEND_PACKET)
RECV_PACKET = int(FrameType.RECV_PACKET)

_HEADER = struct.Struct("!BI")
_RESTARTING = struct.Struct("!II")


def _parts(frame: V3Frame) -> tuple[FrameType, bytes]:
    match frame:
        case ClientInfo():
            return FrameType.CLIENT_INFO, MAGIC + frame.node_id + frame.signature + frame.message
        case SendPacket():
            return FrameType.SEND_PACKET, frame.node_id + frame.data
        case RecvPacket():
            return FrameType.RECV_PACKET, frame.node_id + frame.data
        case KeepAlive():
            return FrameType.KEEP_ALIVE, b""
        case NotePreferred():
            return FrameType.NOTE_PREFERRED, b"\x01" if frame.preferred else b"\x00"
        case NodeGone():
            return FrameType.NODE_GONE, frame.node_id
        case Ping():
            return FrameType.PING, frame.data
        case Pong():
            return FrameType.PONG, frame.data
        case Health():
            return FrameType.HEALTH, frame.text.encode()
        case Restarting():
            payload = _RESTARTING.pack(round(frame.reconnect_in * 1000), round(frame.try_for * 1000))
            return FrameType.RESTARTING, payload


def encode(frame: V3Frame) -> bytes:
    """A frame for a connection made by HTTP upgrade. Raises LocalProtocolError above 1 MiB."""
    kind, payload = _parts(frame)
    if len(payload) > MAX_FRAME_LENGTH:
        raise LocalProtocolError(
            f"a relay frame carries at most {MAX_FRAME_LENGTH} bytes, not {len(payload)}"
        )
    return _HEADER.pack(kind, len(payload)) + payload


def encode_message(frame: V3Frame) -> bytes:
    """A frame as the content of one binary websocket message."""
    kind, payload = _parts(frame)
    return bytes((kind,)) + payload


def decode_message(message: bytes) -> V3Frame:
    """The frame in one binary websocket message. Raises RelayError."""
    if not message:
        raise RelayError("empty relay message")
    return decode(message[0], message[1:])


def decode(kind: int, payload: bytes) -> V3Frame:
    """The frame of this type and payload. Raises RelayError for anything that is not exactly one."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise RelayError(f"unknown relay frame type {kind}")
    return decoder(payload)


def _exactly(payload: bytes, length: int, name: str) -> bytes:
    if len(payload) != length:
        raise RelayError(f"{name} frame of {len(payload)} bytes, expected {length}")
    return payload


def _client_info(payload: bytes) -> ClientInfo:
    fixed = len(MAGIC) + NODE_ID_LENGTH + SIGNATURE_LENGTH
    if len(payload) <= fixed:
        raise RelayError(f"ClientInfo frame of {len(payload)} bytes is too short")
    if not payload.startswith(MAGIC):
        raise RelayError("ClientInfo frame without the relay magic")
    signature_at = len(MAGIC) + NODE_ID_LENGTH
    return ClientInfo(payload[len(MAGIC) : signature_at], payload[signature_at:fixed], payload[fixed:])


def split_packet(payload: bytes) -> tuple[bytes, bytes]:
    """Node id and data of a packet frame's payload. Raises RelayError when too short or too long."""
    if not NODE_ID_LENGTH <= len(payload) <= NODE_ID_LENGTH + MAX_PACKET_LENGTH:
        raise RelayError(f"packet frame of {len(payload)} bytes")
    return payload[:NODE_ID_LENGTH], payload[NODE_ID_LENGTH:]


def _note_preferred(payload: bytes) -> NotePreferred:
    if payload not in (b"\x00", b"\x01"):
        raise RelayError("NotePreferred frame is neither 0 nor 1")
    return NotePreferred(payload == b"\x01")


def _health(payload: bytes) -> Health:
    try:
        return Health(payload.decode())
    except UnicodeDecodeError as error:
        raise RelayError("Health frame is not UTF-8") from error


def _restarting(payload: bytes) -> Restarting:
    reconnect_in, try_for = _RESTARTING.unpack(_exactly(payload, _RESTARTING.size, "Restarting"))
    return Restarting(reconnect_in / 1000, try_for / 1000)


def _keep_alive(payload: bytes) -> KeepAlive:
    _exactly(payload, 0, "KeepAlive")
    return KeepAlive()


_DECODERS: dict[int, Callable[[bytes], V3Frame]] = {
    FrameType.CLIENT_INFO: _client_info,
    FrameType.SEND_PACKET: lambda payload: SendPacket(*split_packet(payload)),
    FrameType.RECV_PACKET: lambda payload: RecvPacket(*split_packet(payload)),
    FrameType.KEEP_ALIVE: _keep_alive,
    FrameType.NOTE_PREFERRED: _note_preferred,
    FrameType.NODE_GONE: lambda payload: NodeGone(_exactly(payload, NODE_ID_LENGTH, "NodeGone")),
    FrameType.PING: lambda payload: Ping(_exactly(payload, PING_LENGTH, "Ping")),
    FrameType.PONG: lambda payload: Pong(_exactly(payload, PING_LENGTH, "Pong")),
    FrameType.HEALTH: _health,
    FrameType.RESTARTING: _restarting,
}


def pack_datagrams(datagrams: Sequence[bytes]) -> list[bytes]:
    """Packet contents that carry these datagrams in order, each at most 65504 bytes (7.2).

    Raises LocalProtocolError for a datagram over 65502 bytes.
    """
    packets: list[bytes] = []
    parts: list[bytes] = []
    used = 0
    for datagram in datagrams:
        size = len(datagram)
        if size > MAX_DATAGRAM_LENGTH:
            raise LocalProtocolError(f"a datagram of {size} bytes does not fit into a relay packet")
        if used + 2 + size > MAX_DATA_LENGTH:
            packets.append(b"".join(parts))
            parts, used = [], 0
        parts += (size.to_bytes(2, "little"), datagram)
        used += 2 + size
    if parts:
        packets.append(b"".join(parts))
    return packets


def unpack_datagrams(data: bytes) -> list[bytes]:
    """The datagrams in a packet; reading stops at a length that does not fit, as the original does (7.2)."""
    datagrams = []
    position, end = 0, len(data)
    while position + 2 <= end:
        start = position + 2
        position = start + (data[start - 2] | data[start - 1] << 8)
        if position > end:
            break
        datagrams.append(data[start:position])
    return datagrams


class FrameReader:
    """Cuts the byte stream of an upgraded connection into frames, however it was split.

    ``read`` never raises: the frames before a violation are returned, and ``broken`` then holds the error;
    nothing is read after it. At most one frame (1 MiB) and one read are buffered.
    """

    __slots__ = ("_buffer", "_need", "broken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = HEADER_LENGTH
        self.broken: RelayError | None = None

    def read(self, data: bytes) -> list[tuple[int, bytes]]:
        """The (type, payload) pairs that these further bytes complete."""
        if self.broken is not None:
            return []
        if not self._buffer:
            return self._cut(data)
        self._buffer += data
        if len(self._buffer) < self._need:
            return []
        whole = bytes(self._buffer)
        self._buffer.clear()
        return self._cut(whole)

    def _cut(self, data: bytes) -> list[tuple[int, bytes]]:
        frames: list[tuple[int, bytes]] = []
        position, end = 0, len(data)
        self._need = HEADER_LENGTH
        while end - position >= HEADER_LENGTH:
            kind, length = _HEADER.unpack_from(data, position)
            if length > MAX_FRAME_LENGTH:
                self.broken = RelayError(f"relay frame of {length} bytes is longer than {MAX_FRAME_LENGTH}")
                return frames
            start = position + HEADER_LENGTH
            if start + length > end:
                self._need = HEADER_LENGTH + length
                break
            position = start + length
            frames.append((kind, data[start:position]))
        if position < end:
            self._buffer += data[position:] if position else data
        return frames
