"""The end of a session: who closed it, why, and that the other side hears of it."""

from __future__ import annotations

import pytest
from quic_pair import CONFIG, SERVER_KEY, Pair, Side

from iroh_py.errors import LocalProtocolError, PeerClosedError, TransportError
from iroh_py.proto.quic import Closed, SessionTable, StreamData

CLOSER = pytest.mark.parametrize("dialler_closes", [True, False], ids=["client-closes", "server-closes"])


def roles(pair: Pair, dialler_closes: bool) -> tuple[Side, Side]:
    """Who closes and who hears of it."""
    return (pair.client, pair.server) if dialler_closes else (pair.server, pair.client)


@CLOSER
def test_peer_learns_code_and_reason(dialler_closes: bool) -> None:
    """The application's close code and reason travel; the closer itself sees no error."""
    pair = Pair.connected()
    closer, other = roles(pair, dialler_closes)
    closer.quic.close(pair.now, 42, "so long")
    pair.run(lambda: other.closed is not None, within=1)
    assert closer.events[-1] == Closed(None)
    assert other.closed is not None
    error = other.closed.error
    assert isinstance(error, PeerClosedError)
    assert (error.code, error.reason, error.by_peer) == (42, "so long", True)
    assert closer.quic.closed
    assert other.quic.closed
    pair.advance(3)
    assert closer.quic.drained
    assert other.quic.drained
    assert closer.quic.next_timeout() is None


def test_closing_is_immediate_and_final() -> None:
    """Nothing can be sent after close, and a second close changes nothing."""
    pair = Pair.connected()
    client = pair.client.quic
    stream = client.open_stream(True)
    client.close(pair.now, 1, "first")
    assert client.closed
    client.close(pair.now, 2, "second")
    for action in (
        lambda: client.open_stream(True),
        lambda: client.write(stream, b"x"),
        lambda: client.send_datagram(b"x"),
    ):
        with pytest.raises(LocalProtocolError):
            action()
    client.probe(pair.now)
    client.path_changed(pair.now, reset=True)
    pair.run(lambda: pair.server.closed is not None, within=1)
    assert pair.server.closed is not None
    assert isinstance(pair.server.closed.error, PeerClosedError)
    assert pair.server.closed.error.code == 1


def test_data_before_the_close_is_handed_out_first() -> None:
    """What arrived before the peer's close is not swallowed by it."""
    pair = Pair.connected()
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, b"last words")
    datagrams = pair.client.quic.transmit(pair.now)
    pair.client.quic.close(pair.now, 0, "")
    server = pair.server.quic
    for datagram in datagrams + pair.client.quic.transmit(pair.now):
        server.receive(pair.now, datagram)
    events = [server.poll_event(), server.poll_event(), server.poll_event()]
    assert events[0] == StreamData(stream, b"last words", False)
    assert isinstance(events[1], Closed)
    assert events[2] is None


def test_lost_close_is_repeated_when_the_peer_goes_on() -> None:
    """A peer that missed the close hears it again in answer to its next packet."""
    pair = Pair.connected()
    pair.advance(1)
    pair.up = False
    pair.client.quic.close(pair.now, 5, "lost")
    pair.pump()
    pair.up = True
    pair.server.quic.write(pair.server.quic.open_stream(False), b"hello?")
    pair.run(lambda: pair.server.closed is not None, within=0.2)
    assert pair.server.closed is not None
    assert isinstance(pair.server.closed.error, PeerClosedError)


def test_close_before_the_handshake_is_done_ends_both() -> None:
    """A dial given up at once tells the server, which never reports a connection."""
    pair = Pair()
    pair.run(lambda: pair.server.session is not None, within=1)
    pair.client.quic.close(pair.now, 9, "changed my mind")
    pair.run(lambda: pair.server.closed is not None, within=1)
    assert pair.client.events == [Closed(None)]
    assert len(pair.server.events) == 1
    assert pair.server.closed is not None
    assert isinstance(pair.server.closed.error, TransportError)


def test_close_before_anything_was_sent_is_quiet() -> None:
    """A dial closed before its first transmit ends without an error."""
    table = SessionTable(SERVER_KEY, CONFIG)
    session = table.dial(0.0, SERVER_KEY.node_id, "test/1")
    session.close(0.0, 0, "")
    session.transmit(0.0)
    assert session.poll_event() == Closed(None)
    assert session.poll_event() is None


def test_long_reason_is_cut_at_a_character() -> None:
    """A reason has to fit a packet; it is cut, not refused, and stays UTF-8."""
    pair = Pair.connected()
    pair.client.quic.close(pair.now, 1, "ä" * 4000)
    pair.run(lambda: pair.server.closed is not None, within=1)
    assert pair.server.closed is not None
    assert isinstance(pair.server.closed.error, PeerClosedError)
    assert pair.server.closed.error.reason == "ä" * 256


@pytest.mark.parametrize("code", [-1, 1 << 62], ids=["negative", "too-large"])
def test_impossible_code_is_our_mistake(code: int) -> None:
    """QUIC error codes have 62 bits."""
    pair = Pair.connected()
    stream = pair.client.quic.open_stream(True)
    with pytest.raises(LocalProtocolError):
        pair.client.quic.close(pair.now, code, "")
    with pytest.raises(LocalProtocolError):
        pair.client.quic.reset_stream(stream, code)
    with pytest.raises(LocalProtocolError):
        pair.client.quic.stop_sending(stream, code)
    assert not pair.client.quic.closed
