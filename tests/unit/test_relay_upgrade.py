"""The HTTP entry of the relay protocol, and the client's machine behind it."""

from __future__ import annotations

import pytest

from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    NodeGone,
    Ping,
    Pong,
    RecvDatagrams,
    RecvPacket,
    SendPacket,
    ServerChallenge,
    ServerConfirmsAuth,
    ServerDeniesAuth,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.handshake import client_auth, client_info
from iroh_py.proto.relay.machine import Phase, RelayMachine, received_datagrams
from iroh_py.proto.relay.upgrade import Generation, host_header, native_request
from iroh_py.proto.relay.websocket import WebSocket, accept_token
from iroh_py.relay_url import RelayUrl

_SECRET = SecretKey(bytes([1]) * 32)
_URL = RelayUrl.parse("http://relay.example:3340")
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: iroh derp http\r\n\r\n"
#: RFC 6455 section 1.3.
_NONCE = b"the sample nonce"
_NONCE_KEY, _NONCE_ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://relay.example:3340", "relay.example:3340"),
        ("https://relay.example", "relay.example"),
        ("https://relay.example:80", "relay.example:80"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://[::1]:3340", "[::1]:3340"),
    ],
)
def test_host_header_has_no_dot_and_only_an_explicit_port(url: str, host: str) -> None:
    """As real clients send it."""
    assert host_header(RelayUrl.parse(url)) == host


def test_native_request_is_byte_for_byte_the_originals() -> None:
    """Three lines, lower-case names, no Connection header."""
    assert native_request(_URL) == (
        b"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\nhost: relay.example:3340\r\n\r\n"
    )


def test_websocket_accept_is_that_of_the_rfc() -> None:
    """The RFC's own example."""
    assert accept_token(_NONCE_KEY) == _NONCE_ACCEPT


def _native(answer: bytes = _SWITCH) -> RelayMachine:
    machine = RelayMachine(_URL, _SECRET)
    machine.request()
    machine.data_to_send()
    machine.receive(answer)
    return machine


def test_generation_3_is_ready_after_one_frame() -> None:
    """Identity is shown only when asked for, and no reply is awaited."""
    machine = _native()
    assert machine.phase == Phase.UPGRADED
    assert machine.data_to_send() == b""
    machine.authenticate()
    assert machine.phase.value == "ready"
    assert machine.data_to_send() == v3.encode(client_info(_SECRET))


def test_frames_of_generation_3_pass_through_the_machine() -> None:
    """Received frames come out, commands become frames."""
    machine = _native()
    machine.authenticate()
    machine.data_to_send()
    frames: list[V3Frame] = [RecvPacket(bytes(32), b"\x02\x00hi"), Ping(bytes(8)), NodeGone(bytes(32))]
    assert machine.receive(b"".join(v3.encode(frame) for frame in frames)) == frames
    assert received_datagrams(frames[0]) == [b"hi"]  # type: ignore[arg-type]
    machine.send_datagrams(bytes(32), [b"a", b"bc"])
    machine.send_ping(b"12345678")
    machine.send_pong(b"87654321")
    assert machine.has_data_to_send
    assert machine.data_to_send() == (
        v3.encode(SendPacket(bytes(32), b"\x01\x00a\x02\x00bc"))
        + v3.encode(Ping(b"12345678"))
        + v3.encode(Pong(b"87654321"))
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 10_000,
        _SWITCH + v3.encode(SendPacket(bytes(32), b"")),
    ],
    ids=["ok", "bad-request", "websocket", "continue", "nonsense", "endless", "clients-frame"],
)
def test_anything_but_the_upgrade_breaks_the_machine(answer: bytes) -> None:
    """The error is kept, nothing is raised, and nothing more is read."""
    machine = _native(answer)
    assert machine.broken is not None
    assert machine.receive(v3.encode(Ping(bytes(8)))) == []


class _Relay1x:
    """The relay's side of a 1.x conversation."""

    def __init__(self, *, subprotocol: str = v1.SUBPROTOCOL_V2, accept: str = _NONCE_ACCEPT) -> None:
        self.machine = RelayMachine(_URL, _SECRET, generation=Generation.V2, nonce=_NONCE, token="t0k")
        self.machine.request()
        self.request = self.machine.data_to_send()
        self.socket = WebSocket(client=False)
        head = f"HTTP/1.1 101 x\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n"
        self.machine.receive(f"{head}sec-websocket-protocol: {subprotocol}\r\n\r\n".encode())

    def say(self, frame: V1Frame) -> list[object]:
        """Send a frame; what the client's machine makes of it."""
        return list(self.machine.receive(self.socket.send(v1.encode(frame))))

    def heard(self) -> list[V1Frame]:
        """What the client sent."""
        return [v1.decode(message) for message in self.socket.read(self.machine.data_to_send())]


def test_1x_login_answers_the_challenge() -> None:
    """Offer, token, challenge, answer, confirmation, and only then frames."""
    relay = _Relay1x()
    assert b"sec-websocket-protocol: iroh-relay-v2, iroh-relay-v1\r\n" in relay.request
    assert b"authorization: Bearer t0k\r\n" in relay.request
    relay.say(ServerChallenge(bytes(16)))
    assert relay.heard() == []
    relay.machine.authenticate()
    assert relay.heard() == [client_auth(_SECRET, bytes(16))]
    assert relay.machine.phase is Phase.UPGRADED
    relay.say(ServerConfirmsAuth())
    assert relay.machine.phase.value == "ready"
    batch = RecvDatagrams(bytes(32), b"aabbc", 2, 2)
    assert relay.say(batch) == [batch]
    assert received_datagrams(batch) == [b"aa", b"bb", b"c"]


@pytest.mark.parametrize(
    "frames",
    [
        [ServerConfirmsAuth()],
        [ServerChallenge(bytes(16)), ServerChallenge(bytes(16))],
        [ServerChallenge(bytes(16)), ServerDeniesAuth("not authorized")],
        [Ping(bytes(8))],
        [ServerChallenge(bytes(16)), ServerConfirmsAuth(), ServerConfirmsAuth()],
    ],
    ids=["unasked", "two-challenges", "denied", "too-early", "again"],
)
def test_1x_relay_that_breaks_the_login_is_left(frames: list[V1Frame]) -> None:
    """Every step has its place."""
    relay = _Relay1x()
    relay.machine.authenticate()
    for frame in frames:
        relay.say(frame)
    assert relay.machine.broken is not None


def test_1x_relay_must_choose_what_was_offered_and_know_our_key() -> None:
    """A cache or another protocol behind the port is noticed."""
    assert _Relay1x(subprotocol="chat").machine.broken is not None
    assert _Relay1x(accept="wrong").machine.broken is not None
    assert _Relay1x(subprotocol=v1.SUBPROTOCOL_V1).machine.generation is Generation.V1
