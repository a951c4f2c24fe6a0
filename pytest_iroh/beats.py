"""When messages were sent and answered: what both kinds of pulse write down."""

from __future__ import annotations

import threading
from collections import deque
from itertools import pairwise
from typing import Protocol

#: Beats that are kept: ten minutes at 20 ms.
MAX_BEATS = 30_000
#: Seconds between two messages; the number of the mission ("a small message going every 20 ms").
BEAT_INTERVAL = 0.02


class Beats:
    """Pairs of times, in order: a message was sent, its answer came. All in seconds of one clock."""

    def __init__(self) -> None:
        self._beats: deque[tuple[float, float]] = deque(maxlen=MAX_BEATS)
        self._bytes: deque[float] = deque(maxlen=MAX_BEATS)
        self._lock = threading.Lock()
        #: When the wait for an answer ended in vain; None if it did not.
        self.given_up: float | None = None

    def note_bytes(self, now: float) -> None:
        """Something came in."""
        with self._lock:
            self._bytes.append(now)

    def note_answer(self, sent: float, now: float) -> None:
        """The answer to a message that was sent then is complete."""
        with self._lock:
            self._beats.append((sent, now))

    def byte_times(self) -> list[float]:
        """When bytes came in, in order."""
        with self._lock:
            return list(self._bytes)

    def first_answer(self, after: float) -> float | None:
        """When the first answer to a message that was *sent* after a time came, or None.

        Such an answer proves both directions of the network as it is after that time: nothing of it was under
        way before.
        """
        found = None
        with self._lock:
            for sent, answered in reversed(self._beats):
                if sent <= after:
                    break
                found = answered
        return found

    def first_byte(self, after: float) -> float | None:
        """When the first bytes after a time came in, or None."""
        with self._lock:
            return next((t for t in self._bytes if t > after), None)

    def longest_silence(self, around: float, until: float) -> float | None:
        """The longest time without bytes, from the last before ``around`` to ``until``; None without any."""
        with self._lock:
            before = next((t for t in reversed(self._bytes) if t <= around), None)
            if before is None:
                return None
            times = [t for t in self._bytes if before <= t < until] + [until]
        return max(later - earlier for earlier, later in pairwise(times))

    @property
    def count(self) -> int:
        """Answers that are on record."""
        return len(self._beats)


class Pulse(Protocol):
    """What ``heals`` needs of a pulse."""

    beats: Beats
    #: Messages sent, and answered.
    sent: int
    received: int
    #: Why the pulse ended by itself: it can never answer again.
    error: BaseException | None

    def trouble(self) -> str:
        """Why there is no answer, as a sentence; "" if that is not known."""
        ...
