"""A token bucket: so many bytes per second, with a burst (PROTOCOL.md 7.4)."""

from __future__ import annotations


class TokenBucket:
    """Counts what passes and says how long to pause. ``rate`` in units per second, ``burst`` in units.

    The bucket may go below zero: what was read from a socket cannot be put back, it is paid for by waiting.
    """

    __slots__ = ("_level", "_updated", "burst", "rate")

    def __init__(self, now: float, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._updated = now

    def take(self, now: float, amount: float) -> float:
        """Take an amount; the seconds until the bucket is above zero again, 0 when it is."""
        self._level = min(self.burst, self._level + (now - self._updated) * self.rate) - amount
        self._updated = now
        return 0.0 if self._level >= 0 else -self._level / self.rate

    def try_take(self, now: float, amount: float) -> bool:
        """Take an amount if it is there."""
        self._level = min(self.burst, self._level + (now - self._updated) * self.rate)
        self._updated = now
        if self._level < amount:
            return False
        self._level -= amount
        return True
