"""How long to wait before dialling a relay again (PROTOCOL.md 7.5)."""

from __future__ import annotations

from typing import Protocol

#: First wait and growth as iroh 0.35.
FIRST_WAIT = 0.01
FACTOR = 2.0
#: iroh's ceiling of 16 s makes a relay that restarts after 20 s unused for up to 16 s more. One SYN per
#: second costs nobody anything, so the ceiling is low while there is hope, and iroh's after two minutes of
#: failures.
EAGER_CEILING = 0.8
EAGER_FOR = 120.0
CEILING = 16.0


class Uniform(Protocol):
    """The part of random.Random that is needed here."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between a and b."""
        ...


class Backoff:
    """Exponential waits with jitter; a success or a network change starts them over."""

    __slots__ = ("_failing_since", "_rng", "_wait")

    def __init__(self, rng: Uniform) -> None:
        self._rng = rng
        self._wait = FIRST_WAIT
        self._failing_since: float | None = None

    def reset(self) -> None:
        """The next failure counts as the first."""
        self._wait = FIRST_WAIT
        self._failing_since = None

    def next_wait(self, now: float, *, wanted: bool = False) -> float:
        """Seconds to wait after a failure at ``now``; ``wanted``: data is waiting, so never wait long."""
        if self._failing_since is None:
            self._failing_since = now
        hopeful = wanted or now - self._failing_since < EAGER_FOR
        wait = min(self._wait, EAGER_CEILING if hopeful else CEILING)
        self._wait = min(self._wait * FACTOR, CEILING)
        # Equal jitter: clients of a relay that restarts come back spread over half of the wait.
        return self._rng.uniform(wait / 2, wait)
