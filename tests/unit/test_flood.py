"""When a recording leaves frames out, and when it keeps all again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.flood import HOLD, SMALL, FloodGuard


def test_a_steady_trickle_is_kept_whole() -> None:
    """Just below the limit for minutes: nothing is left out."""
    guard = FloodGuard(1000)
    assert not any(guard.note(i * 0.02, 16) for i in range(10_000))
    assert guard.largest is None
    assert not guard.pauses


def test_a_flood_first_loses_its_bulk_and_then_everything() -> None:
    """Small frames are kept until they are a flood themselves."""
    guard = FloodGuard(1000)
    assert guard.note(1.0, 101)
    assert guard.largest == SMALL
    assert not guard.note(1.01, 100)
    assert guard.note(1.02, 1)
    assert guard.largest == 0
    assert not guard.note(1.03, 10_000)


def test_the_guard_looks_again_after_a_while() -> None:
    """Everything is kept again; the pauses are on record."""
    guard = FloodGuard(1000)
    guard.note(1.0, 101)
    assert guard.due == 1.0 + HOLD
    assert not guard.look(1.0 + HOLD / 2)
    assert guard.look(1.0 + HOLD)
    assert guard.largest is None
    assert guard.due is None
    assert [(pause.start, pause.end, pause.largest) for pause in guard.pauses] == [(1.0, 1.0 + HOLD, SMALL)]
    assert guard.paused == HOLD


def test_a_pause_ends_with_the_recording() -> None:
    """No pause is left open."""
    guard = FloodGuard(1000)
    guard.note(1.0, 101)
    guard.stop(1.25)
    assert guard.paused == 0.25
    assert guard.due is None


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 400), st.booleans()), max_size=60))
def test_pauses_never_overlap(steps: list[tuple[float, int, bool]]) -> None:
    """Whatever comes when: in order, at most one open, and open exactly while something is left out."""
    guard, now = FloodGuard(1000), 0.0
    for delay, frames, looks in steps:
        now += delay
        guard.look(now) if looks else guard.note(now, frames)
        ends = [pause.end for pause in guard.pauses]
        assert [end for end in ends if end is None] == [None] * (guard.largest is not None)
        assert None not in ends[:-1]
    edges = [edge for pause in guard.pauses for edge in (pause.start, pause.end) if edge is not None]
    assert edges == sorted(edges)


def test_long_frames_count_by_their_bytes() -> None:
    """A transfer in frames of 64 KiB is a flood, although there are few of them."""
    guard = FloodGuard()
    assert not guard.note(0.0, 60, 60 * 65536)
    assert guard.note(0.01, 60, 60 * 65536)
    assert guard.largest == SMALL
    assert not guard.note(0.02, 60, 60 * 100), "what is small goes on"
