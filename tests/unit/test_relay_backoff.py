"""Waiting between dials, and the token bucket of the rate limit."""

from __future__ import annotations

import random

import pytest

from iroh_py.proto.relay.backoff import Backoff
from iroh_py.proto.relay.token_bucket import TokenBucket


class _Longest:
    """Jitter at its upper end."""

    def uniform(self, a: float, b: float, /) -> float:
        return b


def test_waits_double_from_10_ms_to_the_eager_ceiling() -> None:
    """While there is hope nobody waits more than 0.8 s."""
    backoff = Backoff(_Longest())
    waits = [backoff.next_wait(100.0) for _ in range(9)]
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 0.8, 0.8]


def test_waits_reach_16_seconds_after_two_minutes_of_failures() -> None:
    """A relay that is gone for long is asked rarely, unless data waits for it."""
    backoff = Backoff(_Longest())
    for _ in range(15):
        backoff.next_wait(100.0)
    assert backoff.next_wait(219.9) == 0.8
    assert backoff.next_wait(220.0) == 16.0
    assert backoff.next_wait(221.0, wanted=True) == 0.8


def test_reset_starts_over() -> None:
    """After a success the next failure waits 10 ms again."""
    backoff = Backoff(_Longest())
    for _ in range(5):
        backoff.next_wait(100.0)
    backoff.reset()
    assert backoff.next_wait(500.0) == 0.01


def test_jitter_spreads_over_half_of_the_wait() -> None:
    """Clients of one relay do not come back in step."""
    rng = random.Random(1)
    waits = []
    for _ in range(200):
        backoff = Backoff(rng)
        waits.append(backoff.next_wait(0.0))
    assert min(waits) >= 0.005
    assert max(waits) <= 0.01
    assert max(waits) - min(waits) > 0.004


def test_bucket_lets_the_burst_pass_and_then_the_rate() -> None:
    """What exceeds the burst is paid for by waiting."""
    bucket = TokenBucket(0.0, rate=100.0, burst=50.0)
    assert bucket.take(0.0, 50.0) == 0.0
    assert bucket.take(0.0, 10.0) == pytest.approx(0.1)
    assert bucket.take(0.1, 0.0) == 0.0
    assert bucket.take(100.0, 50.0) == 0.0


def test_bucket_refuses_what_is_not_there() -> None:
    """Trying takes nothing when there is not enough."""
    bucket = TokenBucket(0.0, rate=1.0, burst=2.0)
    assert [bucket.try_take(0.0, 1.0) for _ in range(3)] == [True, True, False]
    assert bucket.try_take(1.0, 1.0)
