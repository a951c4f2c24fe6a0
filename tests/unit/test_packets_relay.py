"""Relay connections out of TCP segments: reassembly, both generations, both framings."""

from __future__ import annotations

import random

import pytest
from packet_kit import ALICE, LAPTOP, SERVER, sealed, tcp
from wsproto.utilities import generate_nonce

from iroh_py.proto import disco
from iroh_py.proto.relay import frames, v1, v3
from iroh_py.proto.relay.upgrade import Generation
from iroh_py.proto.relay.websocket import WebSocket
from netns_fixtures.tap import Frame
from pytest_iroh.packets import RelayFrame, RelayFrameV1, relay_messages

NODE = ALICE.node_id.raw
PING = frames.Ping(b"12345678")
#: Close to the end of the number space, so that every connection here wraps around.
FIRST = (1 << 32) - 100


class Talk:
    """The segments of one connection."""

    def __init__(self, request: str, answer: str) -> None:
        self.frames: list[Frame] = []
        self._at = {True: FIRST, False: FIRST + 50}
        self._time = 1.0
        for upward in (True, False):
            self._add(b"", upward, "S" if upward else "SA")
            self._at[upward] += 1
        self.say(f"GET /relay HTTP/1.1\r\n{request}\r\n\r\n".encode(), True)
        self.say(f"HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n\r\n".encode(), False)

    def say(self, data: bytes, upward: bool, size: int = 1000) -> None:
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self._add(piece, upward, "PA")
            self._at[upward] += len(piece)

    def _add(self, data: bytes, upward: bool, flags: str) -> None:
        self._time += 0.001
        self.frames.append(tcp(data, self._at[upward], self._time, flags=flags, upward=upward))


def native() -> Talk:
    return Talk("Upgrade: iroh derp http", "upgrade: iroh derp http")


def websocket(protocol: str) -> Talk:
    extra = f"\r\nSec-WebSocket-Protocol: {protocol}" if protocol else ""
    key = generate_nonce().decode()
    return Talk(f"Upgrade: websocket\r\nSec-WebSocket-Key: {key}", f"Upgrade: websocket{extra}")


def test_native_frames_of_both_sides_are_read() -> None:
    """With their direction, addresses, times and layers."""
    talk = native()
    talk.say(v3.encode(frames.ClientInfo(NODE, bytes(64), v3.CLIENT_MESSAGE)), True)
    talk.say(v3.encode(frames.KeepAlive()) + v3.encode(PING), False)
    up, alive, ping = relay_messages(talk.frames)
    assert isinstance(up.frame, frames.ClientInfo)
    assert (up.src, up.dst, up.upward) == ((LAPTOP, 40000), (SERVER, 3340), True)
    assert (alive.frame, ping.frame) == (frames.KeepAlive(), PING)
    assert (ping.upward, ping.src, ping.time) == (False, (SERVER, 3340), talk.frames[-1].time)
    assert isinstance(ping.layer(), RelayFrame)
    assert ping.layer().echo == b"12345678"


def test_segments_may_be_cut_repeated_and_out_of_order() -> None:
    """The stream is what TCP would have delivered."""
    talk = native()
    wanted = [frames.SendPacket(NODE, bytes([n]) * (n * 7)) for n in range(60)]
    talk.say(b"".join(map(v3.encode, wanted)), True, size=97)
    head, body = talk.frames[:4], talk.frames[4:]
    rng = random.Random(1)
    for _ in range(5):
        messy = [*body, *rng.choices(body, k=20)]
        messy.sort(key=lambda f: f.time + rng.uniform(0, 0.01))
        assert [message.frame for message in relay_messages([*head, *messy])] == wanted


@pytest.mark.parametrize("protocol", ["iroh-relay-v1", "iroh-relay-v2"])
def test_websocket_messages_of_relay_1_are_read(protocol: str) -> None:
    """Masked by the client, plain from the server."""
    talk = websocket(protocol)
    sent = frames.SendDatagrams(NODE, b"abcdef", 0, 2)
    talk.say(WebSocket(client=True).send(v1.encode(sent)), True)
    talk.say(WebSocket(client=False).send(v1.encode(PING)), False)
    up, down = relay_messages(talk.frames)
    assert (up.frame, up.datagrams) == (sent, [b"ab", b"cd", b"ef"])
    assert (down.frame, down.generation) == (PING, Generation(protocol))
    assert isinstance(down.layer(), RelayFrameV1)


def test_generation_3_over_a_websocket_shows_the_same_layer() -> None:
    """Its header is made up, so that both framings look alike."""
    talk = websocket("")
    datagrams = [sealed(disco.CallMeMaybe(())), b"quic"]
    (packed,) = v3.pack_datagrams(datagrams)
    talk.say(WebSocket(client=True).send(v3.encode_message(frames.SendPacket(NODE, packed))), True)
    (message,) = relay_messages(talk.frames)
    assert message.generation is Generation.V3_WEBSOCKET
    assert message.datagrams == datagrams
    assert message.layer().node_id == NODE


@pytest.mark.parametrize(
    "talk",
    [
        Talk("Host: x", "Server: nginx"),
        Talk("Upgrade: websocket", "Upgrade: h2c"),
        Talk("Upgrade: websocket", "Upgrade: websocket\r\nSec-WebSocket-Protocol: chat"),
    ],
)
def test_other_connections_give_nothing(talk: Talk) -> None:
    """Plain HTTP, and upgrades to something else."""
    talk.say(v3.encode(PING), False)
    assert relay_messages(talk.frames) == []


def test_hostile_bytes_are_left_out() -> None:
    """What breaks the protocol is no message, and no exception."""
    talk = native()
    talk.say(b"\x63\x00\x00\x00\x02xx" + v3.encode(PING), True)
    talk.say(b"\xff" * 50, False)
    assert [message.frame for message in relay_messages(talk.frames)] == [PING]


def test_a_reused_pair_of_ports_is_a_new_connection() -> None:
    """A SYN with another number begins again; the same SYN twice does not."""
    first, second = native(), native()
    first.say(v3.encode(PING), True)
    shifted = Talk.__new__(Talk)
    shifted.__dict__.update(frames=[], _at={True: 5_000, False: 9_000}, _time=3.0)
    for upward in (True, False):
        shifted._add(b"", upward, "S" if upward else "SA")
        shifted._at[upward] += 1
    shifted.say(b"GET /relay HTTP/1.1\r\nUpgrade: iroh derp http\r\n\r\n", True)
    shifted.say(b"HTTP/1.1 101 x\r\nupgrade: iroh derp http\r\n\r\n", False)
    shifted.say(v3.encode(frames.KeepAlive()), True)
    repeated = [first.frames[0], *first.frames, *shifted.frames]
    assert [message.frame for message in relay_messages(repeated)] == [PING, frames.KeepAlive()]
    assert relay_messages(second.frames) == []
