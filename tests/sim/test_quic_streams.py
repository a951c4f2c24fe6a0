"""Streams and datagrams over a session: order, ends, back-pressure and limits."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterator
from functools import partial

import pytest
from aioquic.quic.logger import QuicLogger, QuicLoggerTrace
from quic_pair import CONFIG, Pair, Side

from iroh_py.errors import LocalProtocolError
from iroh_py.proto.quic import DatagramReceived, Event, StreamData, StreamReset, StreamStopped

SMALL = dataclasses.replace(CONFIG, stream_window=100_000, connection_window=250_000)
BOTH_WAYS = pytest.mark.parametrize("dialler_sends", [True, False], ids=["from-client", "from-server"])


def roles(pair: Pair, dialler_sends: bool) -> tuple[Side, Side]:
    """Who sends and who receives."""
    return (pair.client, pair.server) if dialler_sends else (pair.server, pair.client)


def pattern(size: int) -> bytes:
    """Bytes that show when a part is missing, doubled or moved."""
    return bytes(range(251)) * (size // 251 + 1)


def lose_to_server(turns: Iterator[bool], datagram: bytes, to_server: bool) -> bool:
    """Lose the datagrams to the server for which the next turn is true."""
    return to_server and next(turns, False)


def heard(side: Side, event: Event) -> bool:
    """Whether this side was told."""
    return event in side.events


@BOTH_WAYS
@pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
def test_stream_arrives_whole_and_is_forgotten(dialler_sends: bool, bidirectional: bool) -> None:
    """Every byte in order, then the end, then no state on either side."""
    pair = Pair.connected()
    sender, receiver = roles(pair, dialler_sends)
    data = pattern(300_000)[:300_000]
    stream = sender.quic.open_stream(bidirectional)
    sender.quic.write(stream, data, fin=True)
    assert sender.quic.backlog(stream) == len(data)
    pair.run(lambda: stream in receiver.finished, within=2)
    assert receiver.received[stream] == data
    if bidirectional:
        receiver.quic.write(stream, b"answer", fin=True)
        pair.run(lambda: stream in sender.finished, within=1)
        assert sender.received[stream] == b"answer"
    pair.advance(1)
    assert sender.quic.backlog(stream) == 0
    for side in (sender, receiver):
        assert side.quic._engine._streams == {}
        assert side.quic._engine._stream_consumed == {}


def test_many_small_streams_arrive() -> None:
    """More streams than may be open at once, each with its own bytes, in both directions at once."""
    pair = Pair.connected(client=dataclasses.replace(CONFIG, max_streams=20))
    for side in (pair.client, pair.server):
        for number in range(20):
            side.quic.write(side.quic.open_stream(number % 2 == 0), bytes([number]) * 100, fin=True)
    pair.run(lambda: len(pair.client.finished) == len(pair.server.finished) == 20, within=1)
    for side in (pair.client, pair.server):
        assert sorted(map(bytes, side.received.values())) == [bytes([n]) * 100 for n in range(20)]


def test_streams_share_a_link_fairly() -> None:
    """Two bulk streams advance side by side."""
    pair = Pair.connected(bytes_per_second=2e6)
    first, second = pair.client.quic.open_stream(False), pair.client.quic.open_stream(False)
    for stream in (first, second):
        pair.client.quic.write(stream, bytes(4_000_000), fin=True)
    pair.run(lambda: len(pair.server.received.get(first, b"")) > 2_000_000, within=9)
    assert len(pair.server.received[second]) > 1_500_000


@BOTH_WAYS
def test_unread_stream_stops_its_sender_exactly_at_the_window(dialler_sends: bool) -> None:
    """Back-pressure: not a byte more than the window is accepted unread; reading lets more through."""
    pair = Pair.connected(client=SMALL, server=SMALL)
    sender, receiver = roles(pair, dialler_sends)
    receiver.reading = False
    stream = sender.quic.open_stream(False)
    sender.quic.write(stream, bytes(1_000_000), fin=True)
    pair.advance(3)
    assert len(receiver.received[stream]) == SMALL.stream_window
    assert sender.quic.backlog(stream) == 1_000_000 - SMALL.stream_window
    receiver.quic.consume(stream, 60_000)
    pair.advance(3)
    assert len(receiver.received[stream]) == SMALL.stream_window + 60_000
    receiver.quic.consume(stream, SMALL.stream_window)
    receiver.reading = True
    pair.run(lambda: stream in receiver.finished, within=3)


def test_unread_connection_stops_its_sender_exactly_at_the_window() -> None:
    """The windows of many streams do not add up beyond the one of the connection."""
    pair = Pair.connected(client=SMALL, server=SMALL)
    pair.server.reading = False
    streams = [pair.client.quic.open_stream(False) for _ in range(5)]
    for stream in streams:
        pair.client.quic.write(stream, bytes(100_000), fin=True)
    pair.advance(3)
    assert sum(map(len, pair.server.received.values())) == SMALL.connection_window
    # Also when the streams themselves are over and forgotten, reading them makes room.
    pair.server.reading = True
    for stream, data in pair.server.received.items():
        pair.server.quic.consume(stream, len(data))
    pair.run(lambda: len(pair.server.finished) == 5, within=3)


def test_long_transfer_through_small_windows_never_stalls() -> None:
    """Lost window updates are repeated."""
    pair = Pair.connected(client=SMALL, server=SMALL)
    toss = iter(range(10**9))
    pair.drop = lambda data, to_server: not to_server and next(toss) % 3 == 0
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, bytes(1_500_000), fin=True)
    pair.run(lambda: stream in pair.server.finished, within=20)


def test_reset_reaches_the_reader_and_gives_credit_back() -> None:
    """RESET_STREAM carries its code; bytes that nobody will read do not use up the connection's window."""
    pair = Pair.connected(client=SMALL, server=SMALL)
    for code in range(6):
        stream = pair.client.quic.open_stream(False)
        pair.client.quic.write(stream, bytes(90_000))
        # The first packet is lost, so nothing can be handed out; then the sender gives up.
        lost = iter([True])
        pair.drop = functools.partial(lose_to_server, lost)
        pair.pump()
        pair.client.quic.reset_stream(stream, code)
        pair.run(functools.partial(heard, pair.server, StreamReset(stream, code)), within=2)
        assert pair.client.quic.backlog(stream) == 0
    pair.advance(1)
    assert pair.client.quic._engine._streams == {}
    last = pair.client.quic.open_stream(False)
    pair.client.quic.write(last, bytes(200_000), fin=True)
    pair.run(lambda: last in pair.server.finished, within=3)


def test_stop_sending_silences_the_stream() -> None:
    """After STOP_SENDING the sender is told the code, and nothing more of the stream is handed out."""
    pair = Pair.connected(client=SMALL, server=SMALL)
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, bytes(400_000))
    pair.run(lambda: stream in pair.server.received, within=1)
    pair.server.quic.stop_sending(stream, 9)
    heard = len(pair.server.received[stream])
    pair.run(lambda: StreamStopped(stream, 9) in pair.client.events, within=1)
    pair.advance(1)
    assert len(pair.server.received[stream]) == heard
    assert pair.server.of(StreamReset) == []
    assert pair.server.quic._engine._streams == {}
    with pytest.raises(LocalProtocolError):
        pair.client.quic.write(stream, b"more")
    again = pair.client.quic.open_stream(False)
    pair.client.quic.write(again, bytes(240_000), fin=True)
    pair.run(lambda: again in pair.server.finished, within=3)


def test_stop_sending_on_an_ended_stream_is_harmless() -> None:
    """Too late is not an error, also for ids never seen."""
    pair = Pair.connected()
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, b"x", fin=True)
    pair.run(lambda: stream in pair.server.finished, within=1)
    pair.server.quic.stop_sending(stream, 1)
    pair.server.quic.stop_sending(4000, 1)
    pair.advance(1)
    assert pair.client.of(StreamStopped) == []


def test_writing_after_the_end_is_our_mistake() -> None:
    """A stream that was finished takes no more bytes, open or forgotten."""
    pair = Pair.connected()
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, b"x", fin=True)
    with pytest.raises(LocalProtocolError):
        pair.client.quic.write(stream, b"y")
    pair.advance(1)
    with pytest.raises(LocalProtocolError):
        pair.client.quic.write(stream, b"y")
    pair.client.quic.reset_stream(stream, 1)
    with pytest.raises(LocalProtocolError):
        pair.server.quic.write(stream, b"y")


def test_too_many_streams_wait_and_then_fail() -> None:
    """Streams beyond the peer's limit wait for others to end; the queue of waiting ones is bounded."""
    pair = Pair.connected(server=dataclasses.replace(CONFIG, max_streams=4))
    client = pair.client.quic
    assert client.streams_left(True) == 4
    streams = [client.open_stream(True) for _ in range(4)]
    waiting = client.open_stream(True)
    assert client.streams_left(True) == 0
    client.write(waiting, b"patience", fin=True)
    pair.advance(1)
    assert waiting not in pair.server.received
    for stream in streams:
        client.write(stream, b"x", fin=True)
    pair.run(lambda: set(streams) <= pair.server.finished, within=1)
    for stream in streams:
        pair.server.quic.write(stream, b"", fin=True)
    pair.run(lambda: waiting in pair.server.finished, within=1)
    while client.streams_left(True):
        client.open_stream(True)
    for _ in range(CONFIG.max_streams):
        client.open_stream(True)
    with pytest.raises(LocalProtocolError):
        client.open_stream(True)


def test_held_streams_give_the_peer_no_more() -> None:
    """Streams that the application has not taken count against the peer, also when they are over."""
    pair = Pair.connected(server=dataclasses.replace(CONFIG, max_streams=4))
    client, server = pair.client.quic, pair.server.quic
    for stream in range(2, 18, 4):
        server.hold_stream(stream)
    streams = [client.open_stream(False) for _ in range(6)]
    for stream in streams:
        client.write(stream, b"", fin=True)
    pair.advance(2)
    assert sorted(pair.server.finished) == streams[:4]
    for stream in streams:
        server.release_stream(stream)
    pair.run(lambda: len(pair.server.finished) == 6, within=1)


def test_datagrams_arrive_up_to_the_announced_size() -> None:
    """The largest payload goes through in one packet, beside stream data; one byte more is our mistake."""
    pair = Pair.connected()
    limit = pair.client.quic.max_datagram_payload
    assert limit == 1170
    pair.client.quic.write(pair.client.quic.open_stream(False), bytes(50_000), fin=True)
    for size in (0, 1, limit - 1, limit):
        pair.client.quic.send_datagram(bytes(size))
    with pytest.raises(LocalProtocolError):
        pair.client.quic.send_datagram(bytes(limit + 1))
    pair.run(lambda: len(pair.server.of(DatagramReceived)) == 4, within=1)
    assert [len(event.data) for event in pair.server.of(DatagramReceived)] == [0, 1, limit - 1, limit]


@BOTH_WAYS
def test_new_keys_in_the_middle_of_a_transfer_lose_nothing(dialler_sends: bool) -> None:
    """A key update by either side (RFC 9001 section 6) goes unnoticed."""
    pair = Pair.connected(bytes_per_second=4e6)
    sender, receiver = roles(pair, dialler_sends)
    data = pattern(2_000_000)[:2_000_000]
    stream = sender.quic.open_stream(False)
    sender.quic.write(stream, data, fin=True)
    for side in (sender, receiver):
        pair.advance(0.15)
        phase = side.quic._engine.one_rtt.send.key_phase
        side.quic._engine.request_key_update()
        pair.advance(0.1)
        assert side.quic._engine.one_rtt.send.key_phase != phase
    pair.run(lambda: stream in receiver.finished, within=5)
    assert receiver.received[stream] == data


def test_qlog_and_secrets_are_written_on_request() -> None:
    """With a qlog sink every packet goes the long way, and the transfer is the same."""
    logger, secrets = QuicLogger(), io.StringIO()
    config = dataclasses.replace(CONFIG, quic_logger=logger, secrets_log_file=secrets)
    pair = Pair.connected(client=config)
    stream = pair.client.quic.open_stream(True)
    pair.client.quic.write(stream, bytes(100_000), fin=True)
    pair.run(lambda: stream in pair.server.finished, within=1)
    events = logger.to_dict()["traces"][0]["events"]
    assert sum(event["name"] == "transport:packet_sent" for event in events) > 80
    assert "CLIENT_TRAFFIC_SECRET_0" in secrets.getvalue()


def test_a_trace_may_stand_back_and_come_again() -> None:
    """While it wants nothing, packets go the fast way; none is lost in between, and its later entries are there."""

    class Paced(QuicLoggerTrace):
        asked = 0

        def wanted(self, now: float) -> bool:
            self.asked += 1
            return self.asked % 3 == 0

    class Logger(QuicLogger):
        def start_trace(self, is_client: bool, odcid: bytes) -> Paced:
            trace = Paced(is_client=is_client, odcid=odcid)
            self._traces.append(trace)
            return trace

    whole, paced = QuicLogger(), Logger()
    counts = []
    for logger in (whole, paced):
        config = dataclasses.replace(CONFIG, quic_logger=logger)
        pair = Pair.connected(client=config)
        stream = pair.client.quic.open_stream(True)
        pair.client.quic.write(stream, bytes(300_000), fin=True)
        pair.run(partial(pair.server.finished.__contains__, stream), within=2)
        events = logger.to_dict()["traces"][0]["events"]
        counts.append(sum(event["name"] == "transport:packet_sent" for event in events))
    assert 0 < counts[1] < counts[0] * 0.8


def test_bytes_of_one_batch_come_as_one_event() -> None:
    """Packets that arrived together are handed out together, so that the application wakes once."""
    pair = Pair.connected()
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, pattern(9000)[:9000], fin=True)
    for datagram in pair.client.quic.transmit(pair.now):
        pair.server.quic.receive(pair.now, datagram)
    assert pair.server.quic.poll_event() == StreamData(stream, pattern(9000)[:9000], True)


def test_datagram_queue_drops_the_oldest() -> None:
    """A full queue keeps the newest datagrams and counts the others."""
    pair = Pair.connected(client=dataclasses.replace(CONFIG, datagram_queue=3))
    for number in range(5):
        pair.client.quic.send_datagram(bytes([number]))
    assert pair.client.quic.dropped_datagrams == 2
    pair.run(lambda: len(pair.server.of(DatagramReceived)) == 3, within=1)
    assert [event.data for event in pair.server.of(DatagramReceived)] == [b"\x02", b"\x03", b"\x04"]


def test_datagram_before_the_handshake_is_our_mistake() -> None:
    """What the peer takes is not known yet."""
    pair = Pair()
    with pytest.raises(LocalProtocolError):
        pair.client.quic.send_datagram(b"x")


def test_larger_mtu_is_used_at_once_and_smaller_one_too() -> None:
    """The datagram size changes live; queued datagrams that no longer fit are dropped, not stuck."""
    pair = Pair.connected()
    sizes: list[int] = []
    pair.drop = lambda data, to_server: sizes.append(len(data)) or False  # type: ignore[func-returns-value]
    client = pair.client.quic
    stream = client.open_stream(False)
    client.set_mtu(1452)
    client.write(stream, bytes(100_000))
    pair.run(lambda: len(pair.server.received.get(stream, b"")) == 100_000, within=1)
    assert max(sizes) == 1452
    assert client.max_datagram_payload == 1422
    client.send_datagram(bytes(1400))
    client.send_datagram(b"small")
    client.set_mtu(1200)
    sizes.clear()
    client.write(stream, bytes(100_000), fin=True)
    pair.run(lambda: stream in pair.server.finished, within=1)
    assert max(sizes) == 1200
    assert [event.data for event in pair.server.of(DatagramReceived)] == [b"small"]
    assert client.dropped_datagrams == 1
    with pytest.raises(LocalProtocolError):
        client.set_mtu(1199)
