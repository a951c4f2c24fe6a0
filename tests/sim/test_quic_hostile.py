"""Bytes from strangers and from peers that break the rules: nothing escapes, and nothing breaks by them."""

from __future__ import annotations

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
from quic_pair import ALPN, CLIENT_KEY, CONFIG, SERVER_KEY, Pair

from iroh_py.errors import PeerClosedError, TransportError
from iroh_py.proto.quic import SessionTable


@functools.cache
def first_packet() -> bytes:
    """A genuine first packet of a client."""
    return SessionTable(CLIENT_KEY, CONFIG).dial(0.0, SERVER_KEY.node_id, ALPN).transmit(0.0)[0]


def alive(pair: Pair) -> None:
    """Fail unless data still flows both ways."""
    for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
        stream = side.quic.open_stream(False)
        side.quic.write(stream, b"ping", fin=True)
        pair.run(functools.partial(other.finished.issuperset, {stream}), within=1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1500))
def test_any_bytes_are_dropped(data: bytes) -> None:
    """Random datagrams make no session, no event and no exception."""
    table = SessionTable(SERVER_KEY, CONFIG)
    assert table.receive(0.0, data, accept=True) == (None, False)
    assert len(table.sessions) == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=1200, max_size=1300), st.integers(8, 20))
def test_any_bytes_after_an_initial_header_are_dropped(data: bytes, length: int) -> None:
    """A first packet that does not decrypt leaves no session behind."""
    table = SessionTable(SERVER_KEY, CONFIG)
    packet = b"\xc3\x00\x00\x00\x01" + bytes([length]) + data
    assert table.receive(0.0, packet, accept=True) == (None, False)
    assert len(table.sessions) == 0
    assert table._routes == {}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1199), st.integers(1, 255), st.integers(0, 1200))
def test_changed_or_cut_first_packet_never_raises(position: int, flip: int, length: int) -> None:
    """Each byte of a genuine first packet may change, and it may end early."""
    table = SessionTable(SERVER_KEY, CONFIG)
    packet = bytearray(first_packet())
    packet[position] ^= flip
    for data in (bytes(packet), bytes(packet[:length])):
        session, fresh = table.receive(0.0, data, accept=True)
        assert not fresh
        if session is not None:
            session.transmit(0.0)
            assert not session.closed
            assert session.broken_packets == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 255)), min_size=1, max_size=4), st.booleans())
def test_changed_packets_of_a_connection_change_nothing(flips: list[tuple[int, int]], late: bool) -> None:
    """Mutations of every packet, during and after the handshake, beside the genuine ones: it goes on."""
    pair = Pair.connected() if late else Pair()
    plain_deliver = pair._deliver

    def deliver(side: object, datagrams: list[bytes]) -> None:
        both = []
        for datagram in datagrams:
            broken = bytearray(datagram)
            for position, flip in flips:
                broken[position % len(broken)] ^= flip
            if broken != datagram:
                both.append(bytes(broken))
            both.append(datagram)
        plain_deliver(side, both)  # type: ignore[arg-type]

    pair._deliver = deliver  # type: ignore[method-assign]
    if not late:
        pair.run(lambda: pair.client.quic.handshake_done and pair.server.quic.handshake_done, within=3)
    alive(pair)
    assert pair.client.quic.broken_packets == pair.server.quic.broken_packets == 0


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=1000))
def test_authenticated_garbage_closes_with_a_transport_error_at_worst(payload: bytes) -> None:
    """A peer that holds the keys may send any frames: they are handled or the connection ends, typed."""
    pair = Pair.connected()
    pair.advance(1)
    engine = pair.client.quic._engine
    number = engine._packet_number
    header = bytes([0x41]) + engine._peer_cid.cid + (number & 0xFFFF).to_bytes(2, "big")
    crypto = engine._cryptos[next(epoch for epoch in engine._cryptos if epoch.name == "ONE_RTT")]
    packet = crypto.encrypt_packet(header, payload + bytes(4), number)
    pair.server.quic.receive(pair.now, packet)
    pair.pump()
    assert pair.server.quic.broken_packets == 0
    if pair.server.closed is not None and pair.server.closed.error is not None:
        error = pair.server.closed.error
        closes = isinstance(error, PeerClosedError) and not {0x1C, 0x1D}.isdisjoint(payload)
        assert isinstance(error, TransportError) or closes


def test_stateless_packets_of_a_stranger_do_not_touch_a_connection() -> None:
    """Someone who saw the connection ids but has no keys can neither reset nor close nor move it."""
    pair = Pair.connected()
    pair.advance(1)
    client, server = pair.client.quic, pair.server.quic
    for cid in client.cids():
        for kind in (0x40, 0x50, 0xC0, 0xD0, 0xE0, 0xF0):
            head = bytes([kind]) + (b"" if kind < 0x80 else b"\x00\x00\x00\x01\x08") + cid
            assert not client.receive(pair.now, head + bytes(1200))
    version_negotiation = b"\x80\x00\x00\x00\x00\x08" + server.cids()[0] + b"\x00" + b"\x0a\x0a\x0a\x0a"
    assert not server.receive(pair.now, version_negotiation)
    alive(pair)
