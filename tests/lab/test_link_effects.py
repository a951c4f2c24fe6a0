"""What each impairment does, measured at both engines: the same, within what so many packets can tell.

Bounds on shares are five standard deviations wide: one run in a million is outside by chance.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import socket
import struct
import time
from pathlib import Path
from subprocess import check_output

import pytest
from link_kit import CHUNK, out_of_order, pair, runs
from udp_kit import PATIENCE, SILENCE

from netns_fixtures import Ecn, Host, LinkCondition
from netns_fixtures.interface import Direction

pytestmark = pytest.mark.parametrize("engine", ["wire", "netem"])

#: What a busy machine may add to a trip at its best attempt, seconds.
SLACK = 0.03
#: For how long a trip is looked for that the machine did not slow down.
TRYING = 15.0
#: <linux/udp.h>: one system call for many datagrams, which travel joined while they may.
UDP_SEGMENT = 103
#: Seconds without a datagram after which the next go is sent.
LULL = 0.01
#: <linux/sockios.h>: bytes that wait in a socket to be sent.
SIOCOUTQ = 0x5411
#: Bytes of a datagram that has 1000 in its Ethernet frame.
SIZE = 958


def five_sigma(probability: float, count: int) -> float:
    """How far a share may be from its probability."""
    return 5 * math.sqrt(probability * (1 - probability) / count)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("direction", "there", "back"), [("egress", 1, 0), ("ingress", 0, 1), ("both", 1, 1)]
)
def test_delay_is_that_of_its_direction(
    engine: str, family: int, direction: Direction, there: int, back: int
) -> None:
    """40 ms one way are 40 ms of that way, and none of the other."""
    delay = 0.04
    with pair(engine, family) as both:
        both.laptop.link.condition(delay=delay, direction=direction)
        for asker, answerer, ways in ((both.here, both.there, there), (both.there, both.here, back)):
            to = (both.ip, 7000) if asker is both.here else (home_of(both.here, both.laptop, family))
            best, deadline = 9.9, time.monotonic() + TRYING
            answerer.settimeout(PATIENCE)
            while best >= delay * ways + SLACK and time.monotonic() < deadline:
                began = time.perf_counter()
                asker.sendto(b"?", to)
                answerer.recv(10)
                best = min(best, time.perf_counter() - began)
            assert delay * ways <= best < delay * ways + SLACK


def home_of(sock: socket.socket, host: Host, family: int) -> tuple[str, int]:
    """Where a socket that has sent can be reached."""
    return str(host.ip if family == 4 else host.ip6), int(sock.getsockname()[1])


def test_jitter_spreads_trips_evenly(engine: str) -> None:
    """12 ms, give or take 10: some take less than 7, a quarter at least more than 12, none less than 2."""
    with pair(engine, condition=LinkCondition(delay=0.012, jitter=0.01)) as both:
        trips = [both.trip() for _ in range(80)]
        assert min(trips) >= 0.002
        assert min(trips) < 0.007, "all of 80 are in the upper three quarters"
        assert sum(trip > 0.012 for trip in trips) >= 20


def test_jitter_keeps_the_order(engine: str) -> None:
    """What is sent in one go arrives in its order, however much each is delayed."""
    with pair(engine, condition=LinkCondition(delay=0.02, jitter=0.02)) as both:
        got = both.survivors(200, lull=0.06)
        assert got == list(range(200))


@pytest.mark.parametrize("family", [4, 6])
def test_loss_is_a_share_without_memory(engine: str, family: int) -> None:
    """30 % of 1500, and a gap is 1 / 0.7 long in the mean."""
    count, loss = 1500, 0.3
    with pair(engine, family, LinkCondition(loss=loss)) as both:
        got = both.survivors(count)
        assert len(got) / count == pytest.approx(1 - loss, abs=five_sigma(loss, count))
        gaps = runs(got, count)
        # Geometric: variance loss / (1 - loss)^2.
        spread = 5 * math.sqrt(loss) / (1 - loss) / math.sqrt(len(gaps))
        assert sum(gaps) / len(gaps) == pytest.approx(1 / (1 - loss), abs=spread)


def test_bursts_are_as_long_as_asked(engine: str) -> None:
    """30 % of 2000 in bursts of 4: the chain's memory widens the bounds."""
    count, loss, burst = 2000, 0.3, 4
    with pair(engine, condition=LinkCondition(loss=loss, burst=burst)) as both:
        got = both.survivors(count)
        memory = 1 - 1 / burst - loss / (burst * (1 - loss))
        wide = five_sigma(loss, count) * math.sqrt((1 + memory) / (1 - memory))
        assert len(got) / count == pytest.approx(1 - loss, abs=wide)
        gaps = runs(got, count)
        spread = 5 * math.sqrt(burst * (burst - 1) / len(gaps))
        assert sum(gaps) / len(gaps) == pytest.approx(burst, abs=spread)


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_rate_spaces_frames_and_its_queue_drops_the_tail(engine: str, delay: float) -> None:
    """300 kB at 8 Mbit/s with 200 ms of queue: what fits arrives a frame per ms, the rest never."""
    with pair(engine, condition=LinkCondition(rate=8e6, queue=0.2, delay=delay)) as both:
        prompt, deadline = False, time.monotonic() + TRYING
        while not prompt and time.monotonic() < deadline:
            began = time.perf_counter()
            both.send(300, SIZE)
            sending = time.perf_counter() - began
            last, numbers = began, []
            while (number := both.receive(0.3)) is not None:
                last = time.perf_counter()
                numbers.append(number)
            count, took = len(numbers), last - began
            assert numbers[:198] == list(range(198))
            assert took >= (count - 4) * 0.001
            # While the machine is slow to send and to carry, frames leave and make room for more.
            prompt = count <= 205 + sending / 0.001 and took < count * 0.001 + delay + SLACK
        assert prompt


def test_queue_of_a_link_does_not_hold_its_sender_back(engine: str) -> None:
    """It is far away: a socket has nothing left to send long before the last frame arrives."""
    with pair(engine, condition=LinkCondition(rate=8e6, queue=0.3)) as both:
        ahead, deadline = 0.0, time.monotonic() + TRYING
        while ahead < 0.1 and time.monotonic() < deadline:
            both.send(200, SIZE)
            while struct.unpack("i", fcntl.ioctl(both.here, SIOCOUTQ, bytes(4)))[0]:
                assert time.monotonic() < deadline
            sent = last = time.perf_counter()
            while both.receive(0.2) is not None:
                last = time.perf_counter()
            ahead = last - sent
        assert ahead >= 0.1


def test_reorder_moves_its_share(engine: str) -> None:
    """A quarter of 600 is not where it was sent, and none is lost."""
    count, share = 600, 0.25
    with pair(engine, condition=LinkCondition(delay=0.03, reorder=share)) as both:
        got = both.survivors(count, lull=0.06)
        assert sorted(got) == list(range(count))
        # The last frames of a go have nobody to change places with.
        least = share * (1 - 4 / CHUNK) - five_sigma(share, count)
        assert least <= out_of_order(got) / count <= share + five_sigma(share, count)


def test_duplicates_are_their_share_and_come_next(engine: str) -> None:
    """30 % of 1000 arrive twice, none three times."""
    count, share = 1000, 0.3
    with pair(engine, condition=LinkCondition(duplicate=share)) as both:
        got = both.survivors(count)
        assert set(got) == set(range(count))
        assert [number for number, _same in itertools.groupby(got)] == list(range(count))
        assert max(len(list(same)) for _number, same in itertools.groupby(got)) == 2
        assert len(got) / count - 1 == pytest.approx(share, abs=five_sigma(share, count))


def test_loss_and_duplicates_do_not_hide_each_other(engine: str) -> None:
    """20 % lost, and of the others 10 % twice."""
    count, loss, twice = 2000, 0.2, 0.1
    with pair(engine, condition=LinkCondition(loss=loss, duplicate=twice)) as both:
        got = both.survivors(count)
        there = len(set(got))
        assert there / count == pytest.approx(1 - loss, abs=five_sigma(loss, count))
        assert len(got) / there - 1 == pytest.approx(twice, abs=five_sigma(twice, there))


@pytest.mark.parametrize("family", [4, 6])
def test_corruption_is_found_by_checksums(engine: str, family: int) -> None:
    """30 % of 1000: they arrive damaged, so that the server's kernel drops and counts them."""
    count, share, size = 1000, 0.3, 1400
    with pair(engine, family, LinkCondition(corrupt=share)) as both:
        before = checksum_errors(both.server, family)
        got = both.survivors(count, size)
        assert len(set(got)) / count == pytest.approx(1 - share, abs=five_sigma(share, count))
        damaged = checksum_errors(both.server, family) - before
        # 40 bytes of headers at most are checked elsewhere, or by nobody.
        assert damaged / count == pytest.approx(share, abs=five_sigma(share, count) + share * 54 / size)


def checksum_errors(host: Host, family: int) -> int:
    """How many datagrams the kernel of a host has found damaged."""
    names, values = (line for line in counters(host, "snmp") if line[0] == "Udp:")
    found = int(values[names.index("InCsumErrors")])
    if family == 6:  # a datagram that poll() finds damaged counts among those of IPv4
        found += int(dict(line for line in counters(host, "snmp6") if len(line) == 2)["Udp6InCsumErrors"])
    return found


def counters(host: Host, name: str) -> list[list[str]]:
    """The words of a file of the kernel's counters."""
    return [line.split() for line in host.run(Path("/proc/self/net", name).read_text).splitlines()]


def test_marks_are_a_share_of_the_capable_and_losses_of_the_others(engine: str) -> None:
    """30 % of 1000 that are ECN-capable arrive marked, none is lost; of 1000 others 30 % are lost."""
    count, share, capable, marked = 1000, 0.3, 2, 3
    with pair(engine, condition=LinkCondition(ecn=Ecn(mark=share, drop_others=True))) as both:
        both.here.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, capable)
        both.there.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        both.there.settimeout(SILENCE)
        fields: list[int] = []
        for _go in range(count // CHUNK):
            both.send(CHUNK)
            with contextlib.suppress(TimeoutError):
                for _datagram in range(CHUNK):
                    fields += [data[0] for _level, _kind, data in both.there.recvmsg(2000, 100)[1]]
        assert len(fields) == count
        assert fields.count(marked) / count == pytest.approx(share, abs=five_sigma(share, count))
        assert fields.count(marked) + fields.count(capable) == count
        both.here.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0)
        assert len(both.survivors(count)) / count == pytest.approx(1 - share, abs=five_sigma(share, count))


def firsts(receiver: socket.socket, silence: float) -> list[int]:
    """The first byte of each datagram until so many seconds bring none."""
    got: list[int] = []
    receiver.settimeout(silence)
    with contextlib.suppress(TimeoutError):
        while True:
            got.append(receiver.recv(2000)[0])
    return got


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_joined_datagrams_are_lost_one_by_one(engine: str, direction: Direction) -> None:
    """A program that hands its kernel 20 datagrams at once loses half of each go, not every other go."""
    with pair(engine) as both:
        both.send(1)
        both.there.settimeout(PATIENCE)
        _data, home = both.there.recvfrom(1000)
        both.laptop.link.condition(loss=0.5, direction=direction)
        sender, receiver, to = both.here, both.there, (both.ip, 7000)
        if direction == "ingress":
            sender, receiver, to = both.there, both.here, home
        sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
        goes, each = 40, 20
        got: list[int] = []
        for go in range(goes):
            sender.sendto((bytes([go]) + bytes(999)) * each, to)
            # Read at once: an ordinary user's receive buffer holds some 90 of them.
            got += firsts(receiver, LULL)
        got += firsts(receiver, SILENCE)
        assert len(got) / (goes * each) == pytest.approx(0.5, abs=five_sigma(0.5, goes * each))
        whole = [go for go in range(goes) if got.count(go) in (0, each)]
        assert not whole, "joined datagrams share one fate"


@pytest.mark.parametrize("family", [4, 6])
def test_total_loss_spares_neighbour_discovery(engine: str, family: int) -> None:
    """A black hole is silent: the neighbour stays known, so nothing that is sent into it fails."""
    with pair(engine, family, LinkCondition(loss=1.0)) as both:
        both.laptop.run(check_output, ["ip", "neigh", "flush", "dev", "eth0"])
        deadline = time.monotonic() + PATIENCE
        both.send(1)
        while b"lladdr" not in both.laptop.run(check_output, ["ip", "neigh", "show", "to", both.ip]):
            assert time.monotonic() < deadline, "nobody answered"
        both.send(10)
        assert both.rest() == []


def test_frames_under_way_survive_a_change(engine: str) -> None:
    """Neither another delay nor a clear link loses what was sent before, and none overtakes it."""
    with pair(engine, condition=LinkCondition(delay=0.2, rate=50e6)) as both:
        both.send(20)
        both.laptop.link.condition(delay=0.01, direction="egress")
        both.send(20, first=20)
        assert both.rest() == list(range(40))


def test_change_forgets_what_was_before(engine: str) -> None:
    """A link that only delays now neither damages nor limits nor loses nor moves frames, as it did."""
    worst = LinkCondition(
        delay=0.01, loss=0.2, rate=1e6, corrupt=0.5, reorder=0.5, duplicate=0.1, jitter=0.01
    )
    with pair(engine, condition=worst) as both:
        both.send(20)
        both.laptop.link.condition(delay=0.01, direction="egress")
        both.wait_through()
        while both.receive(0.2) is not None:
            """What was held back then."""
        assert both.survivors(200, 1400, lull=0.05) == list(range(200))


def test_delays_of_hops_add_up(engine: str) -> None:
    """The laptop's link and the router's uplink, both there and back."""
    with pair(engine) as both:
        far = both.lab.host("far", uplink=both.lab.router("office"))
        both.laptop.link.condition(delay=0.02)
        both.lab.routers["home"].uplink.condition(delay=0.03)
        with far.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
            echo.bind(("", 7000))
            echo.settimeout(PATIENCE)
            both.here.settimeout(PATIENCE)
            best, deadline = 9.9, time.monotonic() + TRYING
            while best >= 0.1 + SLACK and time.monotonic() < deadline:
                began = time.perf_counter()
                both.here.sendto(b"?", (str(far.ip), 7000))
                data, client = echo.recvfrom(10)
                echo.sendto(data, client)
                both.here.recv(10)
                best = min(best, time.perf_counter() - began)
            assert 0.1 <= best < 0.1 + SLACK
