"""Address discovery over a simulated network: reports, moves, and what strangers can make the server do."""

from __future__ import annotations

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted
from qad_kit import LAPTOP, RELAY, QadNetwork, make_server

from iroh_py.proto.qad import ALPN, QadClient
from iroh_py.proto.qad.server import Source
from iroh_py.proto.quic.errors import NO_APPLICATION_PROTOCOL
from pytest_iroh.ca import CertificateAuthority

MOVED = Source("203.0.113.9", 999)
#: Bytes of a first packet up to its length field, which all decide whether it can be decrypted.
HEADER = 26


@pytest.mark.parametrize("source", [LAPTOP, Source("2001:db8::7", 4433)])
def test_client_learns_its_address_in_two_round_trips(source: Source) -> None:
    """One for the handshake, and the report arrives with the end of it."""
    network = QadNetwork(delay=0.05)
    visitor = network.visit(source)
    network.run(0.2)
    assert visitor.client.observed == source.addr
    assert visitor.client.rtt == pytest.approx(0.1, abs=0.02)
    assert (network.server.counters.finished, network.server.counters.reports) == (1, 1)


def test_client_that_moved_is_told_with_the_next_packet() -> None:
    """And is told again when it comes back: that is how 1.x notices that its NAT forgot it."""
    network = QadNetwork()
    visitor = network.visit()
    network.run(0.2)
    for place in (MOVED, LAPTOP):
        visitor.source = place
        visitor.client.probe()
        network.run(0.05)
        assert visitor.client.observed == place.addr
    assert network.server.counters.reports == 3


def test_keep_alive_notices_a_new_address_without_being_asked() -> None:
    """A silent client sends a PING every 25 s."""
    network = QadNetwork()
    visitor = network.visit()
    network.run(1.0)
    visitor.source = MOVED
    network.run(26.0)
    assert visitor.client.observed == MOVED.addr
    network.run(300.0)
    assert not visitor.client.closed


def test_lost_report_is_sent_again() -> None:
    """Every third datagram is lost, in a fixed pattern."""
    network = QadNetwork()
    numbers = iter(range(10**6))
    network.keep = lambda data: next(numbers) % 3 != 1
    visitor = network.visit()
    network.run(5.0)
    assert visitor.client.observed == LAPTOP.addr


def test_server_that_stops_tells_its_clients() -> None:
    """They need not wait for the idle timeout to ask elsewhere."""
    network = QadNetwork()
    visitor = network.visit()
    network.run(0.2)
    network.server.close(network.now)
    network.run(0.1)
    assert visitor.client.closed
    assert visitor.client.error is not None
    assert visitor.client.error.by_peer
    assert len(network.server) == 0


def test_client_that_leaves_costs_nothing_any_more() -> None:
    """It says so (code 1), or it is silent for a minute."""
    network = QadNetwork()
    polite, rude = network.visit(), network.visit(MOVED)
    network.run(0.2)
    assert len(network.server) == 2
    polite.client.close()
    network.run(0.1)
    assert len(network.server) == 1
    network.visitors.remove(rude)
    network.run(61.0)
    assert len(network.server) == 0
    assert network.server.next_timeout() is None


@pytest.mark.parametrize("how", ["another name", "another authority"])
def test_client_believes_nobody_but_its_relay(how: str) -> None:
    """The certificate has to name the relay, and a trusted authority has to have signed it."""
    network = QadNetwork()
    if how == "another name":
        visitor = network.visit(name="other.test")
    else:
        visitor = network.visit(cadata=CertificateAuthority("stranger").pem)
    network.run(1.0)
    assert visitor.client.observed is None
    assert visitor.client.closed


# What strangers can make the server do


def test_unanswered_address_gets_at_most_three_times_what_it_sent() -> None:
    """A forged source is no good for flooding somebody (RFC 9000 section 8.1)."""
    network = QadNetwork()
    network.visit()
    network.keep = lambda data: data in network.to_server[:1]
    network.run(20.0)
    sent = sum(len(item.data) for item in network.to_clients)
    assert 0 < sent <= 3 * len(network.to_server[0])
    assert len(network.server) == 0, "the handshake timeout ended it"


def test_moved_client_that_does_not_answer_gets_at_most_three_times_what_it_sent() -> None:
    """Whoever replays a client's packet from elsewhere has little sent there (RFC 9000 section 9.3)."""
    network = QadNetwork()
    visitor = network.visit()
    network.run(0.2)
    visitor.source = MOVED
    visitor.client.probe()
    (probe,) = visitor.client.transmit(network.now)
    network.visitors.clear()
    network.server.receive(network.now, probe, MOVED)
    network.run(100.0)
    there = [len(item.data) for item in network.to_clients if item.to == MOVED]
    assert 0 < sum(there) <= 3 * len(probe)


def test_crowd_has_to_prove_its_addresses_first() -> None:
    """Above a number of open handshakes there are Retry packets, which cost no memory, and true clients pass."""
    network = QadNetwork(make_server(retry_above=2))
    for number in range(5):
        network.server.receive(
            network.now,
            QadClient(network.now, RELAY, "relay.test").transmit(network.now)[0],
            Source("192.0.2.99", number + 1),
        )
    assert len(network.server) == 2
    assert network.server.counters.retries == 3
    visitor = network.visit()
    network.run(0.5)
    assert visitor.client.observed == LAPTOP.addr
    assert network.server.counters.retries == 4


def test_repeated_first_packets_make_one_client() -> None:
    """The network may double them."""
    network = QadNetwork()
    first = network.visit().client.transmit(network.now)[0]
    for _ in range(5):
        network.server.receive(network.now, first, LAPTOP)
    assert len(network.server) == 1


@pytest.mark.parametrize(
    ("limits", "served"), [({"connections": 3}, 3), ({"handshake_rate": 1.0, "handshake_burst": 2}, 2)]
)
def test_limits_refuse_the_rest(limits: dict[str, float], served: int) -> None:
    """Those inside are not hurt by those outside."""
    network = QadNetwork(make_server(**limits))
    visitors = [network.visit(Source("192.0.2.7", 1000 + number)) for number in range(5)]
    network.run(0.1)
    answers = [visitor.client.observed for visitor in visitors]
    assert len([answer for answer in answers if answer is not None]) == served
    assert network.server.counters.refused >= 5 - served


def test_first_packets_that_do_not_decrypt_leave_nothing_behind() -> None:
    """A first packet is encrypted with what is in it; a changed one costs a look."""
    network = QadNetwork()
    first = QadClient(network.now, RELAY, "relay.test").transmit(network.now)[0]
    for bit in range(HEADER * 8):
        changed = bytearray(first)
        changed[bit // 8] ^= 1 << bit % 8
        network.server.receive(network.now, bytes(changed), LAPTOP)
    assert len(network.server) == 0
    counters = network.server.counters
    assert counters.bad_packets + counters.refused == HEADER * 8


def stranger(network: QadNetwork, alpn: str, token: bytes = b"") -> QuicConnection:
    """A QUIC client that knows nothing of address discovery, after half a second."""
    configuration = QuicConfiguration(
        alpn_protocols=[alpn], verify_mode=0, server_name="relay.test", token=token
    )
    client = QuicConnection(configuration=configuration)
    client.connect(RELAY, network.now)
    for _ in range(10):
        for data, _ in client.datagrams_to_send(network.now):
            network.server.receive(network.now, data, LAPTOP)
        for item in network.server.transmit():
            client.receive_datagram(item.data, RELAY, network.now)
        network.now += 0.05
        network.server.handle_timeout(network.now)
    return client


def test_client_with_another_protocol_is_refused() -> None:
    """QUIC of any other kind gets a TLS alert, and is forgotten at once."""
    network = QadNetwork()
    client = stranger(network, "h3")
    assert client._close_event is not None
    assert client._close_event.error_code == NO_APPLICATION_PROTOCOL
    assert len(network.server) == 0


def test_client_without_the_extension_is_told_nothing() -> None:
    """It would not understand a report, which is an error in QUIC."""
    network = QadNetwork()
    client = stranger(network, ALPN)
    assert any(isinstance(event, HandshakeCompleted) for event in iter(client.next_event, None))
    assert client._close_event is None
    assert network.server.counters.reports == 0


@pytest.mark.parametrize("retry_above", [64, 0])
def test_token_of_another_server_counts_as_none(retry_above: int) -> None:
    """A client keeps what the relay before us gave it; with a crowd inside it gets a Retry like anybody."""
    network = QadNetwork(make_server(retry_above=retry_above))
    client = stranger(network, ALPN, token=b"given by somebody else")
    assert client._handshake_complete
    assert network.server.counters.retries == (retry_above == 0)
