"""What a run of pings has found out: pure numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Messages without an answer; further ones wait. At one a second this is a minute of silence.
MAX_OUTSTANDING = 64


@dataclass(slots=True)
class Pinging:
    """Messages sent and answered; times in seconds. Answers come in order: they share a stream."""

    sent: int = 0
    answered: int = 0
    last: float | None = None
    least: float = 0.0
    most: float = 0.0
    total: float = 0.0
    _under_way: dict[int, float] = field(default_factory=dict)

    def handle_sent(self, now: float) -> int:
        """A message leaves; returns its number."""
        self.sent += 1
        self._under_way[self.sent] = now
        return self.sent

    def handle_answer(self, now: float, number: int) -> float | None:
        """An answer came; returns its round-trip time, None for a number that nobody waits for."""
        began = self._under_way.pop(number, None)
        if began is None:
            return None
        seconds = now - began
        self.least = seconds if self.answered == 0 else min(self.least, seconds)
        self.most = max(self.most, seconds)
        self.total += seconds
        self.answered += 1
        self.last = seconds
        return seconds

    @property
    def full(self) -> bool:
        """Whether so much is unanswered that no more should be sent."""
        return len(self._under_way) >= MAX_OUTSTANDING

    def silence(self, now: float) -> float:
        """How long the oldest message without an answer is under way; 0 if all are answered."""
        return now - next(iter(self._under_way.values()), now)

    def summary(self) -> str:
        """All of it as one line."""
        if not self.answered:
            return f"{self.sent} sent, none answered"
        mean = self.total / self.answered
        times = "/".join(f"{seconds * 1000:.2f}" for seconds in (self.least, mean, self.most))
        return f"{self.sent} sent, {self.answered} answered, rtt min/avg/max {times} ms"
