"""Frames of the 1.x relay protocol."""

from __future__ import annotations

import pytest
from relay_kit import relay_vector

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v1
from iroh_py.proto.relay.frames import (
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
from iroh_py.proto.relay.handshake import challenge_message, client_auth, verify_client_auth

_KEY1 = SecretKey(bytes([1]) * 32)
_ID1 = _KEY1.node_id.raw
_ID2 = SecretKey(bytes([2]) * 32).node_id.raw
_ID42 = SecretKey(bytes([42]) * 32).node_id.raw
_CHALLENGE = bytes(range(16))

_FRAMES: list[tuple[str, V1Frame]] = [
    ("relay1.ServerChallenge 00..0f", ServerChallenge(_CHALLENGE)),
    ("relay1.ClientAuth by key1", client_auth(_KEY1, _CHALLENGE)),
    ("relay1.ServerConfirmsAuth", ServerConfirmsAuth()),
    ("relay1.ServerDeniesAuth 'not authorized'", ServerDeniesAuth("not authorized")),
    ("relay1.ClientToRelayDatagram key2 ecn0 'hello'", SendDatagrams(_ID2, b"hello")),
    (
        "relay1.RelayToClientDatagramBatch (seed 2a) ce seg6",
        RecvDatagrams(_ID42, b"Hello World!", ecn=3, segment_size=6),
    ),
    ("relay1.Ping", Ping(b"\x2a" * 8)),
    ("relay1.Pong", Pong(b"\x2a" * 8)),
    ("relay1.EndpointGone key1", NodeGone(_ID1)),
    ("relay2.Status same-id", Status(1)),
]


@pytest.mark.parametrize(("name", "frame"), _FRAMES, ids=[type(frame).__name__ for _, frame in _FRAMES])
def test_frame_matches_the_vector_in_both_directions(name: str, frame: V1Frame) -> None:
    """Each frame has the bytes of the original and reads back as itself."""
    wire = bytes.fromhex(relay_vector(name))
    assert v1.encode(frame) == wire
    assert v1.decode(wire) == frame


def test_challenge_is_derived_as_the_original_does() -> None:
    """What a client signs is BLAKE3's derived key of the challenge."""
    assert challenge_message(_CHALLENGE).hex() == relay_vector("relay1.message_to_sign")


def test_health_and_status_belong_to_one_version_each() -> None:
    """Type 11 exists in v1 only, type 13 in v2 only."""
    health, status = v1.encode(Health("sick")), v1.encode(Status(0))
    assert v1.decode(health, v1.SUBPROTOCOL_V1) == Health("sick")
    assert v1.decode(status, v1.SUBPROTOCOL_V2) == Status(0)
    with pytest.raises(RelayError, match="does not exist"):
        v1.decode(health, v1.SUBPROTOCOL_V2)
    with pytest.raises(RelayError, match="does not exist"):
        v1.decode(status, v1.SUBPROTOCOL_V1)


def test_restarting_carries_seconds_as_milliseconds() -> None:
    """Times are seconds in our values and milliseconds on the wire."""
    wire = bytes.fromhex("0c0000000a00000014")
    assert v1.encode(Restarting(0.01, 0.02)) == wire
    assert v1.decode(wire) == Restarting(0.01, 0.02)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x0e",
        b"\x40\x01",
        b"\x00" + bytes(15),
        b"\x01" + bytes(96),
        b"\x01" + bytes(97),
        b"\x02x",
        b"\x03\x05abc",
        b"\x03\x80\x80\x80",
        b"\x03",
        b"\x03\x01\xff",
        b"\x04" + bytes(32),
        b"\x04" + bytes(32) + b"\x04x",
        b"\x05" + bytes(34),
        b"\x08" + bytes(31),
        b"\x09" + bytes(9),
        b"\x0d",
        b"\x04" + bytes(65537),
    ],
)
def test_malformed_message_is_refused(message: bytes) -> None:
    """A message that is not exactly one frame raises the protocol error."""
    with pytest.raises(RelayError):
        v1.decode(message)


def test_equally_long_datagrams_become_one_batch() -> None:
    """Runs share a frame; the last one may be shorter, a longer one begins a new run, empty ones vanish."""
    assert v1.batch_datagrams([b"aa", b"bb", b"c"]) == [(2, b"aabbc")]
    assert v1.batch_datagrams([b"aa", b"b", b"cc"]) == [(2, b"aab"), (0, b"cc")]
    assert v1.batch_datagrams([b"a", b"bb"]) == [(0, b"a"), (0, b"bb")]
    assert v1.batch_datagrams([b"", b"x", b""]) == [(0, b"x")]


def test_batches_respect_the_frame_limit() -> None:
    """No batch is longer than a frame may be, and a datagram that fits nowhere is our error."""
    for segment, data in v1.batch_datagrams([bytes(1200)] * 200):
        assert len(v1.encode(SendDatagrams(_ID1, data, 0, segment))) <= 1 + 65536
    v1.decode(v1.encode(SendDatagrams(_ID1, bytes(65503))))
    with pytest.raises(LocalProtocolError):
        v1.batch_datagrams([bytes(65504)])


def test_segments_are_cut_as_announced() -> None:
    """A segment size of 0 means one datagram."""
    assert v1.cut_segments(b"aabbc", 2) == [b"aa", b"bb", b"c"]
    assert v1.cut_segments(b"aabbc", 0) == [b"aabbc"]
    assert v1.cut_segments(b"", 0) == []


def test_answer_to_the_challenge_proves_the_sender() -> None:
    """A client that signs this challenge is who it says."""
    assert verify_client_auth(client_auth(_KEY1, _CHALLENGE), _CHALLENGE) == _KEY1.node_id


@pytest.mark.parametrize(
    "auth",
    [
        client_auth(_KEY1, bytes(16)),
        ClientAuth(_ID2, client_auth(_KEY1, _CHALLENGE).signature),
        ClientAuth(b"\xff" * 32, bytes(64)),
    ],
    ids=["replayed", "stolen-id", "no-key"],
)
def test_answer_that_proves_nothing_is_refused(auth: ClientAuth) -> None:
    """The answer to another challenge, or for another id, lets nobody in."""
    with pytest.raises(RelayError):
        verify_client_auth(auth, _CHALLENGE)
