"""What ``heals`` found out, and how it says that something did not heal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pytest_iroh.timeline import Entry, story

#: Story lines before the change that are shown with a failure, in seconds.
STORY_BEFORE = 1.0


class DidNotHeal(AssertionError):
    """The subject did not answer in time, or not with the right bytes; the text is the story."""


# Tracebacks and pytest's summary show the name that users import.
DidNotHeal.__module__ = "pytest_iroh"


@dataclass(slots=True)
class Healing:
    """What happened: filled in when the block of ``heals`` ends. Times in seconds."""

    within: float
    #: The last change, as a sentence, and when the verb began (on the clock of the timeline).
    cause: str = ""
    changed_at: float = 0.0
    healed: bool = False
    #: From the last change to the first answer to a message that was *sent after* it; ``within`` limits this.
    seconds: float | None = None
    #: From the last change to the first byte that came in. Not more than ``seconds``; on a link with a delay
    #: it can be the echo of a message that was under way already, and prove nothing.
    first_byte: float | None = None
    #: The longest silence from the last answer before the change to ``seconds`` after it.
    gap: float | None = None
    path_before: str = ""
    path_after: str = ""
    direct: bool = False
    bytes_sent: int = 0
    bytes_lost: int = 0
    messages: int = 0
    link_engine: str = ""
    seed: int | None = None
    timeline: list[Entry] = field(default_factory=list, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values, times in milliseconds."""
        return {
            "healed": self.healed,
            "heal_ms": _ms(self.seconds),
            "first_byte_ms": _ms(self.first_byte),
            "gap_ms": _ms(self.gap),
            "within_ms": _ms(self.within),
            "cause": self.cause,
            "bytes_sent": self.bytes_sent,
            "bytes_lost": self.bytes_lost,
            "path_before": self.path_before,
            "path_after": self.path_after,
            "direct": self.direct,
            "link_engine": self.link_engine,
            "seed": self.seed,
        }

    def story(self) -> str:
        """The merged timeline around the change, times relative to it."""
        return story(self.timeline, self.changed_at - STORY_BEFORE, self.changed_at)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
