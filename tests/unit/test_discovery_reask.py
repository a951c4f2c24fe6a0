"""discovery/reask.py: about whom discovery is asked again, and how often."""

from __future__ import annotations

import random
from itertools import pairwise

from discovery_kit import RELAY, key

from iroh_py import EndpointConfig
from iroh_py.discovery.reask import ASK_INTERVALS, MAX_OPEN, RELAY_PATIENCE, AskAgain, is_lost
from iroh_py.network import Addr
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import PathState, UdpPath
from iroh_py.proto.surroundings import Surroundings

HERE: Addr = ("192.0.2.1", 4433)


def node(number: int = 2, *, sessions: int = 1, relay: bool = False, connected: bool = True) -> NodeState:
    """A node with connections and no direct path."""
    shared = Surroundings(key(1).node_id, EndpointConfig(), random.Random(0))
    shared.relay_connected = lambda url: connected
    state = NodeState(0.0, key(number).node_id, shared)
    state.sessions = sessions
    if relay:
        state.add_addresses(0.0, [], RELAY, told=True)
    return state


def test_node_without_a_way_is_asked_for_ever_more_rarely() -> None:
    """Half a second of patience, then doubling up to 30 s: eight questions in two minutes."""
    again, lost = AskAgain(), node()
    asked = [t / 100 for t in range(12_000) if again.due(t / 100, [lost])]
    assert asked[:6] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert [b - a for a, b in pairwise(asked[6:])] == [ASK_INTERVALS[-1]]
    assert len(asked) == 8


def test_node_with_a_good_path_is_not_asked_for() -> None:
    """A proven path without doubt is a way; under doubt it is none; a found node is forgotten."""
    again, found = AskAgain(), node()
    assert again.due(0.0, [found]) == []
    found.best = PathState(UdpPath(HERE), 0.0)
    assert not is_lost(9.0, found)
    assert again.due(9.0, [found]) == []
    assert not again.is_searched(found.node_id)
    found.suspect_since = 9.0
    assert again.due(9.0, [found]) == []
    assert again.due(9.5, [found]) == [found.node_id]


def test_node_without_connections_is_nobodys_business() -> None:
    """Nobody waits for it."""
    assert not is_lost(100.0, node(sessions=0))


def test_relay_vouches_while_it_is_connected_and_heard() -> None:
    """Heard through a relay lately is reachable; silence or a lost relay connection is not."""
    relayed = node(relay=True)
    assert not is_lost(RELAY_PATIENCE - 0.1, relayed)
    assert is_lost(RELAY_PATIENCE + 0.1, relayed)
    assert relayed.relay is not None
    relayed.relay.handle_received(20.0, 100)
    assert not is_lost(21.0, relayed)
    assert is_lost(21.0, node(relay=True, connected=False))


def test_network_change_starts_the_questions_anew() -> None:
    """What discovery could not answer from the old network it is asked soon from the new one."""
    again, lost = AskAgain(), node()
    for t in range(400):
        again.due(t / 10, [lost])
    again.hasten(40.0)
    assert again.due(40.4, [lost]) == []
    assert again.due(40.5, [lost]) == [lost.node_id]
    assert again.due(41.5, [lost]) == [lost.node_id]


def test_open_searches_are_bounded() -> None:
    """A crowd of lost nodes is asked for in turns."""
    again = AskAgain()
    crowd = [node(number) for number in range(2, 2 + MAX_OPEN + 10)]
    again.due(0.0, crowd)
    assert len(again.due(1.0, crowd)) == MAX_OPEN
