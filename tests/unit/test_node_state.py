"""One remote node: where payload goes, and what settles a doubt about it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from node_kit import (
    AWAY,
    HOME,
    LATENCY,
    PEER,
    PING_SIZE,
    RELAY,
    answer,
    ask,
    make_node,
    peer_ping,
    pings,
    settled,
    targets,
)

from iroh_py.events import PathChanged, PathSuspected, PeerMoved
from iroh_py.keys import NodeId
from iroh_py.network import Family, Interface, InterfaceAddress, NetworkState, Route
from iroh_py.proto.actions import Action, Kick, SendDisco, SetMtu
from iroh_py.proto.disco import Ping, Pong
from iroh_py.proto.paths import BASE_MTU, RelayPath, UdpPath


def test_first_pong_makes_its_path_the_one_in_use() -> None:
    """Payload goes to the address that answered first."""
    node = make_node()
    node.add_addresses(0.0, [HOME, AWAY], None, told=True)
    sent = ask(node, 0.0)
    assert set(sent) == {UdpPath(HOME), UdpPath(AWAY)}
    actions = answer(node, 0.01, UdpPath(AWAY), sent[UdpPath(AWAY)])
    assert targets(node, 0.01) == [UdpPath(AWAY)]
    assert Kick(reset=False) in actions


def test_pong_from_another_address_proves_nothing() -> None:
    """A pong vouches only for the address that its ping was sent to and that it came back from."""
    node = make_node()
    node.add_addresses(0.0, [HOME], None, told=True)
    sent = ask(node, 0.0)
    answer(node, 0.01, UdpPath(AWAY), sent[UdpPath(HOME)])
    assert node.best is None


def test_unknown_and_repeated_pongs_are_ignored() -> None:
    """A pong is good once, and only for a ping of ours."""
    node = make_node()
    node.add_addresses(0.0, [HOME], None, told=True)
    tx_id = ask(node, 0.0)[UdpPath(HOME)]
    assert answer(node, 0.01, UdpPath(HOME), b"x" * 12) == []
    assert answer(node, 0.02, UdpPath(HOME), tx_id)
    assert answer(node, 0.03, UdpPath(HOME), tx_id) == []


def test_our_network_changed_pings_go_out_at_once() -> None:
    """A seen change makes every known path be asked in the same instant, and QUIC is kicked."""
    node = settled()
    actions = node.handle_network_change(2.0)
    assert UdpPath(HOME) in pings(actions)
    assert Kick(reset=False) in actions
    assert SetMtu(BASE_MTU) in actions


def test_pong_to_a_ping_from_before_the_change_does_not_end_the_doubt() -> None:
    """Only an answer to a question asked in the new network counts."""
    node = settled()
    node.add_addresses(1.5, [AWAY], None, told=True)
    node.handle_timeout(1.03)
    before = node.handle_network_change(1.9)
    old_ping = pings(before)[UdpPath(HOME)]
    node.handle_network_change(2.0)
    answer(node, 2.005, UdpPath(HOME), old_ping)
    assert not node.steady


def test_peer_pings_from_a_new_address_both_ways_are_used_until_one_answers() -> None:
    """A peer that moved hears from us at its new address before we have proof of it."""
    node = settled()
    actions = node.handle_ping(2.0, UdpPath(AWAY), peer_ping(), PING_SIZE)
    assert {UdpPath(AWAY), UdpPath(HOME)} <= set(pings(actions))
    assert set(targets(node, 2.0)) == {UdpPath(HOME), UdpPath(AWAY)}
    assert any(isinstance(e, PeerMoved) for e in node.shared.events)
    answer(node, 2.02, UdpPath(AWAY), pings(actions)[UdpPath(AWAY)])
    node.handle_timeout(2.04)
    assert targets(node, 2.04) == [UdpPath(AWAY)]


def test_peer_pings_from_a_second_address_while_the_first_lives_nothing_moves() -> None:
    """A peer with two uplinks keeps the path in use if that answers too."""
    node = settled()
    actions = node.handle_ping(2.0, UdpPath(AWAY), peer_ping(), PING_SIZE)
    answer(node, 2.01, UdpPath(HOME), pings(actions)[UdpPath(HOME)])
    answer(node, 2.02, UdpPath(AWAY), pings(actions)[UdpPath(AWAY)])
    node.handle_timeout(2.04)
    assert targets(node, 2.04) == [UdpPath(HOME)]


def test_unproven_address_gets_three_times_what_it_sent() -> None:
    """Never 5: a spoofed source address is no amplifier."""
    node = settled()
    node.handle_ping(2.0, UdpPath(AWAY), peer_ping(), PING_SIZE)
    state = dict(node.targets(2.0))[UdpPath(AWAY)]
    assert state is not None
    allowed = 0
    while state.allows(100):
        allowed += 100
    assert allowed <= 3 * PING_SIZE


@pytest.mark.parametrize("sessions", [0, 1])
def test_forged_source_gets_at_most_three_times_the_bytes_in_all(sessions: int) -> None:
    """Never 5: pongs, pings and payload together, for as long as the address does not prove itself."""
    node = settled() if sessions else make_node()
    node.sessions = sessions
    sent = 0
    actions = node.handle_ping(2.0, UdpPath(AWAY), peer_ping(), PING_SIZE)
    now = 2.0
    while now < 60.0:
        for action in actions:
            if isinstance(action, SendDisco) and action.path == UdpPath(AWAY):
                sent += 124 + action.message.padding if isinstance(action.message, Ping) else 111
        for path, state in node.targets(now):
            if path == UdpPath(AWAY) and state is not None and state.allows(60):
                sent += 60
        due = node.next_timeout()
        if due is None:
            break
        now = max(now, due)
        actions = node.handle_timeout(now)
    assert 0 < sent <= 3 * PING_SIZE


def test_peer_offers_strangers_addresses_they_get_few_pings() -> None:
    """Never 5: an authenticated peer cannot make us flood the addresses that it lists."""
    node = make_node()
    node.add_addresses(0.0, [], RELAY, told=True)
    strangers = [(f"203.0.113.{n}", 9) for n in range(1, 41)]
    now, sent = 0.0, 0
    for _ in range(200):
        actions = node.handle_call_me_maybe(now, strangers)
        due = node.next_timeout()
        now = max(now + 0.01, due if due is not None else now)
        actions += node.handle_timeout(now)
        sent += sum(1 for a in actions if isinstance(a, SendDisco) and isinstance(a.path, UdpPath))
    assert now > 1.0
    assert sent <= 40 * 10 * (now / 0.5 + 1)


def test_replayed_ping_is_not_answered() -> None:
    """Never 4: the same ping from another address does nothing at all."""
    node = settled()
    assert node.handle_ping(2.0, UdpPath(HOME), peer_ping(), PING_SIZE)
    assert node.handle_ping(2.1, UdpPath(AWAY), peer_ping(), PING_SIZE) == []
    assert targets(node, 2.1) == [UdpPath(HOME)]


def test_fresh_payload_from_a_new_address_is_a_hint_worth_a_ping() -> None:
    """A NAT that rebound under a sending application is noticed by its first packet."""
    node = settled()
    node.handle_timeout(1.5)
    actions: list[Action] = node.handle_payload(2.0, UdpPath(AWAY), 1200, fresh=True)
    assert UdpPath(AWAY) in pings(actions)
    assert UdpPath(AWAY) in targets(node, 2.0)


def test_old_payload_from_a_new_address_is_no_hint() -> None:
    """A packet that was seen before may be a replay and moves nothing."""
    node = settled()
    assert node.handle_payload(2.0, UdpPath(AWAY), 1200, fresh=False) == []
    assert targets(node, 2.0) == [UdpPath(HOME)]


def test_silence_while_sending_raises_doubt_within_a_second() -> None:
    """Data that is not answered makes all paths be asked."""
    node = settled()
    node.handle_sent(2.0, wants_answer=True)
    due = node.next_timeout()
    assert due is not None
    assert due <= 2.3
    assert UdpPath(HOME) in pings(node.handle_timeout(due))
    assert any(isinstance(e, PathSuspected) and e.why == "silence" for e in node.shared.events)


def test_silence_under_doubt_rounds_go_on_at_least_every_second() -> None:
    """The promise of 1 s after a silent black hole: no two rounds are further apart while data waits."""
    node = settled()
    node.handle_sent(2.0, wants_answer=True)
    now, rounds = 2.0, []
    while now < 20.0:
        due = node.next_timeout()
        assert due is not None
        now = max(due, now)
        if UdpPath(HOME) in pings(node.handle_timeout(now)):
            rounds.append(now)
    gaps = [b - a for a, b in pairwise(rounds)]
    assert max(gaps) <= 1.0
    assert len(rounds) < 60


def test_idle_peer_is_pinged_within_the_ping_interval() -> None:
    """The mission's bound: 5 seconds at the latest."""
    node = settled()
    node.handle_sent(1.1, wants_answer=False)
    now, asked = 1.1, []
    while now < 30.0:
        due = node.next_timeout()
        assert due is not None
        now = max(due, now)
        sent = pings(node.handle_timeout(now))
        if sent:
            asked.append(now)
            for path, tx_id in sent.items():
                answer(node, now + LATENCY, path, tx_id)
    assert len(asked) >= 5
    assert max(b - a for a, b in pairwise(asked)) < 5.0


def test_no_session_and_long_idle_nothing_is_sent_any_more() -> None:
    """Never 9: a peer that is gone costs nothing."""
    node = settled()
    node.sessions = 0
    now, last = 1.1, 1.1
    for _ in range(500):
        due = node.next_timeout()
        if due is None:
            break
        now = max(due, now)
        if node.handle_timeout(now):
            last = now
    assert node.next_timeout() is None or now > 100
    assert last < 60


def test_doubt_with_a_relay_payload_takes_both_ways() -> None:
    """Until the doubt is settled nothing depends on which way works."""
    node = settled()
    node.add_addresses(1.5, [], RELAY, told=True)
    assert targets(node, 1.5) == [UdpPath(HOME)]
    node.handle_network_change(2.0)
    assert targets(node, 2.0) == [UdpPath(HOME), RelayPath(RELAY)]


def test_direct_path_stays_silent_it_is_given_up_for_the_relay() -> None:
    """M8: no hour-long trust."""
    node = settled()
    node.add_addresses(1.5, [], RELAY, told=True)
    node.shared.relay_connected = lambda url: True
    node.handle_network_change(2.0)
    now = 2.0
    while now < 9.0:
        due = node.next_timeout()
        assert due is not None
        now = max(now, due)
        node.handle_timeout(now)
    assert targets(node, 9.0)[0] == RelayPath(RELAY)
    assert node.best is None


def test_peer_is_heard_over_the_relay_while_the_direct_path_is_quiet_answers_go_there_too() -> None:
    """The peer has fallen back to the relay: whoever answers into the dead path would not be heard."""
    node = settled()
    node.add_addresses(1.5, [], RELAY, told=True)
    node.handle_payload(1.03, UdpPath(HOME), 100, fresh=True)
    node.handle_payload(1.04, RelayPath(RELAY), 100, fresh=True)
    assert node.steady, "the direct path was heard a moment ago"
    node.handle_payload(2.0, RelayPath(RELAY), 100, fresh=False)
    assert node.steady, "an old packet may be a replay"
    node.handle_payload(2.1, RelayPath(RELAY), 100, fresh=True)
    assert targets(node, 2.1) == [UdpPath(HOME), RelayPath(RELAY)]


def test_no_connection_left_nobody_is_suspected_of_silence() -> None:
    """Never 9: after the last connection ended, an unanswered packet is no reason to ping for ever."""
    node = settled()
    node.handle_sent(2.0, wants_answer=True)
    node.sessions = 0
    now, asked = 2.0, 0
    while now < 200.0 and (due := node.next_timeout()) is not None:
        now = max(now + 0.001, due)
        asked += len(pings(node.handle_timeout(now)))
    assert asked < 30


def two_uplinks(*, wlan_carrier: bool) -> NetworkState:
    def interface(index: int, name: str, ip: str, running: bool) -> Interface:
        return Interface(index, name, True, running, addresses=(InterfaceAddress(ip, 24),))

    return NetworkState(
        (interface(2, "wlan0", "192.168.1.2", wlan_carrier), interface(3, "wwan0", "10.0.0.2", True)),
        (
            Route(Family.V4, "0.0.0.0/0", 2, "192.168.1.1", 100),
            Route(Family.V4, "0.0.0.0/0", 3, "10.0.0.1", 200),
        ),
    )


def test_first_uplink_lost_its_carrier_payload_leaves_by_the_second_at_once() -> None:
    """The kernel keeps routing into the dead interface; the endpoint does not."""
    node = settled()
    node.shared.network = two_uplinks(wlan_carrier=True)
    assert targets(node, 1.9) == [UdpPath(HOME)]
    node.shared.network = two_uplinks(wlan_carrier=False)
    sent = pings(node.handle_network_change(2.0))
    assert UdpPath(HOME, 3) in sent
    assert targets(node, 2.0) == [UdpPath(HOME, 3)]
    answer(node, 2.02, UdpPath(HOME, 3), sent[UdpPath(HOME, 3)])
    assert targets(node, 2.02) == [UdpPath(HOME, 3)]


def test_path_by_an_interface_that_vanished_is_forgotten() -> None:
    """Nothing is sent to an interface that is gone."""
    node = settled()
    node.shared.network = two_uplinks(wlan_carrier=False)
    sent = pings(node.handle_network_change(2.0))
    answer(node, 2.02, UdpPath(HOME, 3), sent[UdpPath(HOME, 3)])
    node.shared.network = NetworkState()
    node.handle_network_change(3.0)
    assert node.paths.get(UdpPath(HOME, 3)) is None
    assert node.best is None


def test_padded_ping_answered_larger_packets_are_sent() -> None:
    """The path MTU is found with the surplus of a ping."""
    node = make_node()
    node.add_addresses(0.0, [HOME], None, told=True)
    actions = answer(node, 0.01, UdpPath(HOME), ask(node, 0.0)[UdpPath(HOME)])
    (padded,) = [a.message for a in actions if isinstance(a, SendDisco) and isinstance(a.message, Ping)]
    assert padded.padding == 1452 - PING_SIZE
    assert SetMtu(1452) in node.handle_pong(0.02, UdpPath(HOME), Pong(padded.tx_id, HOME))
    assert node.mtu == 1452


def test_only_small_packets_get_through_the_mtu_goes_down() -> None:
    """M7: pongs come back, payload does not, so payload is made smaller."""
    node = settled()
    assert node.best is not None
    node.best.mtu = 1452
    now, sizes = 2.0, []
    for _ in range(400):
        node.handle_sent(now, wants_answer=True)
        due = node.next_timeout()
        assert due is not None
        now = max(now, due)
        actions = node.handle_timeout(now)
        for path, tx_id in pings(actions).items():
            actions += answer(node, now + LATENCY, path, tx_id)
        sizes += [a.size for a in actions if isinstance(a, SetMtu)]
        if BASE_MTU in sizes or now > 10:
            break
    assert BASE_MTU in sizes
    assert now < 5.0


def test_path_events_name_the_path_before_and_after() -> None:
    """A watcher sees one event per move."""
    node = settled()
    actions = node.handle_ping(2.0, UdpPath(AWAY), peer_ping(), PING_SIZE)
    answer(node, 2.02, UdpPath(AWAY), pings(actions)[UdpPath(AWAY)])
    node.handle_timeout(2.04)
    (moved,) = [e for e in node.shared.events if isinstance(e, PathChanged)]
    assert (moved.before, moved.path) == ("192.0.2.1:4433", "198.51.100.9:5000")


@pytest.mark.parametrize("count", [10, 300])
def test_peer_with_many_addresses_state_stays_bounded(count: int) -> None:
    """Never 10: however many addresses a node claims, the table has an end, and the path in use stays."""
    node = settled()
    for i in range(count):
        path = UdpPath((f"10.1.{i // 250}.{i % 250 + 1}", 1000 + i))
        node.handle_ping(2.0 + i / 1000, path, peer_ping(i + 10), PING_SIZE)
    assert len(node.paths) <= 64
    assert node.best is not None
    assert node.paths.get(node.best.path) is node.best


def test_node_id_is_shown_short() -> None:
    """Logs stay readable."""
    assert isinstance(PEER, NodeId)
    assert len(PEER.fmt_short()) == 10
