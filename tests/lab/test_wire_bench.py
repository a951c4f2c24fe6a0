"""The userspace wire between real TAPs of two network namespaces."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from statistics import median

import pytest

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.bench import ADDRESS_B, Bench, set_up
from netns_fixtures.wire.tap import open_tap

CLEAR = LinkCondition()

# Of a loaded machine with two cores; the wire itself adds 0.1 ms (benchmarks/wire.py).
MACHINE = 0.010


def bench_or_skip(seed: int = 1) -> Bench:
    """A clear link; where this machine forbids it, a skip that says what is missing."""
    try:
        return Bench(CLEAR, CLEAR, seed)
    except OSError as error:
        pytest.skip(f"the userspace wire needs CAP_NET_ADMIN and /dev/net/tun: {error}")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Two namespaces and a clear link between them."""
    with bench_or_skip() as bench:
        yield bench


def arrived(trips: list[float | None]) -> list[float]:
    """The round trips of the pings that were answered."""
    return [trip for trip in trips if trip is not None]


def lost(trips: list[float | None]) -> set[int]:
    """The numbers of the pings that were not answered."""
    return {number for number, trip in enumerate(trips) if trip is None}


def wait_counter(bench: Bench, name: str, least: int) -> None:
    """Return once the forward counter is that high, at latest after the deadline."""
    deadline = time.monotonic() + 2
    while (count := bench.wire.stats(bench.LINK)["forward"][name]) < least:
        assert time.monotonic() < deadline, f"{name} is {count}, and not {least}"


def test_clear_wire_answers_every_ping_at_once(bench: Bench) -> None:
    """Without a condition nothing is lost, and nothing takes long."""
    trips = bench.ping(50, 0, within=2)

    assert len(arrived(trips)) == 50
    assert median(arrived(trips)) < MACHINE


def test_round_trip_is_the_sum_of_both_delays(bench: Bench) -> None:
    """Each direction adds its own delay, and very little more."""
    bench.wire.set_condition(bench.LINK, LinkCondition(delay=0.020), LinkCondition(delay=0.010))
    bench.ping(1, 0, within=2)  # neighbours are known from here on

    trips = bench.ping(20, 0, within=2)

    assert len(arrived(trips)) == 20
    assert min(arrived(trips)) > 0.0298
    assert median(arrived(trips)) < 0.030 + MACHINE


def test_same_seed_loses_the_same_pings_in_another_namespace() -> None:
    """The kernel's own chatter (router solicitation, MLD, ARP) does not shift who is lost."""
    losses = []
    for seed in (1, 1, 2):
        with bench_or_skip(seed) as bench:
            bench.wire.set_condition(bench.LINK, LinkCondition(loss=0.3), LinkCondition(loss=0.1, burst=3))
            losses.append(lost(bench.ping(80, 0.001, within=0.1)))

    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert 10 < len(losses[0]) < 60


def test_lossy_link_still_resolves_addresses(bench: Bench) -> None:
    """ARP crosses a link that loses all traffic: afterwards, the first ping is answered at once."""
    bench.wire.set_condition(bench.LINK, LinkCondition(loss=1), CLEAR)
    assert arrived(bench.ping(1, 0, within=0.05)) == []

    bench.wire.set_condition(bench.LINK, CLEAR, CLEAR)

    assert lost(bench.ping(1, 0, within=0.5)) == set()
    wait_counter(bench, "lost", 1)


def test_corrupted_datagrams_never_reach_the_socket(bench: Bench) -> None:
    """The kernel checks what comes out of the wire, so a flipped bit is a lost datagram, as in the world."""
    with (
        bench.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        bench.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((str(ADDRESS_B.ip), 0))
        receiver.settimeout(2)
        sender.connect(receiver.getsockname())
        bench.wire.set_condition(bench.LINK, LinkCondition(corrupt=1), CLEAR)
        for _ in range(20):
            sender.send(b"damaged")
        wait_counter(bench, "corrupted", 20)
        bench.wire.set_condition(bench.LINK, CLEAR, CLEAR)
        sender.send(b"sound")

        assert receiver.recv(100) == b"sound"


def test_limited_rate_shapes_a_burst_of_datagrams(bench: Bench) -> None:
    """Datagrams sent at once arrive spread out, at the rate of the link."""
    size, count, rate = 1000, 50, 4e6
    frame = size + 14 + 20 + 8
    with (
        bench.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        bench.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((str(ADDRESS_B.ip), 0))
        receiver.settimeout(2)
        sender.connect(receiver.getsockname())
        bench.ping(1, 0, within=2)
        bench.wire.set_condition(bench.LINK, LinkCondition(rate=rate, queue=1), CLEAR)
        started = time.monotonic()
        for _ in range(count):
            sender.send(bytes(size))
        for _ in range(count):
            receiver.recv(size)

    expected = count * frame * 8 / rate
    assert expected - 0.001 < time.monotonic() - started < expected + 5 * MACHINE


def test_interface_down_costs_frames_and_never_the_wire(bench: Bench) -> None:
    """Frames for an interface that is down are counted as such; up again, it works again."""
    bench.ping(1, 0, within=2)
    bench.b.run(lambda: set_up(bench.b.name, False))
    assert arrived(bench.ping(3, 0.001, within=0.05)) == []
    wait_counter(bench, "write_failed", 3)

    bench.b.run(lambda: set_up(bench.b.name, True))

    assert arrived(bench.ping(1, 0, within=2))


def test_cut_wire_is_silent_and_comes_back(bench: Bench) -> None:
    """Both interfaces stay up with their addresses, and nothing crosses."""
    bench.ping(1, 0, within=2)
    bench.wire.set_connected(bench.LINK, False)
    assert arrived(bench.ping(3, 0.001, within=0.05)) == []

    bench.wire.set_connected(bench.LINK, True)

    assert arrived(bench.ping(1, 0, within=2))


def test_tap_stays_until_its_namespace_ends(bench: Bench) -> None:
    """Closing a descriptor does not unregister the interface, for which the kernel would wait 16 ms."""
    os.close(bench.a.run(lambda: open_tap("extra")))

    assert [name for _, name in bench.a.run(socket.if_nameindex)] == ["lo", "bench-a", "extra"]


@pytest.mark.parametrize("name", ["", "sixteen-letters!"])
def test_tap_with_a_name_that_cannot_be_is_refused(name: str) -> None:
    """The kernel would cut the name short; we refuse it."""
    with pytest.raises(ValueError, match="1 to 15 bytes"):
        open_tap(name)
