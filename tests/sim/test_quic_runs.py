"""Packets that arrive together: taking them in runs gives what taking them one by one gives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quic_pair import Pair

from iroh_py.proto.quic import Session, StreamData
from iroh_py.proto.quic.runs import StreamRun

SIZE = 60_000


def sending_pair() -> tuple[Pair, int, bytes, list[bytes]]:
    """A pair whose client has one flight of stream data ready: the pair, the stream, its bytes, the flight."""
    pair = Pair.connected()
    client = pair.client.quic
    stream = client.open_stream(False)
    # The stream exists and the window is open; what follows is nothing but bulk.
    client.write(stream, b"-" * SIZE)
    pair.run(lambda: len(pair.server.received.get(stream, b"")) == SIZE, within=5)
    pair.advance(1.0)
    data = random.Random(1).randbytes(10_000)
    client.write(stream, data)
    flight = client.transmit(pair.now)
    assert len(flight) >= 8
    return pair, stream, data, flight


def read(session: Session) -> bytes:
    """Everything that can be read now."""
    parts = []
    while (event := session.poll_event()) is not None:
        if isinstance(event, StreamData):
            parts.append(event.data)
    return b"".join(parts)


def test_a_flight_in_order_is_one_run() -> None:
    """Bulk packets that come together and in order are all news, one event, and one acknowledgement."""
    pair, _, data, flight = sending_pair()
    server = pair.server.quic
    assert server._engine.receive_run(flight[:-1], pair.now) == len(flight) - 1
    assert server.receive_many(pair.now, flight[-1:]) == len(flight[-1])
    assert read(server) == data
    space = server._engine.app_space
    assert space.expected_packet_number == space.largest_received_packet + 1
    assert [run.stop for run in space.ack_queue] == [space.expected_packet_number]


@settings(deadline=None, max_examples=60)
@given(
    order=st.lists(st.integers(0, 8), max_size=40),
    flips=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 1199), st.integers(1, 255)), max_size=4),
)
def test_any_order_repetition_and_damage_gives_the_same_bytes(
    order: list[int], flips: list[tuple[int, int, int]]
) -> None:
    """Whatever the network does to a flight, the stream's bytes are right, and only genuine new packets are news."""
    pair, _, data, flight = sending_pair()
    server = pair.server.quic
    batch = [flight[i % len(flight)] for i in order]
    for index, position, bits in flips:
        if index < len(batch):
            damaged = bytearray(batch[index])
            damaged[9 + position % (len(damaged) - 9)] ^= bits
            batch[index] = bytes(damaged)
    expected = best = 0
    for datagram in batch:
        if datagram in flight and flight.index(datagram) >= best:
            best = flight.index(datagram) + 1
            expected += len(datagram)
    news = server.receive_many(pair.now, batch) if batch else 0
    got = read(server)
    assert news == expected
    assert data.startswith(got)
    server.receive_many(pair.now, flight)
    assert got + read(server) == data


@pytest.mark.parametrize("cut", [0, 1, 8, 9, 12, 28])
def test_short_datagrams_in_a_run_are_dropped(cut: int) -> None:
    """A datagram too short for a packet, in the middle of a run, takes nothing else with it."""
    pair, _, data, flight = sending_pair()
    server = pair.server.quic
    server.receive_many(pair.now, [*flight[:4], flight[4][: max(cut, 1)], *flight[4:]])
    assert read(server) == data


@given(payload=st.binary(max_size=64))
@settings(deadline=None)
def test_any_payload_is_taken_or_left(payload: bytes) -> None:
    """A run looks at any decrypted payload without raising, and takes only bytes that go on at the right place."""
    run = StreamRun(PAIR.server.quic._engine)
    taken = run.take(payload)
    if taken:
        assert payload[0] & 0xF8 == 0x08
        assert payload[1] == STREAM


PAIR, STREAM = sending_pair()[:2]
