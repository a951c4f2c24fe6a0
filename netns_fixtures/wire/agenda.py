"""Which line has a frame due next, among many."""

from __future__ import annotations

from heapq import heappop, heappush

from netns_fixtures.wire.line import Line


class Agenda:
    """A heap of (time, line). A line stands in it once for each time it asked to be looked at earlier.

    An entry whose time is not the line's `scheduled_for` any more is stale and skipped; so nothing is ever
    searched for, and adding costs a logarithm however many links wait.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Line]] = []
        self._entries = 0  # breaks ties, lines have no order

    @property
    def next_due(self) -> float | None:
        """The earliest time that anything may be due; None if nothing waits."""
        return self._heap[0][0] if self._heap else None

    def note(self, line: Line) -> None:
        """Remember when the line's model has its next frame."""
        due = line.model.next_due
        if due is None or (line.scheduled_for is not None and line.scheduled_for <= due):
            return
        line.scheduled_for = due
        self._entries += 1
        heappush(self._heap, (due, self._entries, line))

    def pop_due(self, now: float) -> Line | None:
        """The next line to deliver from, or None; `note` it again afterwards."""
        while self._heap and self._heap[0][0] <= now:
            due, _, line = heappop(self._heap)
            if due == line.scheduled_for:
                line.scheduled_for = None
                return line
        return None
