"""Relay protocol of iroh 1.x: frames of the websocket subprotocols iroh-relay-v1 and -v2 (PROTOCOL.md 11.4).

One binary message is one frame: type (a QUIC varint; every known type fits in one byte) and payload. v1 and
v2 differ in one frame only: v1 has Health, v2 has Status in its place.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.proto.relay.frames import (
    CHALLENGE_LENGTH,
    MAX_PACKET_LENGTH,
    NODE_ID_LENGTH,
    PING_LENGTH,
    SIGNATURE_LENGTH,
    ClientAuth,
    Health,
    NodeGone,
    Ping,
    Pong,
    RecvDatagrams,
    Restarting,
    SendDatagrams,
    ServerChallenge,
    ServerConfirmsAuth,
    ServerDeniesAuth,
    Status,
    V1Frame,
)

SUBPROTOCOL_V1 = "iroh-relay-v1"
SUBPROTOCOL_V2 = "iroh-relay-v2"
#: Best first: what a client offers and what a server picks from.
SUBPROTOCOLS = (SUBPROTOCOL_V2, SUBPROTOCOL_V1)
#: id, ECN and segment size before the datagrams of a batch; a message carries at most 65536 bytes behind
#: its type.
MAX_DATA_LENGTH = MAX_PACKET_LENGTH - NODE_ID_LENGTH - 3
#: A segment size is 16 bits.
MAX_SEGMENT = 0xFFFF


class FrameType(enum.IntEnum):
    """First byte of a message."""

    SERVER_CHALLENGE = 0
    CLIENT_AUTH = 1
    SERVER_CONFIRMS_AUTH = 2
    SERVER_DENIES_AUTH = 3
    SEND_DATAGRAM = 4
    SEND_BATCH = 5
    RECV_DATAGRAM = 6
    RECV_BATCH = 7
    NODE_GONE = 8
    PING = 9
    PONG = 10
    HEALTH = 11
    RESTARTING = 12
    STATUS = 13


SEND_DATAGRAM = int(FrameType.SEND_DATAGRAM)
SEND_BATCH = int(FrameType.SEND_BATCH)

_RESTARTING = struct.Struct("!II")


def _datagrams(frame: SendDatagrams | RecvDatagrams, single: FrameType) -> bytes:
    head = frame.node_id + bytes((frame.ecn,))
    if frame.segment_size == 0:
        return bytes((single,)) + head + frame.data
    return bytes((single + 1,)) + head + frame.segment_size.to_bytes(2, "big") + frame.data


def encode(frame: V1Frame) -> bytes:
    """The content of the binary websocket message for this frame."""
    match frame:
        case SendDatagrams():
            return _datagrams(frame, FrameType.SEND_DATAGRAM)
        case RecvDatagrams():
            return _datagrams(frame, FrameType.RECV_DATAGRAM)
        case ServerChallenge():
            return bytes((FrameType.SERVER_CHALLENGE,)) + frame.challenge
        case ClientAuth():
            return bytes((FrameType.CLIENT_AUTH,)) + frame.node_id + b"\x40" + frame.signature
        case ServerConfirmsAuth():
            return bytes((FrameType.SERVER_CONFIRMS_AUTH,))
        case ServerDeniesAuth():
            reason = frame.reason.encode()
            return bytes((FrameType.SERVER_DENIES_AUTH,)) + _leb(len(reason)) + reason
        case NodeGone():
            return bytes((FrameType.NODE_GONE,)) + frame.node_id
        case Ping():
            return bytes((FrameType.PING,)) + frame.data
        case Pong():
            return bytes((FrameType.PONG,)) + frame.data
        case Health():
            return bytes((FrameType.HEALTH,)) + frame.text.encode()
        case Status():
            return bytes((FrameType.STATUS, frame.code))
        case Restarting():
            return bytes((FrameType.RESTARTING,)) + _RESTARTING.pack(
                round(frame.reconnect_in * 1000), round(frame.try_for * 1000)
            )


def decode(message: bytes, subprotocol: str = SUBPROTOCOL_V2) -> V1Frame:
    """The frame in one binary message. Raises RelayError, also for the frame that the other version has."""
    if not message:
        raise RelayError("empty relay message")
    if len(message) - 1 > MAX_PACKET_LENGTH:
        raise RelayError(f"relay frame of {len(message) - 1} bytes is longer than {MAX_PACKET_LENGTH}")
    kind = message[0]
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise RelayError(f"unknown relay frame type {kind}")
    if kind == (FrameType.HEALTH if subprotocol == SUBPROTOCOL_V2 else FrameType.STATUS):
        raise RelayError(f"frame type {kind} does not exist in {subprotocol}")
    return decoder(message[1:])


def _leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _exactly(payload: bytes, length: int, name: str) -> bytes:
    if len(payload) != length:
        raise RelayError(f"{name} frame of {len(payload)} bytes, expected {length}")
    return payload


def _client_auth(payload: bytes) -> ClientAuth:
    _exactly(payload, NODE_ID_LENGTH + 1 + SIGNATURE_LENGTH, "ClientAuth")
    if payload[NODE_ID_LENGTH] != SIGNATURE_LENGTH:
        raise RelayError("ClientAuth frame with a signature that is not 64 bytes long")
    return ClientAuth(payload[:NODE_ID_LENGTH], payload[NODE_ID_LENGTH + 1 :])


def _confirms(payload: bytes) -> ServerConfirmsAuth:
    _exactly(payload, 0, "ServerConfirmsAuth")
    return ServerConfirmsAuth()


def _denies(payload: bytes) -> ServerDeniesAuth:
    length, shift = 0, 0
    for position, byte in enumerate(
        payload[:3]
    ):  # three groups of 7 bits hold any length below the frame limit
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return ServerDeniesAuth(_text(_exactly(payload[position + 1 :], length, "ServerDeniesAuth")))
    raise RelayError("ServerDeniesAuth frame without a reason length")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RelayError("text in a relay frame is not UTF-8") from error


def _status(payload: bytes) -> Status:
    return Status(_exactly(payload, 1, "Status")[0])


def _restarting(payload: bytes) -> Restarting:
    reconnect_in, try_for = _RESTARTING.unpack(_exactly(payload, _RESTARTING.size, "Restarting"))
    return Restarting(reconnect_in / 1000, try_for / 1000)


def split_datagram(payload: bytes) -> tuple[bytes, int, int, bytes]:
    """Node id, ECN, segment size 0 and the datagram of a single datagram's payload. Raises RelayError."""
    if len(payload) <= NODE_ID_LENGTH:
        raise RelayError(f"datagram frame of {len(payload)} bytes is too short")
    ecn = payload[NODE_ID_LENGTH]
    if ecn > 3:
        raise RelayError(f"datagram frame with ECN {ecn}")
    return payload[:NODE_ID_LENGTH], ecn, 0, payload[NODE_ID_LENGTH + 1 :]


def split_batch(payload: bytes) -> tuple[bytes, int, int, bytes]:
    """Node id, ECN, segment size and data of a batch's payload. Raises RelayError."""
    node_id, ecn, _, rest = split_datagram(payload)
    if len(rest) < 2:
        raise RelayError("datagram batch without a segment size")
    return node_id, ecn, rest[0] << 8 | rest[1], rest[2:]


def _send(parts: tuple[bytes, int, int, bytes]) -> SendDatagrams:
    node_id, ecn, segment_size, data = parts
    return SendDatagrams(node_id, data, ecn, segment_size)


def _recv(parts: tuple[bytes, int, int, bytes]) -> RecvDatagrams:
    node_id, ecn, segment_size, data = parts
    return RecvDatagrams(node_id, data, ecn, segment_size)


_DECODERS: dict[int, Callable[[bytes], V1Frame]] = {
    FrameType.SERVER_CHALLENGE: lambda p: ServerChallenge(_exactly(p, CHALLENGE_LENGTH, "ServerChallenge")),
    FrameType.CLIENT_AUTH: _client_auth,
    FrameType.SERVER_CONFIRMS_AUTH: _confirms,
    FrameType.SERVER_DENIES_AUTH: _denies,
    FrameType.SEND_DATAGRAM: lambda payload: _send(split_datagram(payload)),
    FrameType.SEND_BATCH: lambda payload: _send(split_batch(payload)),
    FrameType.RECV_DATAGRAM: lambda payload: _recv(split_datagram(payload)),
    FrameType.RECV_BATCH: lambda payload: _recv(split_batch(payload)),
    FrameType.NODE_GONE: lambda payload: NodeGone(_exactly(payload, NODE_ID_LENGTH, "EndpointGone")),
    FrameType.PING: lambda payload: Ping(_exactly(payload, PING_LENGTH, "Ping")),
    FrameType.PONG: lambda payload: Pong(_exactly(payload, PING_LENGTH, "Pong")),
    FrameType.HEALTH: lambda payload: Health(_text(payload)),
    FrameType.STATUS: _status,
    FrameType.RESTARTING: _restarting,
}


def cut_segments(data: bytes, segment_size: int) -> list[bytes]:
    """The datagrams of a batch; a segment size of 0 means one datagram (11.4). Empty data gives none."""
    if segment_size == 0:
        return [data] if data else []
    return [data[start : start + segment_size] for start in range(0, len(data), segment_size)]


def batch_datagrams(datagrams: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """(segment size, data) pairs that carry these datagrams in order, in as few frames as the format allows.

    A batch holds equally long datagrams of which the last may be shorter. Empty datagrams are left out, as
    1.x never sends them. Raises LocalProtocolError for a datagram that fits into no frame.
    """
    batches: list[tuple[int, bytes]] = []
    run: list[bytes] = []
    used = 0
    for datagram in filter(None, datagrams):
        size = len(datagram)
        if size > MAX_DATA_LENGTH + 2:
            raise LocalProtocolError(f"a datagram of {size} bytes does not fit into a relay frame")
        if run and (size > len(run[0]) or len(run[-1]) < len(run[0]) or used + size > MAX_DATA_LENGTH):
            batches.append(_batch(run))
            run, used = [], 0
        run.append(datagram)
        used += size
    if run:
        batches.append(_batch(run))
    return batches


def _batch(run: list[bytes]) -> tuple[int, bytes]:
    return (len(run[0]), b"".join(run)) if len(run) > 1 else (0, run[0])
