"""Outages and path changes under virtual time: how soon data flows again, and what never happens."""

from __future__ import annotations

import dataclasses

import pytest
from quic_pair import CONFIG, QUEUE, Pair, Side

from iroh_py.errors import TimedOutError
from iroh_py.proto.quic.recovery import MAX_PROBE_INTERVAL

DELAY = 0.02
RTT = 2 * DELAY
SLOW_LINK = 2e6
#: What arrived before an outage while its acknowledgement did not is sent again first: a round trip of data.
UNACKNOWLEDGED = RTT + QUEUE
SENDER = pytest.mark.parametrize("dialler_sends", [True, False], ids=["client-sends", "server-sends"])
RESET = pytest.mark.parametrize("reset", [False, True], ids=["same-path", "new-path"])
OUTAGE = pytest.mark.parametrize("seconds", [3.0, 10.0, 60.0])


def roles(pair: Pair, dialler_sends: bool) -> tuple[Side, Side]:
    """Who sends and who receives."""
    return (pair.client, pair.server) if dialler_sends else (pair.server, pair.client)


def in_bulk(dialler_sends: bool) -> tuple[Pair, Side, Side, int]:
    """A pair in the middle of a bulk transfer over a 2 MB/s link."""
    pair = Pair.connected(delay=DELAY, bytes_per_second=SLOW_LINK)
    sender, receiver = roles(pair, dialler_sends)
    stream = sender.quic.open_stream(False)
    sender.quic.write(stream, bytes(20_000_000), fin=True)
    pair.run(lambda: len(receiver.received.get(stream, b"")) > 500_000, within=3)
    return pair, sender, receiver, stream


@OUTAGE
@SENDER
@RESET
def test_bulk_flows_again_within_a_round_trip_of_a_proven_path(
    seconds: float, dialler_sends: bool, reset: bool
) -> None:
    """Both sides are told: new bytes arrive at once, after the last ones that were not acknowledged."""
    pair, sender, receiver, stream = in_bulk(dialler_sends)
    pair.black_out(seconds)
    had = len(receiver.received[stream])
    for side in (sender, receiver):
        side.quic.path_changed(pair.now, reset=reset)
    took = pair.run(lambda: len(receiver.received[stream]) > had, within=1)
    assert took <= DELAY + UNACKNOWLEDGED


@OUTAGE
@SENDER
def test_bulk_flows_again_when_only_the_sender_is_told(seconds: float, dialler_sends: bool) -> None:
    """The side that holds the data is enough."""
    pair, sender, receiver, stream = in_bulk(dialler_sends)
    pair.black_out(seconds)
    had = len(receiver.received[stream])
    sender.quic.path_changed(pair.now, reset=False)
    assert pair.run(lambda: len(receiver.received[stream]) > had, within=1) <= DELAY + UNACKNOWLEDGED


@OUTAGE
@SENDER
def test_bulk_flows_again_by_itself_within_the_probe_cap(seconds: float, dialler_sends: bool) -> None:
    """Nobody notices the outage's end: the capped probe timeout does, whatever the outage lasted."""
    pair, _, receiver, stream = in_bulk(dialler_sends)
    pair.black_out(seconds)
    had = len(receiver.received[stream])
    took = pair.run(lambda: len(receiver.received[stream]) > had, within=5)
    assert took <= MAX_PROBE_INTERVAL + 3 * RTT + UNACKNOWLEDGED


@SENDER
@RESET
def test_one_message_written_in_an_outage_arrives_at_once(dialler_sends: bool, reset: bool) -> None:
    """A small write during the outage needs one way after the path is proven."""
    pair = Pair.connected(delay=DELAY)
    sender, receiver = roles(pair, dialler_sends)
    stream = sender.quic.open_stream(False)
    pair.up = False
    sender.quic.write(stream, b"are you there?", fin=True)
    pair.advance(10)
    pair.up = True
    sender.quic.path_changed(pair.now, reset=reset)
    assert pair.run(lambda: stream in receiver.finished, within=1) <= DELAY + 0.001


@SENDER
def test_no_byte_is_lost_or_doubled_over_many_outages(dialler_sends: bool) -> None:
    """Every byte arrives once and in order across outages, path changes and size changes."""
    pair = Pair.connected(delay=DELAY, bytes_per_second=SLOW_LINK)
    sender, receiver = roles(pair, dialler_sends)
    data = bytes(range(256)) * 12_000
    stream = sender.quic.open_stream(False)
    sender.quic.write(stream, data, fin=True)
    for turn in range(6):
        pair.advance(0.1)
        pair.black_out(0.3 * turn)
        for side in (sender, receiver):
            side.quic.path_changed(pair.now, reset=turn % 2 == 0)
            side.quic.set_mtu(1452 if turn % 2 else 1200)
    pair.run(lambda: stream in receiver.finished, within=20)
    assert receiver.received[stream] == data


def test_path_change_during_the_handshake_repeats_it_at_once() -> None:
    """A dial that began in an outage completes two round trips after it."""
    pair = Pair(delay=DELAY)
    pair.up = False
    pair.advance(5)
    pair.up = True
    pair.client.quic.path_changed(pair.now, reset=True)
    pair.pump()
    assert pair.run(lambda: pair.server.session is not None, within=1) <= RTT


def test_reset_forgets_round_trip_and_window() -> None:
    """With reset the path counts as unknown; without, what was learnt is kept."""
    pair, sender, _, _ = in_bulk(True)
    window = sender.quic.congestion_window
    assert sender.quic.rtt is not None
    sender.quic.path_changed(pair.now, reset=False)
    assert sender.quic.congestion_window == window
    assert sender.quic.bytes_in_flight == 0
    assert sender.quic.has_unacked
    sender.quic.path_changed(pair.now, reset=True)
    assert sender.quic.rtt is None
    assert sender.quic.congestion_window < window


def test_forced_acknowledgement_unblocks_a_peer_that_was_told_nothing() -> None:
    """The receiver alone knows of the new path: repeating its lost acknowledgement makes the sender go on."""
    pair, _, receiver, stream = in_bulk(True)
    # Only the way back is broken, so that acknowledgements are missing and data is not.
    pair.drop = lambda data, to_server: not to_server
    pair.advance(1.0)
    pair.black_out(9.0)
    pair.drop = lambda data, to_server: False
    had = len(receiver.received[stream])
    receiver.quic.path_changed(pair.now, reset=False)
    assert pair.run(lambda: len(receiver.received[stream]) > had, within=5) <= 3 * RTT + UNACKNOWLEDGED


def test_idle_connection_is_kept_alive_with_few_packets() -> None:
    """Each side that hears nothing asks for a sign of life every ``keep_alive`` seconds, not more often."""
    pair = Pair.connected()
    pair.advance(1)
    before = pair.client.sent, pair.server.sent
    pair.advance(300)
    assert pair.client.closed is None
    assert pair.server.closed is None
    assert 300 / CONFIG.keep_alive * 0.9 <= pair.client.sent - before[0] <= 300 / CONFIG.keep_alive * 2.2


def test_unanswered_keep_alive_does_not_pile_up() -> None:
    """In an outage about one probe per two seconds goes out, not a queue of PINGs."""
    pair = Pair.connected()
    pair.advance(1)
    pair.up = False
    before = pair.client.sent
    pair.advance(60)
    assert pair.client.sent - before <= 60 / 1.0


@SENDER
def test_silence_ends_with_a_timeout_of_the_shorter_side(dialler_sends: bool) -> None:
    """The smaller idle timeout holds for both; the error is a timeout."""
    pair = Pair.connected(server=dataclasses.replace(CONFIG, idle_timeout=20.0))
    sender, _ = roles(pair, dialler_sends)
    pair.advance(1)
    pair.up = False
    start = pair.now
    sender.quic.write(sender.quic.open_stream(False), b"hello?")
    pair.advance(50)
    assert sender.closed is not None
    assert isinstance(sender.closed.error, TimedOutError)
    assert isinstance(sender.closed.error, TimeoutError)
    assert sender.quic.drained
    assert pair.now - start == 50


def test_outage_shorter_than_the_idle_timeout_is_survived() -> None:
    """60 s without a packet, then it goes on."""
    pair = Pair.connected()
    pair.advance(1)
    pair.black_out(60)
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, b"still here", fin=True)
    pair.run(lambda: stream in pair.server.finished, within=3)


def test_fresh_says_the_sender_is_alive_now() -> None:
    """Only an authenticated packet newer than all before is a hint about the peer's address."""
    pair = Pair.connected()
    pair.advance(1)
    client, server = pair.client.quic, pair.server.quic
    client.probe(pair.now)
    first = client.transmit(pair.now)
    client.probe(pair.now)
    second = client.transmit(pair.now)
    assert server.receive(pair.now, second[0])
    assert not server.receive(pair.now, first[0]), "older"
    assert not server.receive(pair.now, second[0]), "replayed"
    client.probe(pair.now)
    third = client.transmit(pair.now)[0]
    assert not server.receive(pair.now, third[:-1] + bytes([third[-1] ^ 1])), "forged"
    assert server.receive(pair.now, third)


def test_spread_over_two_paths_is_reordered_not_lost() -> None:
    """Packets that overtake each other by a few milliseconds arrive as one stream."""
    pair = Pair.connected(delay=DELAY, bytes_per_second=SLOW_LINK)
    turn = iter(range(10**9))

    def detour(datagram: bytes, to_server: bool) -> bool:
        pair.delay = DELAY + (0.005 if next(turn) % 7 == 0 else 0.0)
        return False

    pair.drop = detour
    data = bytes(range(256)) * 4000
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, data, fin=True)
    pair.run(lambda: stream in pair.server.finished, within=10)
    assert pair.server.received[stream] == data
