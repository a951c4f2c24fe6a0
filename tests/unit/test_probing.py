"""Rounds of pings to one node, and what watchers are told of its path."""

from __future__ import annotations

import random

from node_kit import AWAY, HERE, HOME, PEER, PING_SIZE, RELAY

from iroh_py.config import EndpointConfig
from iroh_py.events import PathChanged, PingsSent
from iroh_py.proto.actions import Action, SendDisco
from iroh_py.proto.announcement import Announcement
from iroh_py.proto.disco import Ping
from iroh_py.proto.path_table import PathTable
from iroh_py.proto.paths import Path, PathState, RelayPath, UdpPath
from iroh_py.proto.pings import PING_OVERHEAD, PING_TIMEOUT
from iroh_py.proto.probing import MOVED, MOVED_PING, MOVED_SECONDS, Probing
from iroh_py.proto.surroundings import Surroundings


class World:
    """Two direct paths to a node, and a relay."""

    def __init__(self) -> None:
        self.shared = Surroundings(HERE, EndpointConfig(), random.Random(1))
        self.paths = PathTable()
        for addr in (HOME, AWAY):
            self.paths.add(0.0, UdpPath(addr), told=True, keep=None)
        self.relay = PathState(RelayPath(RELAY), 0.0, told=True)
        self.probing = Probing(PEER, self.shared, self.paths)

    def round(self, now: float, why: str) -> dict[Path, int]:
        """The paths that a round asks, and the bytes of each ping."""
        self.probing.rhythm.start(now, why)
        return sizes(self.probing.round(now, best=None, relay=self.relay))


def sizes(actions: list[Action]) -> dict[Path, int]:
    found: dict[Path, int] = {}
    for action in actions:
        assert isinstance(action, SendDisco)
        assert isinstance(action.message, Ping)
        found[action.path] = PING_OVERHEAD + action.message.padding
    return found


def test_first_round_asks_the_relay_and_every_path_and_says_why() -> None:
    """Later rounds leave the relay out: its connection tells by itself whether it lives."""
    world = World()
    asked = world.round(1.0, "dialling")
    assert asked == dict.fromkeys([RelayPath(RELAY), UdpPath(HOME), UdpPath(AWAY)], PING_SIZE)
    (told,) = world.shared.events
    assert isinstance(told, PingsSent)
    assert (told.why, told.paths) == ("dialling", (str(UdpPath(HOME)), str(UdpPath(AWAY))))
    world.probing.rhythm.advance(1.0, urgent=True)
    later = sizes(world.probing.round(2.0, best=None, relay=world.relay))
    assert set(later) == {UdpPath(HOME), UdpPath(AWAY)}
    assert world.probing.last_round == 2.0
    assert len(world.shared.events) == 1


def test_ping_after_a_move_pays_for_an_answer_while_it_is_news() -> None:
    """A peer may send three times what it got to an address that it has not proven."""
    world = World()
    assert world.round(1.0, MOVED)[UdpPath(HOME)] == MOVED_PING
    world.probing.rhythm.advance(1.0, urgent=True)
    late = sizes(world.probing.round(1.0 + 2 * MOVED_SECONDS, best=None, relay=None))
    assert late[UdpPath(HOME)] == PING_SIZE


def test_path_that_nobody_told_of_is_asked_within_its_credit() -> None:
    """A stranger's address gets no more than it paid for, so nobody can be flooded through us."""
    world = World()
    stranger = PathState(UdpPath(("203.0.113.5", 1)), 0.0, told=False)
    assert world.probing.ping(1.0, stranger) == []
    stranger.credit = PING_OVERHEAD
    assert sizes(world.probing.ping(1.0, stranger, 1200)) == {stranger.path: PING_OVERHEAD}


def test_unanswered_pings_count_against_their_path() -> None:
    """A pong in time closes its ping; one that never comes is a loss."""
    world = World()
    state = world.paths.get(UdpPath(HOME))
    assert state is not None
    (first,), (second,) = world.probing.ping(1.0, state), world.probing.ping(1.0, state)
    assert isinstance(first, SendDisco)
    assert isinstance(second, SendDisco)
    assert isinstance(first.message, Ping)
    answered = world.probing.answer(1.5, first.message.tx_id)
    assert answered is not None
    assert (answered.path, answered.at) == (state.path, 1.0)
    assert world.probing.answer(1.5, first.message.tx_id) is None
    due = world.probing.next_expiry()
    assert due is not None
    assert due > 1.0 + PING_TIMEOUT
    world.probing.expire(due)
    assert state.pings_lost == 1
    assert world.probing.next_expiry() is None


def test_change_of_the_path_is_told_once() -> None:
    """From nothing to the relay to a direct path; looking again says nothing more."""
    shared = Surroundings(HERE, EndpointConfig(), random.Random(1))
    announcement = Announcement(PEER, shared)
    for path, latency in (
        (None, None),
        (RelayPath(RELAY), None),
        (UdpPath(HOME), 0.02),
        (UdpPath(HOME), 0.03),
    ):
        announcement.tell(1.0, path, latency)
    told = [event for event in shared.events if isinstance(event, PathChanged)]
    assert [(e.before, e.path, e.relayed, e.latency) for e in told] == [
        ("", str(RelayPath(RELAY)), True, None),
        (str(RelayPath(RELAY)), str(UdpPath(HOME)), False, 0.02),
    ]
