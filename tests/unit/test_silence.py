"""When silence means something: the relay is asked first, then the path is doubted."""

from __future__ import annotations

import pytest
from node_kit import HOME, RELAY, answer, pings, settled

from iroh_py.events import AnswerLate, PathSuspected
from iroh_py.proto.actions import Kick, SendDisco
from iroh_py.proto.disco import Ping
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import RelayPath, UdpPath
from iroh_py.proto.silence import CHECK_INTERVAL, CHECK_MARGIN, MAX_PATIENCE, Silence

RTT = 0.04


def watch(latency: float | None = RTT, *, relayed: bool = True) -> Silence:
    return Silence(lambda: (latency, relayed))


def relayed_node() -> NodeState:
    """A direct path of 20 ms, and a relay that is connected."""
    node = settled()
    node.add_addresses(1.5, [], RELAY, told=True)
    node.shared.relay_connected = lambda url: True
    node.handle_payload(1.6, UdpPath(HOME), 50, fresh=True)
    node.shared.events.clear()
    return node


def test_nothing_sent_nothing_is_awaited() -> None:
    """Silence of a peer that owes us nothing is no sign."""
    silence = watch()
    assert silence.deadline() is None
    assert silence.check_at() is None
    silence.handle_sent(1.0, wants_answer=False)
    assert silence.deadline() is None


def test_relay_is_asked_before_the_path_is_doubted() -> None:
    """A dead relay connection is found out while the path still has its chance."""
    silence = watch()
    silence.handle_sent(1.0, wants_answer=True)
    check, deadline = silence.check_at(), silence.deadline()
    assert check == pytest.approx(1.0 + RTT + CHECK_MARGIN)
    assert check is not None
    assert deadline is not None
    assert check < deadline


def test_old_answers_do_not_hide_that_newer_data_is_unanswered() -> None:
    """Echoes that were under way when the path broke still arrive; the wait counts from the data they do not answer."""
    silence = watch()
    silence.handle_sent(1.0, wants_answer=True)
    silence.handle_payload(1.035)
    silence.unanswered = 1.005
    silence.handle_sent(1.04, wants_answer=True)
    assert silence.check_at() == pytest.approx(1.005 + RTT + CHECK_MARGIN)


def test_queue_on_the_way_is_no_reason_to_ask_while_answers_come() -> None:
    """Data that waits behind other data is late, and yet something arrives all the time."""
    silence = watch()
    silence.unanswered = 1.0
    for step in range(50):
        now = 1.3 + step * 0.01
        silence.handle_payload(now)
        silence.unanswered = now - 0.3
        at = silence.check_at()
        assert at is not None
        assert at > now + 0.01


def test_relay_is_asked_once_a_second_at_most() -> None:
    """Jitter must not become traffic."""
    silence = watch()
    silence.handle_sent(1.0, wants_answer=True)
    silence.handle_check(1.07)
    assert silence.check_at() is None
    silence.handle_payload(1.1)
    silence.unanswered = None
    silence.handle_sent(1.5, wants_answer=True)
    assert silence.check_at() is None
    silence.handle_payload(1.6)
    silence.unanswered = None
    silence.handle_sent(1.07 + CHECK_INTERVAL, wants_answer=True)
    assert silence.check_at() is not None


@pytest.mark.parametrize(("latency", "relayed"), [(None, True), (RTT, False)])
def test_no_relay_or_no_latency_nobody_is_asked(latency: float | None, relayed: bool) -> None:
    """There is nothing to ask, or no idea of what late is."""
    silence = watch(latency, relayed=relayed)
    silence.handle_sent(1.0, wants_answer=True)
    assert silence.check_at() is None


@pytest.mark.parametrize("latency", [0.0, RTT, 0.5, 5.0])
@pytest.mark.parametrize("relayed", [True, False])
def test_unanswered_data_is_missed_within_a_second_whatever_the_latency(
    latency: float, relayed: bool
) -> None:
    """The promise for breaks that nobody reports."""
    silence = watch(latency, relayed=relayed)
    silence.handle_sent(1.0, wants_answer=True)
    for _ in range(5):
        deadline = silence.deadline()
        assert deadline is not None
        assert 1.0 < deadline <= 1.0 + MAX_PATIENCE
        silence.handle_kick(1.0)


def test_answer_late_the_relay_gets_a_ping_and_the_path_stays() -> None:
    """Asking costs one ping: payload goes on by the direct path."""
    node = relayed_node()
    node.handle_sent(2.0, wants_answer=True)
    due = node.next_timeout()
    assert due is not None
    asked = [
        a.path for a in node.handle_timeout(due) if isinstance(a, SendDisco) and isinstance(a.message, Ping)
    ]
    assert asked == [RelayPath(RELAY)]
    assert [type(e) for e in node.shared.events] == [AnswerLate]
    assert [path for path, _ in node.targets(due)] == [UdpPath(HOME)]


def test_relay_breaks_while_an_answer_is_late_the_path_is_doubted_at_once() -> None:
    """A NAT that restarted forgot both: waiting for the path's own deadline would be a waste."""
    node = relayed_node()
    node.handle_sent(2.0, wants_answer=True)
    due = node.next_timeout()
    assert due is not None
    node.handle_timeout(due)
    node.handle_relay_lost(due + 0.001)
    assert any(isinstance(e, PathSuspected) for e in node.shared.events)
    assert RelayPath(RELAY) in [path for path, _ in node.targets(due + 0.001)]


def test_relay_breaks_while_the_path_answers_nothing_is_doubted() -> None:
    """A relay that restarts is no news about the direct path."""
    node = relayed_node()
    node.handle_sent(2.0, wants_answer=True)
    due = node.next_timeout()
    assert due is not None
    node.handle_timeout(due)
    node.handle_payload(due + 0.001, UdpPath(HOME), 50, fresh=True)
    node.handle_relay_lost(due + 0.002)
    assert node.steady


def test_process_stood_still_when_the_answer_was_due_it_gets_its_time_once_more() -> None:
    """A busy machine is no dead path; a path that stays silent is doubted all the same."""
    node = relayed_node()
    node.handle_sent(2.0, wants_answer=True)
    node.handle_timeout(2.9)
    assert node.steady
    assert list(node.shared.events) == []
    node.handle_timeout(3.8)
    assert not node.steady


def test_payload_by_the_doubted_path_ends_no_doubt_while_there_is_a_relay() -> None:
    """One direction may be dead: what the peer acknowledges may have taken the relay. A pong decides."""
    node = relayed_node()
    node.handle_sent(2.0, wants_answer=True)
    now = 2.0
    while node.steady:
        due = node.next_timeout()
        assert due is not None
        now = max(now, due)
        node.handle_timeout(now)
    sent = pings(node.handle_timeout(now) + node.handle_timeout(now + 0.05))
    node.handle_payload(now + 0.06, UdpPath(HOME), 50, fresh=True)
    assert not node.steady
    answer(node, now + 0.07, UdpPath(HOME), sent[UdpPath(HOME)])
    assert node.steady


def test_payload_by_the_doubted_path_ends_the_doubt_where_there_is_no_relay() -> None:
    """Then whatever is acknowledged came by it."""
    node = settled()
    node.handle_payload(1.6, UdpPath(HOME), 50, fresh=True)
    node.handle_sent(2.0, wants_answer=True)
    due = node.next_timeout()
    assert due is not None
    node.handle_timeout(due)
    assert not node.steady
    node.handle_payload(due + 0.01, UdpPath(HOME), 50, fresh=True)
    assert node.steady


def test_peer_turns_to_the_relay_what_is_in_flight_is_sent_again_at_once() -> None:
    """It does not hear us directly: its answers would wait behind what was lost."""
    node = relayed_node()
    actions = node.handle_payload(2.0, RelayPath(RELAY), 50, fresh=True)
    assert Kick(reset=False) in actions
    assert RelayPath(RELAY) in [path for path, _ in node.targets(2.0)]
