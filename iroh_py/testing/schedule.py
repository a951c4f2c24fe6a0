"""Everything that will happen in a simulated network, in order, behind one timer of the event loop.

asyncio's own timers keep no order among equal times; packets of one link must not swap for that. So events
are kept here by (time, order of scheduling).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

from iroh_py.testing.errors import SimulationError

#: Events due within this many seconds of now run now: asyncio wakes up to its clock resolution early.
_EARLY = 1e-9


class Schedule:
    """A queue of calls on the loop that runs when it is first needed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop this network lives on. Raises SimulationError if closed, RuntimeError if none."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        elif self._loop.is_closed():
            raise SimulationError(
                "this network belonged to an event loop that is closed; build a new SimNet per run"
            )
        return self._loop

    def now(self) -> float:
        """Seconds on the loop's clock; 0 before any loop runs, when nothing can have happened yet."""
        if self._loop is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                return 0.0
        return self._loop.time()

    def call_at(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        """Call at a time on the loop's clock; equal times keep the order of scheduling."""
        heapq.heappush(self._heap, (when, next(self._order), callback, args))
        timer = self._timer
        if timer is None or when < timer.when():
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(when, self._run)

    def _run(self) -> None:
        self._timer = None
        heap, due = self._heap, self.loop.time() + _EARLY
        try:
            while heap and heap[0][0] <= due:
                _, _, callback, args = heapq.heappop(heap)
                callback(*args)
        finally:
            # A callback may have scheduled something earlier, and so armed the timer already.
            if heap and (self._timer is None or heap[0][0] < self._timer.when()):
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self.loop.call_at(heap[0][0], self._run)
