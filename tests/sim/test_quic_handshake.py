"""Handshakes between nodes: who is let in, who is not, and what each side is told."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from aioquic import tls
from quic_pair import ALPN, CLIENT_KEY, CONFIG, SERVER_KEY, Pair

from iroh_py.errors import (
    AlpnMismatchError,
    ConnectTimeoutError,
    IdentityMismatchError,
    LocalProtocolError,
    TransportError,
)
from iroh_py.keys import SecretKey
from iroh_py.proto.quic import HandshakeDone, SessionTable, TlsAuth
from iroh_py.proto.quic.context import NodeContext

STRANGER = SecretKey(bytes(31) + b"\x09")
BOTH = pytest.mark.parametrize("auth", list(TlsAuth), ids=lambda auth: str(auth.value))


@BOTH
def test_both_sides_learn_who_the_other_is(auth: TlsAuth) -> None:
    """One listener serves raw public keys and X.509; both ends prove their node ids within 2 round trips."""
    pair = Pair.connected(auth=auth)
    assert pair.client.of(HandshakeDone) == [HandshakeDone(SERVER_KEY.node_id, ALPN)]
    assert pair.server.of(HandshakeDone) == [HandshakeDone(CLIENT_KEY.node_id, ALPN)]
    assert pair.server.quic.node_id == CLIENT_KEY.node_id
    assert pair.server.quic.alpn == ALPN
    assert pair.now <= 4 * pair.delay
    assert pair.client.quic.rtt == pytest.approx(2 * pair.delay, rel=0.2)


@BOTH
def test_another_node_than_dialled_is_refused(auth: TlsAuth) -> None:
    """Whoever answers with another key is not talked to, and the error says so."""
    pair = Pair(auth=auth, node_id=STRANGER.node_id)
    pair.run(lambda: pair.client.closed is not None, within=1)
    assert pair.client.closed is not None
    assert isinstance(pair.client.closed.error, IdentityMismatchError)
    assert str(SERVER_KEY.node_id) in str(pair.client.closed.error)
    pair.run(lambda: pair.server.closed is not None, within=1)
    assert pair.server.closed is not None
    assert isinstance(pair.server.closed.error, TransportError)
    assert pair.server.of(HandshakeDone) == []


@BOTH
def test_unknown_alpn_is_refused_with_a_typed_error(auth: TlsAuth) -> None:
    """Both sides are told that no application protocol fits."""
    pair = Pair(auth=auth, alpn="other/1")
    pair.run(lambda: pair.client.closed is not None, within=1)
    assert pair.client.closed is not None
    assert pair.server.closed is not None
    assert isinstance(pair.client.closed.error, AlpnMismatchError)
    assert isinstance(pair.server.closed.error, AlpnMismatchError)


@BOTH
def test_client_without_certificate_is_refused(auth: TlsAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not prove its node id gets TLS alert 116 and the server never reports it."""
    original = NodeContext._client_handle_finished

    def without_certificate(self: NodeContext, input_buf: object, output_buf: object) -> None:
        self.certificate = None
        original(self, input_buf, output_buf)  # type: ignore[arg-type]

    monkeypatch.setattr(NodeContext, "_client_handle_finished", without_certificate)
    pair = Pair(auth=auth)
    pair.run(lambda: pair.client.closed is not None, within=1)
    assert pair.client.closed is not None
    error = pair.client.closed.error
    assert isinstance(error, TransportError)
    assert error.code == 0x100 + tls.AlertDescription.certificate_required
    assert pair.server.of(HandshakeDone) == []


def test_client_signature_with_another_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming a node id is not enough: CertificateVerify must be made with its key."""
    pair = Pair()
    context = pair.client.quic._engine.node_context
    assert context is not None
    context.certificate_private_key = SessionTable(STRANGER, CONFIG).credentials.raw_public_key.private_key
    pair.run(lambda: pair.client.closed is not None, within=1)
    assert pair.server.of(HandshakeDone) == []


def test_dial_without_answer_ends_with_connect_timeout() -> None:
    """Nobody there: the idle timeout ends the dial, as a timeout."""
    pair = Pair(client=dataclasses.replace(CONFIG, idle_timeout=10.0))
    pair.up = False
    pair.run(lambda: pair.client.closed is not None, within=12)
    assert pair.client.closed is not None
    assert isinstance(pair.client.closed.error, ConnectTimeoutError)
    assert pair.client.quic.drained


@pytest.mark.parametrize("lost", range(8))
def test_handshake_survives_a_lost_packet(lost: int) -> None:
    """Whichever packet of the handshake is lost, it completes."""
    pair = Pair()
    counter = itertools.count()
    pair.drop = lambda data, to_server: next(counter) == lost
    pair.run(lambda: bool(pair.client.of(HandshakeDone) and pair.server.of(HandshakeDone)), within=2)


def test_first_packet_repeated_late_opens_no_second_session() -> None:
    """A replay of the client's first packet reaches the session that it made."""
    pair = Pair()
    first = pair.client.table.dial(pair.now, SERVER_KEY.node_id, ALPN).transmit(pair.now)[0]
    session, _ = pair.server.table.receive(pair.now, first, accept=True)
    again, fresh = pair.server.table.receive(pair.now, first, accept=True)
    assert session is not None
    assert again is session
    assert not fresh


def test_server_bounds_unproven_clients() -> None:
    """First packets beyond ``max_handshakes`` are refused until the earlier ones are proven or given up."""
    config = dataclasses.replace(CONFIG, max_handshakes=2)
    table = SessionTable(SERVER_KEY, config)
    client = SessionTable(CLIENT_KEY, CONFIG)

    def first_packet() -> bytes:
        return client.dial(0.0, SERVER_KEY.node_id, ALPN).transmit(0.0)[0]

    sessions = [table.receive(0.0, first_packet(), accept=True)[0] for _ in range(3)]
    assert [session is not None for session in sessions] == [True, True, False]
    assert table.refused == 1
    for session in sessions[:2]:
        assert session is not None
        session.handle_timeout(config.handshake_timeout)
        assert session.closed
    assert table.receive(20.0, first_packet(), accept=True)[0] is not None


def test_server_that_does_not_accept_ignores_first_packets() -> None:
    """Without ``accept`` or without any ALPN a first packet is garbage."""
    packet = SessionTable(CLIENT_KEY, CONFIG).dial(0.0, SERVER_KEY.node_id, ALPN).transmit(0.0)[0]
    assert SessionTable(SERVER_KEY, CONFIG).receive(0.0, packet, accept=False) == (None, False)
    silent = dataclasses.replace(CONFIG, alpns=())
    assert SessionTable(SERVER_KEY, silent).receive(0.0, packet, accept=True) == (None, False)


def test_removed_session_gets_no_more_packets() -> None:
    """The table forgets every connection id of a removed session."""
    pair = Pair.connected()
    pair.advance(1)
    packet = pair.client.quic
    packet.probe(pair.now)
    datagram = packet.transmit(pair.now)[0]
    pair.server.table.remove(pair.server.quic)
    assert len(pair.server.table.sessions) == 0
    assert pair.server.table.receive(pair.now, datagram, accept=True) == (None, False)
    assert pair.server.table._routes == {}


@pytest.mark.parametrize("alpn", ["", "é", "x" * 256], ids=["empty", "not-ascii", "too-long"])
def test_dialling_an_impossible_alpn_is_our_mistake(alpn: str) -> None:
    """TLS carries 1 to 255 ASCII characters."""
    with pytest.raises(LocalProtocolError):
        Pair(alpn=alpn)
