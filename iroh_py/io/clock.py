"""The system's clocks, and a watch that notices missed time: suspend, SIGSTOP, a blocked event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Seconds between two looks. On resume the loop's timer still has to run out, so this bounds how late suspend
#: is seen.
TICK_INTERVAL = 1.0
#: Missed seconds that count as a jump: NATs keep UDP mappings longer than this, a busy event loop blocks
#: shorter.
JUMP_THRESHOLD = 2.0


def boottime() -> float:
    """Seconds on the clock that also runs during suspend (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Calls ``callback(seconds)`` from the running event loop when that many seconds were missed.

    A suspended machine shows as boot time running ahead of monotonic time, a stopped process as a late tick;
    both are seen at the first tick after (PROTOCOL.md trap 10). ``time`` and ``boottime`` are those of the
    network, so that the watch also works on a simulated one. Needs a running event loop; all times are
    seconds.
    """

    def __init__(
        self,
        callback: Callable[[float], None],
        *,
        time: Callable[[], float] = time.monotonic,
        boottime: Callable[[], float] = boottime,
        interval: float = TICK_INTERVAL,
        threshold: float = JUMP_THRESHOLD,
    ) -> None:
        self._callback = callback
        self._time = time
        self._boottime = boottime
        self._interval = interval
        self._threshold = threshold
        self._loop = asyncio.get_running_loop()
        self._mono, self._boot = time(), boottime()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(interval, self._tick)

    def check(self) -> float:
        """Look now, outside the ticks: report a jump, if any; return the missed seconds (0.0 if none)."""
        mono, boot = self._time(), self._boottime()
        passed = max(mono - self._mono, boot - self._boot)
        missed = passed - self._interval
        self._mono, self._boot = mono, boot
        if missed <= self._threshold:
            return 0.0
        self._callback(missed)
        return missed

    def close(self) -> None:
        """Stop; no callback after this returns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        # Armed before the callback, which may close the watch or raise.
        self._timer = self._loop.call_later(self._interval, self._tick)
        self.check()
