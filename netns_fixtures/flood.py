"""When a recording must step back: keeping every frame of a bulk transfer would slow the test down. Pure.

Each frame that is kept costs 1 to 1.5 us of a processor, on every interface that it crosses. So above a rate, first
frames of bulk data are left out, then all; and now and then the guard looks whether the flood is over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Frames per second, of all interfaces together, up to which everything is kept: 2 to 3 % of a processor.
MAX_RATE = 20_000
#: Bytes that count as a frame: copying so many takes as long. Between namespaces of one machine a "frame" may hold
#: 64 KiB.
FRAME_BYTES = 2000
#: Seconds over which the rate is measured; shorter than what a person calls a burst.
WINDOW = 0.1
#: Seconds that a restriction lasts before the guard looks again.
HOLD = 0.5
#: Bytes up to which a frame is kept in a flood: ARP, ICMP, disco, acknowledgements, but no bulk data.
SMALL = 300
#: Pauses on record.
MAX_PAUSES = 10_000


@dataclass(slots=True)
class Pause:
    """A time in which frames were left out: all beyond ``largest`` bytes. ``end`` is None while it lasts."""

    start: float
    largest: int
    end: float | None = None


class FloodGuard:
    """Decides how large the frames are that are kept. ``now``: seconds of a monotonic clock."""

    def __init__(self, max_rate: float = MAX_RATE) -> None:
        self._limit = max_rate * WINDOW
        self._window = float("-inf")
        self._count = 0
        #: Frames longer than this are left out; None: nothing is.
        self.largest: int | None = None
        #: When to call ``look`` at the latest; None: not needed.
        self.due: float | None = None
        #: What was left out when, oldest first.
        self.pauses: deque[Pause] = deque(maxlen=MAX_PAUSES)

    def note(self, now: float, frames: int, size: int = 0) -> bool:
        """So many frames came, of so many bytes together; returns whether ``largest`` changed."""
        if now - self._window > WINDOW:
            self._window, self._count = now, 0
        self._count += max(frames, size // FRAME_BYTES)
        if self._count <= self._limit or self.largest == 0:
            return False
        self._restrict(now, 0 if self.largest is not None else SMALL)
        return True

    def look(self, now: float) -> bool:
        """Time has passed; returns whether ``largest`` changed."""
        if self.due is None or now < self.due:
            return False
        self._end(now)
        self.largest = self.due = None
        self._count = 0
        return True

    def stop(self, now: float) -> None:
        """Nothing more will come."""
        self._end(now)
        self.due = None

    @property
    def paused(self) -> float:
        """Seconds in which something was left out, as far as they are over."""
        return sum(pause.end - pause.start for pause in self.pauses if pause.end is not None)

    def _restrict(self, now: float, largest: int) -> None:
        self._end(now)
        self.largest = largest
        self.due = now + HOLD
        self._count = 0
        self.pauses.append(Pause(now, largest))

    def _end(self, now: float) -> None:
        if self.pauses and self.pauses[-1].end is None:
            self.pauses[-1].end = now
