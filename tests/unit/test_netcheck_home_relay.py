"""The choice of the home relay, as tables (PROTOCOL.md 5.6)."""

from __future__ import annotations

import pytest

from iroh_py.proto.home_relay import BARRED_SECONDS, FAILOVER_AFTER, HISTORY_SECONDS, MAX_REPORTS, HomeRelay
from iroh_py.proto.netcheck.report import Report
from iroh_py.proto.stand_ins import MAX_FAILING, MAX_STAND_INS, STAND_IN_AFTER, StandIns
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

A, B, C = (RelayUrl(f"http://{name}.test./") for name in "abc")
NODES = [RelayNode(url) for url in (A, B, C)]


def report(at: float, ok: str = "", **latency: float) -> Report:
    """A report with latencies in milliseconds by letter; ``ok``: the letters that answered over TCP."""
    urls = {"a": A, "b": B, "c": C}
    return Report(
        started=at,
        finished=at,
        full=True,
        relay_latency={urls[name]: ms / 1000 for name, ms in latency.items()},
        https_ok=frozenset(urls[name] for name in ok),
    )


def chosen(*latencies: dict[str, float]) -> RelayUrl | None:
    """The home relay after these reports, made 20 s apart, its connection working all the time."""
    home = HomeRelay(0.0, NODES)
    for number, latency in enumerate(latencies):
        home.handle_report(20.0 * number, report(20.0 * number, "", **latency))
        if home.current is not None:
            home.handle_connection(20.0 * number, home.current, healthy=True)
    return home.current


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([{"a": 20, "b": 10, "c": 30}], B),
        ([{"a": 10, "b": 10}], A),
        # a little nearer is not near enough: below two thirds it is
        ([{"a": 100}, {"a": 100, "b": 67}], A),
        ([{"a": 100}, {"a": 100, "b": 66}], B),
        # the best of the last five minutes counts for the others, not for the one in use
        ([{"a": 100, "b": 200}, {"a": 100, "b": 50}, {"a": 100, "b": 200}], B),
        ([{"a": 10, "b": 20}, {"a": 25, "b": 20}], A),
        ([{"a": 10, "b": 20}, {"a": 31, "b": 20}], A),
        # one report in which it does not answer is no reason to leave
        ([{"a": 10, "b": 20}, {"b": 20}], A),
        ([{"a": 10, "b": 20}, {}], A),
        # nobody ever answers: any is better than none
        ([{}], A),
    ],
)
def test_nearest_relay_wins_and_stays(latencies: list[dict[str, float]], expected: RelayUrl) -> None:
    """Lowest latency, with hysteresis against flapping."""
    assert chosen(*latencies) == expected


def test_old_latencies_are_forgotten_after_five_minutes() -> None:
    """A relay that was near once is not near for ever."""
    home = HomeRelay(0.0, NODES)
    home.handle_report(0.0, report(0.0, a=100, b=10))
    assert home.current == B
    home.handle_connection(0.1, B, healthy=True)
    late = HISTORY_SECONDS + 1
    assert home.handle_report(late, report(late, a=10, b=100))
    assert home.current == A


def test_network_change_forgets_latencies_at_once() -> None:
    """Trap 13: what was near elsewhere is not near here."""
    home = HomeRelay(0.0, NODES)
    home.handle_report(0.0, report(0.0, a=10, b=100))
    home.handle_network_change(1.0)
    assert home.handle_report(1.5, report(1.5, a=100, b=30))
    assert home.current == B


def test_only_relay_needs_no_report() -> None:
    """There is nothing to choose, so it is dialled before the first answer."""
    assert HomeRelay(0.0, [NODES[0]]).current == A


def test_first_answer_chooses_among_several() -> None:
    """Who answers first is the nearest; later answers change nothing."""
    home = HomeRelay(0.0, NODES)
    assert home.current is None
    assert home.handle_answer(0.02, B)
    assert not home.handle_answer(0.03, A)
    assert home.current == B


def test_relay_for_stun_only_is_never_home() -> None:
    """It takes no connections."""
    home = HomeRelay(0.0, [RelayNode(A, stun_only=True), NODES[1], NODES[2]])
    assert not home.handle_answer(0.01, A)
    home.handle_report(0.1, report(0.1, a=1, b=10, c=20))
    assert home.current == B


def dead_home() -> tuple[HomeRelay, float]:
    home = HomeRelay(0.0, NODES)
    home.handle_report(0.0, report(0.0, a=10, b=20))
    home.handle_connection(0.1, A, healthy=True)
    assert home.next_check() is None
    home.handle_connection(100.0, A, healthy=False)
    return home, 100.0 + FAILOVER_AFTER


def test_dead_home_relay_is_left_for_one_that_takes_connections() -> None:
    """M11: STUN still answers, TCP does not; the nearest that answers over TCP takes over."""
    home, now = dead_home()
    assert home.next_check() == now
    assert home.handle_report(now, report(now, ok="c", a=10, b=20, c=30))
    assert home.current == C


def test_home_relay_that_answers_over_tcp_stays() -> None:
    """Its connection will come back in a moment."""
    home, now = dead_home()
    assert not home.handle_report(now, report(now, ok="ab", a=10, b=20))
    assert home.current == A


def test_short_interruption_moves_nobody() -> None:
    """A restart takes a second; thousands of clients should not all move."""
    home, _ = dead_home()
    assert not home.handle_report(101.0, report(101.0, ok="b", b=20))
    assert home.current == A


def test_nobody_answers_home_relay_stays_and_is_asked_again() -> None:
    """Then it is our network that is down."""
    home, now = dead_home()
    home.handle_check(now)
    assert not home.handle_report(now, report(now))
    assert home.current == A
    again = home.next_check()
    assert again is not None
    assert again > now


def test_relay_that_was_left_is_barred_for_a_while() -> None:
    """Else the next report would choose it again for its latency, and the one after leave it."""
    home, now = dead_home()
    home.handle_report(now, report(now, ok="b", a=10, b=100))
    home.handle_connection(now + 0.1, B, healthy=True)
    assert not home.handle_report(now + 20, report(now + 20, a=10, b=100))
    later = now + BARRED_SECONDS + 1
    assert home.handle_report(later, report(later, a=10, b=100))
    assert home.current == A


def test_history_is_bounded() -> None:
    """A storm of reports does not fill memory."""
    home = HomeRelay(0.0, NODES)
    for number in range(1000):
        home.handle_report(number * 0.01, report(number * 0.01, a=10))
    assert len(home._history) == MAX_REPORTS


def test_copies_go_home_at_once_and_to_meeting_points_later() -> None:
    """Both sides agree on them without a word: those that come first in the map."""
    stand = StandIns([A, B, C])
    stand.handle_fails(10.0, A)
    assert stand.instead_of(10.0, A, B) == [B]
    assert stand.instead_of(10.0, A, None) == []
    assert stand.instead_of(10.0 + STAND_IN_AFTER, A, None) == [B, C]
    assert stand.instead_of(10.0 + STAND_IN_AFTER, A, C) == [C, B]
    assert len(stand.instead_of(20.0, A, C)) <= MAX_STAND_INS
    stand.handle_works(A)
    stand.handle_fails(30.0, A)
    assert stand.instead_of(30.0, A, None) == []


def test_failing_relays_are_bounded() -> None:
    """Peers name relays; a thousand dead ones are no reason to remember them all."""
    stand = StandIns([A, B])
    for number in range(1000):
        stand.handle_fails(float(number), RelayUrl(f"http://r{number}.test./"))
    assert len(stand.failing) == MAX_FAILING
