"""Which frames are lost: each on its own, or in bursts."""

from __future__ import annotations

from netns_fixtures.link import LinkCondition


class LossProcess:
    """Independent loss, or the two-state Gilbert-Elliott chain (good: none lost, bad: all lost).

    The chance to stay bad is 1 - 1/burst, so a burst has a mean of `burst` frames; the chance to turn bad is
    loss / (burst * (1 - loss)), so `loss` of all frames are lost (LAB 2.4). One draw per frame either way.
    """

    __slots__ = ("_bad", "_enter", "_leave")

    def __init__(self, condition: LinkCondition) -> None:
        self._bad = False
        self.change(condition)

    def change(self, condition: LinkCondition) -> None:
        """Take other numbers; a burst that is under way goes on by the new ones."""
        loss, burst = condition.loss, condition.burst
        if burst == 1 or loss in (0, 1):
            # Independent is the chain that forgets: the same chance from both states.
            self._enter, self._leave = loss, 1 - loss
        else:
            self._enter, self._leave = loss / (burst * (1 - loss)), 1 / burst

    def is_lost(self, draw: float) -> bool:
        """Whether the next frame is lost, by a uniform draw from [0, 1)."""
        # Small draws lose, in both states: raising an independent `loss` then only adds to the frames lost.
        self._bad = draw < (1 - self._leave if self._bad else self._enter)
        return self._bad
