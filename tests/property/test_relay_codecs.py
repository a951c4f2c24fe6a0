"""Relay codecs under any input: values or the protocol error, and the same whatever the segmentation."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from iroh_py.errors import RelayError
from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    ClientAuth,
    ClientInfo,
    Health,
    KeepAlive,
    NodeGone,
    NotePreferred,
    Ping,
    Pong,
    RecvDatagrams,
    RecvPacket,
    Restarting,
    SendDatagrams,
    SendPacket,
    ServerChallenge,
    ServerConfirmsAuth,
    ServerDeniesAuth,
    Status,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.machine import RelayMachine
from iroh_py.proto.relay.upgrade import Generation, answer_upgrade
from iroh_py.proto.relay.websocket import WebSocket
from iroh_py.relay_url import RelayUrl

_IDS = st.binary(min_size=32, max_size=32)
_PINGS = st.binary(min_size=8, max_size=8)
_MILLISECONDS = st.integers(0, 2**32 - 1).map(lambda value: value / 1000)
_COMMON = (
    st.builds(NodeGone, _IDS)
    | st.builds(Ping, _PINGS)
    | st.builds(Pong, _PINGS)
    | st.builds(Restarting, _MILLISECONDS, _MILLISECONDS)
)
_V3: st.SearchStrategy[V3Frame] = (
    _COMMON
    | st.builds(Health, st.text(max_size=50))
    | st.builds(ClientInfo, _IDS, st.binary(min_size=64, max_size=64), st.binary(min_size=1, max_size=3))
    | st.builds(SendPacket, _IDS, st.binary(max_size=200))
    | st.builds(RecvPacket, _IDS, st.binary(max_size=200))
    | st.just(KeepAlive())
    | st.builds(NotePreferred, st.booleans())
)
_ECN = st.integers(0, 3)
_SEGMENT = st.integers(0, 0xFFFF)
_V1: st.SearchStrategy[V1Frame] = (
    _COMMON
    | st.builds(Status, st.integers(0, 255))
    | st.builds(ServerChallenge, st.binary(min_size=16, max_size=16))
    | st.builds(ClientAuth, _IDS, st.binary(min_size=64, max_size=64))
    | st.just(ServerConfirmsAuth())
    | st.builds(ServerDeniesAuth, st.text(max_size=200))
    | st.builds(SendDatagrams, _IDS, st.binary(max_size=200), _ECN, _SEGMENT)
    | st.builds(RecvDatagrams, _IDS, st.binary(max_size=200), _ECN, _SEGMENT)
)
_CUTS = st.lists(st.integers(0, 400), max_size=20)
_URL = RelayUrl.parse("http://relay.example")
_SECRET = SecretKey(bytes([1]) * 32)


def _split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def _fed(read: Callable[[bytes], list[object]], pieces: list[bytes]) -> list[object]:
    return [event for piece in pieces for event in read(piece)]


@given(_V3)
def test_v3_frames_round_trip(frame: V3Frame) -> None:
    """decode(encode(frame)) is the frame, in both framings."""
    [(kind, payload)] = v3.FrameReader().read(v3.encode(frame))
    assert v3.decode(kind, payload) == frame == v3.decode_message(v3.encode_message(frame))


@given(_V1)
def test_v1_frames_round_trip(frame: V1Frame) -> None:
    """decode(encode(frame)) is the frame."""
    assert v1.decode(v1.encode(frame)) == frame


@given(st.integers(-1, 300), st.binary(max_size=300))
def test_any_v3_payload_gives_a_frame_or_the_error(kind: int, payload: bytes) -> None:
    """No input raises anything but RelayError, and what decodes encodes to the same bytes."""
    try:
        frame = v3.decode(kind, payload)
    except RelayError:
        return
    assert v3.encode_message(frame) == bytes((kind,)) + payload


@given(st.binary(max_size=300), st.sampled_from(v1.SUBPROTOCOLS))
def test_any_v1_message_gives_a_frame_or_the_error(message: bytes, subprotocol: str) -> None:
    """No input raises anything but RelayError."""
    try:
        frame = v1.decode(message, subprotocol)
    except RelayError:
        return
    assert v1.decode(v1.encode(frame), subprotocol) == frame


@given(st.lists(_V3, max_size=6), st.binary(max_size=40), _CUTS)
def test_any_split_of_a_v3_stream_gives_the_same_frames(
    frames: list[V3Frame], garbage: bytes, cuts: list[int]
) -> None:
    """However TCP cuts the stream, valid or not, the same frames come out, and the same verdict."""
    wire = b"".join(map(v3.encode, frames)) + garbage
    whole, cut = v3.FrameReader(), v3.FrameReader()
    expected = whole.read(wire)
    assert _fed(cut.read, _split(wire, cuts)) == expected  # type: ignore[arg-type]
    assert str(cut.broken) == str(whole.broken)
    assert [v3.decode(kind, payload) for kind, payload in expected[: len(frames)]] == frames


@given(st.lists(st.binary(max_size=200), max_size=6), st.binary(max_size=40), _CUTS)
def test_any_split_of_a_websocket_stream_gives_the_same_messages(
    messages: list[bytes], garbage: bytes, cuts: list[int]
) -> None:
    """The same for websocket messages, followed by anything."""
    sender = WebSocket(client=True)
    wire = b"".join(map(sender.send, messages)) + garbage
    whole, cut = WebSocket(client=False), WebSocket(client=False)
    expected = whole.read(wire)
    assert _fed(cut.read, _split(wire, cuts)) == expected  # type: ignore[arg-type]
    assert (cut.broken is None, cut.closed) == (whole.broken is None, whole.closed)
    assert expected[: len(messages)] == messages


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_datagram_lists_round_trip(datagrams: list[bytes]) -> None:
    """Packing and unpacking keeps every datagram in order."""
    packets = v3.pack_datagrams(datagrams)
    assert [d for packet in packets for d in v3.unpack_datagrams(packet)] == datagrams


@given(st.binary(max_size=300))
def test_any_packet_content_unpacks(data: bytes) -> None:
    """Whatever a peer packed, unpacking ends, and gives no byte twice."""
    assert sum(2 + len(datagram) for datagram in v3.unpack_datagrams(data)) <= len(data)


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_batches_keep_every_datagram_in_order(datagrams: list[bytes]) -> None:
    """Batching loses only empty datagrams."""
    batches = v1.batch_datagrams(datagrams)
    assert [d for size, data in batches for d in v1.cut_segments(data, size)] == [d for d in datagrams if d]


_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: iroh derp http\r\n\r\n"


def _machine_events(wire: bytes, cuts: list[int], generation: Generation) -> tuple[list[object], bool]:
    machine = RelayMachine(_URL, _SECRET, generation=generation)
    machine.request()
    events = _fed(machine.receive, _split(wire, cuts))  # type: ignore[arg-type]
    return events, machine.broken is None


@given(st.lists(_V3, max_size=4), st.binary(max_size=30), _CUTS)
def test_client_machine_does_not_depend_on_the_split(
    frames: list[V3Frame], garbage: bytes, cuts: list[int]
) -> None:
    """Upgrade answer, frames and garbage: the same frames and the same verdict in any segmentation."""
    wire = _SWITCH + b"".join(map(v3.encode, frames)) + garbage
    assert _machine_events(wire, cuts, Generation.V3_NATIVE) == _machine_events(
        wire, [], Generation.V3_NATIVE
    )


@given(st.binary(max_size=200), _CUTS, st.sampled_from(Generation))
def test_client_machine_survives_any_relay(wire: bytes, cuts: list[int], generation: Generation) -> None:
    """A relay that sends anything at all breaks the connection and nothing else."""
    _machine_events(wire, cuts, generation)


@given(
    st.dictionaries(
        st.sampled_from(
            ["upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol", "host"]
        ),
        st.text(max_size=40)
        | st.sampled_from(["websocket", "iroh derp http", "13", "iroh-relay-v1", "dGhlIHNhbXBsZSBub25jZQ=="]),
    )
)
def test_any_upgrade_request_is_accepted_or_refused(headers: dict[str, str]) -> None:
    """The server's decision is total: 101 with a generation or 400 without."""
    answer = answer_upgrade(headers)
    assert (answer.status, answer.generation is None) in ((101, False), (400, True))
