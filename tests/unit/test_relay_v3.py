"""Frames of relay protocol version 3."""

from __future__ import annotations

import pytest
from relay_kit import relay_vector

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v3
from iroh_py.proto.relay.frames import (
    MAX_FRAME_LENGTH,
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
from iroh_py.proto.relay.handshake import client_info, verify_client_info

_KEY1 = SecretKey(bytes([1]) * 32).node_id.raw
_KEY2 = SecretKey(bytes([2]) * 32).node_id.raw
_KEY42 = SecretKey(bytes([42]) * 32)
_PACKED = b"\x05\x00hello\x03\x00abc"

_FRAMES: list[tuple[str, V3Frame]] = [
    ("relay3.ClientInfo upgrade framing", client_info(_KEY42)),
    ("relay3.SendPacket to key2, datagrams 'hello','abc' (upgrade framing)", SendPacket(_KEY2, _PACKED)),
    ("relay3.RecvPacket from key1", RecvPacket(_KEY1, _PACKED)),
    ("relay3.Ping 2a*8", Ping(b"\x2a" * 8)),
    ("relay3.Pong 2a*8", Pong(b"\x2a" * 8)),
    ("relay3.NotePreferred true", NotePreferred(True)),
    ("relay3.KeepAlive", KeepAlive()),
    ("relay3.NodeGone key1", NodeGone(_KEY1)),
    ("relay3.Restarting 10ms/20ms", Restarting(0.01, 0.02)),
    ("relay3.Health", Health("not authenticated")),
]


@pytest.mark.parametrize(("name", "frame"), _FRAMES, ids=[type(frame).__name__ for _, frame in _FRAMES])
def test_frame_matches_the_vector_in_both_directions(name: str, frame: V3Frame) -> None:
    """Each frame has the bytes of the original and reads back as itself."""
    wire = bytes.fromhex(relay_vector(name))
    assert v3.encode(frame) == wire
    [(kind, payload)] = v3.FrameReader().read(wire)
    assert v3.decode(kind, payload) == frame


def test_websocket_message_is_type_and_payload_only() -> None:
    """Over a websocket the length is left out."""
    wire = bytes.fromhex(relay_vector("relay3.ClientInfo ws message (seed 2a*32)"))
    assert v3.encode_message(client_info(_KEY42)) == wire
    assert v3.decode_message(wire) == client_info(_KEY42)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (0, b""),
        (3, b""),
        (11, b""),
        (16, b""),
        (v3.FrameType.CLIENT_INFO, b"RELAY"),
        (v3.FrameType.CLIENT_INFO, b"X" * 106),
        (v3.FrameType.SEND_PACKET, b"x" * 31),
        (v3.FrameType.RECV_PACKET, b"x" * (32 + 65537)),
        (v3.FrameType.KEEP_ALIVE, b"x"),
        (v3.FrameType.NOTE_PREFERRED, b"\x02"),
        (v3.FrameType.NODE_GONE, b"x" * 33),
        (v3.FrameType.PING, b"x" * 7),
        (v3.FrameType.PONG, b""),
        (v3.FrameType.HEALTH, b"\xff"),
        (v3.FrameType.RESTARTING, b"x" * 9),
    ],
)
def test_malformed_frame_is_refused(kind: int, payload: bytes) -> None:
    """A frame that is not exactly right raises the protocol error."""
    with pytest.raises(RelayError):
        v3.decode(kind, payload)


def test_announced_length_over_the_limit_ends_reading_at_once() -> None:
    """The header of a frame over 1 MiB is enough to refuse it; the frames before it count."""
    reader = v3.FrameReader()
    ping = v3.encode(Ping(bytes(8)))
    frames = reader.read(ping + b"\x04" + (MAX_FRAME_LENGTH + 1).to_bytes(4, "big"))
    assert frames == [(12, bytes(8))]
    assert isinstance(reader.broken, RelayError)
    assert reader.read(ping) == []


def test_encoding_an_oversized_frame_is_our_error() -> None:
    """What the peer would refuse is not written."""
    with pytest.raises(LocalProtocolError, match="1048576"):
        v3.encode(Health("x" * (MAX_FRAME_LENGTH + 1)))


def test_datagrams_are_packed_up_to_the_packet_limit() -> None:
    """A new packet begins when the next datagram with its length would exceed 65504 bytes."""
    full = bytes(65504 // 2 - 2)
    assert [len(packet) for packet in v3.pack_datagrams([full, full])] == [65504]
    assert [len(packet) for packet in v3.pack_datagrams([full, full, b""])] == [65504, 2]
    assert v3.pack_datagrams([]) == []


def test_the_longest_datagram_fits_and_one_byte_more_does_not() -> None:
    """65502 bytes is the longest datagram."""
    [packet] = v3.pack_datagrams([bytes(65502)])
    assert v3.unpack_datagrams(packet) == [bytes(65502)]
    with pytest.raises(LocalProtocolError, match="65503"):
        v3.pack_datagrams([bytes(65503)])


def test_unpacking_stops_at_a_length_that_does_not_fit() -> None:
    """Datagrams before a malformed length are delivered, the rest is dropped."""
    assert v3.unpack_datagrams(b"\x01\x00a\x05\x00abc") == [b"a"]
    assert v3.unpack_datagrams(b"\x01\x00a\x05") == [b"a"]
    assert v3.unpack_datagrams(b"") == []


def test_client_info_proves_the_sender() -> None:
    """The signature in a ClientInfo is checked against its node id."""
    assert verify_client_info(client_info(_KEY42)) == _KEY42.node_id


@pytest.mark.parametrize(
    "info",
    [
        ClientInfo(_KEY42.node_id.raw, bytes(64), b"\x03"),
        ClientInfo(_KEY1, _KEY42.sign(b"\x03"), b"\x03"),
        ClientInfo(_KEY42.node_id.raw, _KEY42.sign(b"\x02"), b"\x02"),
        ClientInfo(b"\xff" * 32, bytes(64), b"\x03"),
    ],
    ids=["no-signature", "stolen-id", "old-version", "no-key"],
)
def test_client_info_that_proves_nothing_is_refused(info: ClientInfo) -> None:
    """Nobody logs in with a wrong signature, another's id, another version or a point off the curve."""
    with pytest.raises(RelayError):
        verify_client_info(info)
