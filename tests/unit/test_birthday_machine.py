"""When port prediction is tried with a peer, what is sent then, and how often at most."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from iroh_py.network import Addr
from iroh_py.proto.birthday import (
    ATTEMPT,
    FIRST_PORT,
    LAST_PORT,
    MAX_PROBES,
    PATIENCE,
    PAUSES,
    SOCKETS,
    STEP,
    Birthday,
    BirthdayAction,
    CloseSockets,
    GaveUp,
    OpenSockets,
    ProbePorts,
    public_v4,
)

PEER: tuple[Addr, ...] = (
    ("203.0.113.9", 4433),
    ("203.0.113.9", 51419),
    ("192.168.1.7", 51419),
    ("2001:db8::7", 1),
)
ELSEWHERE: tuple[Addr, ...] = (("198.51.100.3", 4433),)


def birthday(now: float = 0.0) -> Birthday:
    """A machine that knows the peer's addresses."""
    machine = Birthday(now, random.Random(1))
    machine.handle_offer(now, PEER)
    return machine


def run(machine: Birthday, until: float, *, varies: bool | None) -> list[tuple[float, BirthdayAction]]:
    """What it does until then, as its timers have it."""
    found: list[tuple[float, BirthdayAction]] = []
    while machine.due is not None and machine.due <= until:
        now = machine.due
        found += [(now, action) for action in machine.handle_timeout(now, varies=varies)]
    return found


def sockets(actions: list[tuple[float, BirthdayAction]]) -> int:
    """How many were opened."""
    return sum(action.sockets for _, action in actions if isinstance(action, OpenSockets))


def ports(actions: list[tuple[float, BirthdayAction]]) -> list[int]:
    """The ports that were asked."""
    return [port for _, action in actions if isinstance(action, ProbePorts) for port in action.ports]


def test_strict_side_opens_sockets_towards_both_public_addresses() -> None:
    """It sends nothing to ports that nobody named."""
    done = run(birthday(), PATIENCE + ATTEMPT - 0.1, varies=True)
    assert sockets(done) == SOCKETS
    assert ports(done) == []
    assert {action.to for _, action in done if isinstance(action, OpenSockets)} == {PEER[:2]}


def test_other_side_asks_ports_at_random_each_once() -> None:
    """All of them ports that a NAT may give out, at the address that the peer was seen from."""
    done = run(birthday(), PATIENCE + ATTEMPT - 0.1, varies=False)
    asked = ports(done)
    assert sockets(done) == 0
    assert len(asked) == len(set(asked)) == MAX_PROBES
    assert all(FIRST_PORT <= port <= LAST_PORT for port in asked)
    assert {action.ip for _, action in done if isinstance(action, ProbePorts)} == {"203.0.113.9"}


def test_who_does_not_know_its_own_nat_plays_both_parts_sockets_first() -> None:
    """The peer's probes need the sockets."""
    done = run(birthday(), PATIENCE + ATTEMPT - 0.1, varies=None)
    assert sockets(done) == SOCKETS
    assert len(ports(done)) == MAX_PROBES
    kinds = [type(action) for _, action in done]
    assert kinds == sorted(kinds, key=[OpenSockets, ProbePorts].index)


@pytest.mark.parametrize("varies", [True, False, None])
def test_plain_hole_punching_comes_first_and_the_rate_is_bounded(varies: bool | None) -> None:
    """Nothing for a second, then at most ten datagrams in 20 ms."""
    done = run(birthday(5.0), 5.0 + PATIENCE + ATTEMPT - 0.1, varies=varies)
    assert done[0][0] == 5.0 + PATIENCE
    steps = [at for at, _ in done]
    assert all(later - earlier >= STEP - 1e-9 for earlier, later in pairwise(steps))
    for _, action in done:
        assert isinstance(action, OpenSockets | ProbePorts)
        size = action.sockets * len(action.to) if isinstance(action, OpenSockets) else len(action.ports)
        assert size <= 10


def test_failure_is_told_once_and_attempts_become_rare() -> None:
    """Pauses grow; sockets are closed each time."""
    done = run(birthday(), 1000.0, varies=True)
    assert [action.why for _, action in done if isinstance(action, GaveUp)] == [
        "our NAT maps by destination and nothing came through from 203.0.113.9: its NAT seems to, as well"
    ]
    ends = [at for at, action in done if isinstance(action, CloseSockets)]
    expected = [PATIENCE + ATTEMPT]
    for pause in (*PAUSES, PAUSES[-1])[: len(ends) - 1]:
        expected.append(expected[-1] + pause + ATTEMPT)
    assert ends == pytest.approx(expected)
    assert sockets(done) <= (len(ends) + 1) * SOCKETS


def test_repeated_offers_change_nothing() -> None:
    """A peer offers its addresses every second: the back-off stays."""
    machine = birthday()
    run(machine, PATIENCE + ATTEMPT + 0.1, varies=True)
    due = machine.due
    machine.handle_offer(12.0, PEER)
    assert machine.due == due


def test_peer_elsewhere_gets_another_attempt_soon_but_not_without_end() -> None:
    """One that names ever other addresses cannot make us flood them."""
    machine = birthday()
    total = 0
    now = 0.0
    for number in range(600):
        now += 1.0
        machine.handle_offer(now, ((f"198.51.100.{number % 200 + 1}", 4433),))
        total += len(ports(run(machine, now, varies=False)))
    attempts = total / MAX_PROBES
    assert 4 <= attempts <= 30


def test_own_network_change_begins_anew() -> None:
    """Another NAT, another chance: soon, and a failure there is told again."""
    machine = birthday()
    run(machine, 200.0, varies=True)
    machine.handle_network_change(200.0)
    assert machine.due == 200.0 + PAUSES[0]
    assert any(isinstance(action, GaveUp) for _, action in run(machine, 215.0, varies=True))


def test_stopped_attempt_does_nothing_until_the_next_offer() -> None:
    """A direct path was found; the next attempt is not before some seconds."""
    machine = birthday()
    run(machine, PATIENCE + 0.1, varies=None)
    assert machine.running
    machine.stop(1.1)
    assert not machine.running
    assert machine.due is None
    machine.handle_offer(1.2, ELSEWHERE)
    assert machine.due == pytest.approx(1.1 + PAUSES[0])


def test_peer_without_public_ipv4_is_not_tried() -> None:
    """Private, shared, multicast and IPv6 addresses are no NAT's outside."""
    machine = Birthday(0.0, random.Random(1))
    machine.handle_offer(0.0, (("10.1.2.3", 1), ("100.64.0.9", 2), ("224.0.0.1", 3), ("2001:db8::1", 4)))
    assert machine.due is None
    assert public_v4((("172.32.0.1", 1), ("172.16.0.1", 1), ("1.1.1.1", 1))) == (
        ("172.32.0.1", 1),
        ("1.1.1.1", 1),
    )
