"""The scapy layers: what they show, and that they rebuild to the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from packet_kit import ALICE, BOB, EVE, sealed, udp, udp6
from scapy.packet import Packet, Raw

from iroh_py.addr import RelayUrl
from iroh_py.proto import disco, stun
from iroh_py.proto.relay import frames, v1, v3
from pytest_iroh.packets import (
    Disco,
    DiscoCallMeMaybe,
    DiscoPing,
    DiscoPong,
    RelayFrame,
    RelayFrameV1,
    Stun,
    annotate,
    dissect,
    register_keys,
)

TX = bytes(range(12))


@pytest.fixture
def bob_is_known() -> Iterator[None]:
    forget = register_keys(BOB)
    yield
    forget()


def opened(message: disco.Message) -> Packet:
    packet: Packet = dissect(udp(sealed(message)))
    return packet


def test_a_sealed_packet_shows_its_sender_only() -> None:
    """Without keys there is the claimed sender and a box."""
    packet = opened(disco.Ping(TX, ALICE.node_id))
    assert packet[Disco].sender == ALICE.node_id.raw
    assert DiscoPing not in packet


@pytest.mark.usefixtures("bob_is_known")
def test_a_ping_opens_with_the_receivers_key() -> None:
    """The message is the payload of the Disco layer."""
    packet = opened(disco.Ping(TX, ALICE.node_id, padding=3))
    ping = packet[DiscoPing]
    assert (ping.tx_id, ping.node_id, ping.padding) == (TX, ALICE.node_id.raw, bytes(3))


def test_a_ping_opens_with_the_senders_key_once_the_receiver_spoke() -> None:
    """Our own secret opens what we sent to anybody whose id was seen."""
    forget = register_keys(ALICE)
    try:
        assert DiscoPing in dissect(udp(sealed(disco.Ping(TX, BOB.node_id), BOB, ALICE)))
        assert DiscoPing in opened(disco.Ping(TX, ALICE.node_id))
    finally:
        forget()


@pytest.mark.usefixtures("bob_is_known")
def test_a_packet_for_somebody_else_stays_closed() -> None:
    """Keys that do not fit open nothing."""
    assert DiscoPing not in dissect(udp(sealed(disco.Ping(TX, ALICE.node_id), ALICE, EVE)))


@pytest.mark.usefixtures("bob_is_known")
@pytest.mark.parametrize(
    ("observed", "wanted"),
    [
        (("203.0.113.5", 4242), {"ip": "203.0.113.5", "port": 4242}),
        (("2001:db8::5", 4242), {"ip": "2001:db8::5", "port": 4242}),
        (RelayUrl.parse("https://relay.example/"), {"relay": b"https://relay.example./"}),
    ],
)
def test_a_pong_shows_where_the_ping_came_from(observed: Any, wanted: dict[str, object]) -> None:
    """An address, or the relay."""
    pong = opened(disco.Pong(TX, observed))[DiscoPong]
    assert {name: getattr(pong, name) for name in wanted} == wanted


@pytest.mark.usefixtures("bob_is_known")
def test_a_call_me_maybe_lists_its_addresses() -> None:
    """In order, IPv4 in its own form."""
    call = opened(disco.CallMeMaybe((("192.168.1.10", 4000), ("2001:db8::1", 5000))))[DiscoCallMeMaybe]
    assert [(a.ip, a.port) for a in call.addresses] == [("192.168.1.10", 4000), ("2001:db8::1", 5000)]


@pytest.mark.usefixtures("bob_is_known")
@pytest.mark.parametrize(
    "message",
    [disco.Ping(TX, ALICE.node_id), disco.Pong(TX, ("1.2.3.4", 5)), disco.CallMeMaybe((("1.2.3.4", 5),))],
)
def test_a_disco_packet_rebuilds_to_its_own_bytes(message: disco.Message) -> None:
    """What was opened is not appended; the message itself rebuilds, too."""
    payload = sealed(message)
    packet = dissect(udp6(payload))
    assert bytes(packet[Disco]) == payload
    plain = packet[Disco].payload
    assert bytes(type(plain)(bytes(plain))) == disco.encode(message)


def test_stun_is_found_on_any_port() -> None:
    """Ports decide nothing."""
    request = dissect(udp(stun.encode_request(TX)))
    assert request[Stun].transaction_id == int.from_bytes(TX, "big")
    response = dissect(udp(stun.encode_response(TX, ("203.0.113.5", 4242))))
    (mapped,) = response[Stun].attributes
    assert (mapped.xip, mapped.xport) == ("203.0.113.5", 4242)


def test_other_datagrams_are_left_alone() -> None:
    """QUIC and the unknown stay raw."""
    assert dissect(udp(b"\x40hello"))[Raw].load == b"\x40hello"


@pytest.mark.usefixtures("bob_is_known")
def test_annotations_tell_what_wireshark_does_not_know() -> None:
    """Disco and STUN in words; nothing about the rest."""
    assert annotate(udp(sealed(disco.Ping(TX, ALICE.node_id)))) == (
        f"disco ping 00010203 from {ALICE.node_id.fmt_short()}"
    )
    assert (
        annotate(udp(stun.encode_response(TX, ("1.2.3.4", 5)))) == "STUN response 00010203: you are 1.2.3.4:5"
    )
    assert annotate(udp(sealed(disco.Ping(TX, ALICE.node_id), ALICE, EVE))) == (
        f"sealed disco packet from {ALICE.node_id.fmt_short()}"
    )
    assert annotate(udp(b"\x40quic")) is None


NODE, SIGNATURE = bytes(32), bytes(64)


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (frames.ClientInfo(NODE, SIGNATURE, b"\x03"), {"node_id": NODE, "message": b"\x03"}),
        (frames.SendPacket(NODE, b"data"), {"node_id": NODE, "data": b"data"}),
        (frames.RecvPacket(NODE, b"data"), {"node_id": NODE, "data": b"data"}),
        (frames.KeepAlive(), {}),
        (frames.NotePreferred(True), {"preferred": 1}),
        (frames.NodeGone(NODE), {"node_id": NODE}),
        (frames.Ping(b"12345678"), {"echo": b"12345678"}),
        (frames.Pong(b"12345678"), {"echo": b"12345678"}),
        (frames.Health("sick"), {"body": b"sick"}),
        (frames.Restarting(1.5, 3.0), {"reconnect_in_ms": 1500, "try_for_ms": 3000}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_frame_of_generation_3_is_shown_and_rebuilds(
    frame: frames.V3Frame, shown: dict[str, object]
) -> None:
    """Fields by name; two frames in one buffer are two layers."""
    data = v3.encode(frame)
    layer = RelayFrame(data + v3.encode(frames.KeepAlive()))
    assert {name: layer.getfieldval(name) for name in shown} == shown
    assert layer.payload.type == v3.FrameType.KEEP_ALIVE
    assert bytes(RelayFrame(data)) == data


@pytest.mark.parametrize(
    ("frame", "shown"),
    [
        (frames.ServerChallenge(bytes(16)), {"challenge": bytes(16)}),
        (frames.ClientAuth(NODE, SIGNATURE), {"node_id": NODE, "signature": SIGNATURE}),
        (frames.ServerConfirmsAuth(), {}),
        (frames.SendDatagrams(NODE, b"data", 2), {"ecn": 2, "data": b"data"}),
        (frames.RecvDatagrams(NODE, b"datadata", 1, 4), {"segment_size": 4, "data": b"datadata"}),
        (frames.NodeGone(NODE), {"node_id": NODE}),
        (frames.Ping(b"12345678"), {"echo": b"12345678"}),
        (frames.Health("sick"), {"text": b"sick"}),
        (frames.Status(2), {"code": 2}),
        (frames.Restarting(1.5, 3.0), {"reconnect_in_ms": 1500, "try_for_ms": 3000}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_message_of_relay_1_is_shown_and_rebuilds(
    frame: frames.V1Frame, shown: dict[str, object]
) -> None:
    """Fields by name."""
    data = v1.encode(frame)
    layer = RelayFrameV1(data)
    assert {name: layer.getfieldval(name) for name in shown} == shown
    assert bytes(layer) == data
