"""io/clock.py: missed time is noticed."""

from __future__ import annotations

import asyncio
import time

import pytest

from iroh_py.io.clock import ClockWatch, boottime


class Clocks:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.mono = 100.0
        self.boot = 500.0

    def pass_by(self, seconds: float, suspended: float = 0.0) -> None:
        """Time passes: awake, then suspended."""
        self.mono += seconds
        self.boot += seconds + suspended


def watch(clocks: Clocks, jumps: list[float]) -> ClockWatch:
    """A watch on them that is looked at by hand."""
    return ClockWatch(jumps.append, time=lambda: clocks.mono, boottime=lambda: clocks.boot, interval=1.0)


async def test_suspend_is_seen_at_the_first_tick() -> None:
    """The monotonic clock stands still during suspend; boot time tells (trap 10)."""
    clocks, jumps = Clocks(), list[float]()
    watching = watch(clocks, jumps)
    clocks.pass_by(1.0, suspended=30.0)
    assert watching.check() == 30.0
    assert jumps == [30.0]
    watching.close()


async def test_stopped_process_is_seen_at_the_first_tick() -> None:
    """A process that was stopped (SIGSTOP) finds both clocks ahead (M14)."""
    clocks, jumps = Clocks(), list[float]()
    watching = watch(clocks, jumps)
    clocks.pass_by(121.0)
    assert watching.check() == 120.0
    watching.close()


async def test_regular_and_slightly_late_ticks_are_no_jump() -> None:
    """An event loop that blocks for a second is nothing to report; a jump is reported once."""
    clocks, jumps = Clocks(), list[float]()
    watching = watch(clocks, jumps)
    for seconds in (1.0, 1.2, 2.5, 0.0, 1.0):
        clocks.pass_by(seconds)
        assert watching.check() == 0.0
    clocks.pass_by(10.0)
    watching.check()
    clocks.pass_by(1.0)
    watching.check()
    assert jumps == pytest.approx([9.0])
    watching.close()


async def test_the_loop_looks_by_itself_until_closed() -> None:
    """Ticks come from the running event loop, and end with close."""
    clocks = Clocks()
    jumped = asyncio.Event()
    watching = ClockWatch(
        lambda seconds: jumped.set(), time=lambda: clocks.mono, boottime=lambda: clocks.boot, interval=0.005
    )
    clocks.pass_by(60.0)
    async with asyncio.timeout(5):
        await jumped.wait()
    watching.close()
    watching.close()


def test_boottime_runs_ahead_of_monotonic_time() -> None:
    """Boot time counts everything that monotonic time does, and suspend."""
    assert boottime() >= time.monotonic() - 0.001
