"""Whatever arrives, from anywhere, in any state: the core neither raises nor grows without bound."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from iroh_py.addr import NodeAddr, RelayUrl
from iroh_py.config import EndpointConfig
from iroh_py.keys import SecretKey
from iroh_py.network import Addr
from iroh_py.proto.endpoint_core import EndpointCore
from iroh_py.proto.paths import RelayPath, UdpPath

ALPN = "fuzz/0"
NEAR: Addr = ("192.0.2.1", 1111)
FAR: Addr = ("198.51.100.1", 2222)
RELAY = RelayUrl.parse("http://relay.example")


class Wire:
    """Two cores and the datagrams between them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.near = EndpointCore(SecretKey(b"n" * 32), EndpointConfig(), (), random.Random(1))
        self.far = EndpointCore(SecretKey(b"f" * 32), EndpointConfig(), (ALPN,), random.Random(2))
        self.seen: list[bytes] = []
        self.session = self.near.dial(
            self.now, NodeAddr(self.far.secret_key.node_id, direct_addresses=[FAR]), ALPN
        )

    def step(self) -> None:
        """Carry everything that is due, once, and let a little time pass."""
        self.now += 0.01
        for core, other, source in ((self.near, self.far, NEAR), (self.far, self.near, FAR)):
            core.handle_timeout(self.now)
            core.flush(self.now)
            while core.transmits:
                transmit = core.transmits.popleft()
                self.seen += transmit.payloads
                if isinstance(transmit.path, UdpPath):
                    other.handle_datagrams(self.now, [(data, source, 0) for data in transmit.payloads])
            core.session_events.clear()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


def test_two_cores_connect_over_this_wire() -> None:
    """The fixture of this file works: otherwise nothing here would mean anything."""
    wire = Wire()
    wire.run(20)
    assert wire.session.handshake_done
    assert wire.near.node_of(wire.session) is not None


ADDRESSES = st.tuples(st.sampled_from(["192.0.2.1", "203.0.113.5", "2001:db8::7"]), st.integers(1, 65535))


@settings(max_examples=60)
@given(
    data=st.data(),
    steps=st.integers(0, 12),
)
def test_garbage_and_mutated_packets_do_no_harm(data: st.DataObject, steps: int) -> None:
    """Any bytes, and real packets with bytes changed, cut or replayed from elsewhere, in any state of a connection."""
    wire = Wire()
    wire.run(steps)
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()) and wire.seen:
            packet = bytearray(data.draw(st.sampled_from(wire.seen)))
            for _ in range(data.draw(st.integers(0, 3))):
                packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
            payload = bytes(packet[: data.draw(st.integers(0, len(packet)))])
        else:
            payload = data.draw(st.binary(max_size=80))
        target = data.draw(st.sampled_from([wire.near, wire.far]))
        if data.draw(st.booleans()):
            target.handle_datagrams(wire.now, [(payload, data.draw(ADDRESSES), 0)])
        else:
            sender = data.draw(st.sampled_from([wire.near, wire.far])).secret_key.node_id
            target.handle_relay_datagrams(wire.now, RELAY, sender, [payload])
        wire.step()
    wire.run(40)
    assert wire.session.handshake_done
    assert not wire.session.closed


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_crowd_of_strangers_state_stays_bounded(seed: int) -> None:
    """Never 10: thousands of authentic pings of thousands of nodes leave a bounded number of states behind."""
    rng = random.Random(seed)
    wire = Wire()
    wire.run(20)
    strangers = [
        EndpointCore(SecretKey(rng.randbytes(32)), EndpointConfig(), (), random.Random(n)) for n in range(40)
    ]
    for stranger in strangers:
        stranger.dial(wire.now, NodeAddr(wire.far.secret_key.node_id, direct_addresses=[FAR]), ALPN)
        stranger.flush(wire.now)
        while stranger.transmits:
            for data in stranger.transmits.popleft().payloads:
                source = (f"203.0.113.{rng.randrange(1, 255)}", rng.randrange(1, 65536))
                wire.far.handle_datagrams(wire.now, [(data, source, 0)])
    wire.run(10)
    assert len(wire.far.magic.nodes) <= 256 + 1
    assert len(wire.far.entries) <= 256 + 1
    assert wire.session.handshake_done
    assert not wire.session.closed


def test_relayed_packet_in_anothers_name_is_dropped() -> None:
    """Never 3: a relay client cannot hand over packets that somebody else sealed."""
    wire = Wire()
    wire.run(20)
    ping = next(p for p in wire.seen if p[:2] == b"TS" and p[6:38] == wire.near.secret_key.node_id.raw)
    stranger = SecretKey(b"s" * 32).node_id
    before = wire.far.dropped
    wire.far.handle_relay_datagrams(wire.now, RELAY, stranger, [ping])
    assert wire.far.dropped == before + 1
    assert stranger not in wire.far.magic.nodes


def test_call_me_maybe_over_udp_is_ignored() -> None:
    """PROTOCOL 2.5: accepted over a relay only."""
    wire = Wire()
    wire.run(20)
    node = wire.near.magic.nodes[wire.far.secret_key.node_id]
    node.add_addresses(wire.now, [], RELAY, told=True)
    wire.near.magic.handle_own_addresses(wire.now, (("192.0.2.99", 9),))
    offers = [t for t in wire.near.transmits if isinstance(t.path, RelayPath)]
    assert offers
    known = len(wire.far.magic.nodes[wire.near.secret_key.node_id].paths)
    for transmit in offers:
        wire.far.handle_datagrams(wire.now, [(data, NEAR, 0) for data in transmit.payloads])
    assert len(wire.far.magic.nodes[wire.near.secret_key.node_id].paths) == known
