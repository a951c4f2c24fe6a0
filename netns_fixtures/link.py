"""What a link does to the frames that cross it, as data: no kernel, no engine.

The same :class:`LinkCondition` drives both engines, netem and the userspace wire (`netns_fixtures.wire`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypedDict

from netns_fixtures.ecn import Ecn
from netns_fixtures.errors import TopologyError

# Far above any path on earth (0.3 s over a geostationary satellite), and low enough to refuse most numbers
# that somebody wrote in milliseconds by mistake.
MAX_DELAY = 10.0

# What a home router buffers; patchbay's 0.1 used 0.4 s, its 0.7 presets 15 to 600 ms (LAB 2.4).
DEFAULT_QUEUE = 0.1

_PROBABILITIES = ("loss", "reorder", "duplicate", "corrupt")
_DURATIONS = ("delay", "jitter", "queue")


class LinkFields(TypedDict, total=False):
    """The fields of a :class:`LinkCondition`, as keyword arguments of ``interface.condition()``."""

    delay: float
    jitter: float
    loss: float
    burst: float
    rate: float | None
    queue: float
    reorder: float
    duplicate: float
    corrupt: float
    ecn: Ecn | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCondition:
    """What one direction of a link does to frames; the default does nothing.

    delay: seconds, one way.
    jitter: seconds; each frame takes `delay` plus a uniform draw from -jitter to +jitter, never below 0.
        Order is kept: a frame never overtakes an earlier one, so under load the mean tends to the upper end.
    loss: probability 0..1 that a frame is lost.
    burst: mean number of consecutive frames lost at once. 1 draws each frame on its own; above 1 is
        Gilbert-Elliott with recovery 1/burst and entry loss / (burst * (1 - loss)) (LAB 2.4).
    rate: bit/s of whole Ethernet frames, or None for no limit.
    queue: seconds of waiting that the buffer before a limited rate holds; frames beyond are dropped (tail
        drop). Means nothing without `rate`.
    reorder: probability that a frame is held back until others have passed it.
    duplicate: probability that a frame arrives twice.
    corrupt: probability that one bit beyond the Ethernet header is flipped.
    ecn: what happens to the ECN field, an Ecn or the name of one of its presets; None leaves it alone.

    Raises TopologyError for a value out of range, also for `loss` and `burst` that cannot both hold.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    rate: float | None = None
    queue: float = DEFAULT_QUEUE
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    ecn: Ecn | None = None

    def __post_init__(self) -> None:
        for name in ("burst", *_DURATIONS, *_PROBABILITIES):
            _check_number(name, getattr(self, name))
        for name in _DURATIONS:
            _check(0 <= getattr(self, name) <= MAX_DELAY, self, name, f"seconds, from 0 to {MAX_DELAY:g}")
        for name in _PROBABILITIES:
            _check(0 <= getattr(self, name) <= 1, self, name, "a probability, from 0 to 1")
        _check(1 <= self.burst <= 1e6, self, "burst", "a mean number of frames, 1 or more")
        if self.rate is not None:
            _check_number("rate", self.rate)
            _check(1 <= self.rate <= 1e12, self, "rate", "bit/s, 1 or more, or None for no limit")
        # The entry probability loss / (burst * (1 - loss)) must not exceed 1.
        feasible = self.burst == 1 or self.loss == 1 or self.loss <= self.burst / (1 + self.burst)
        _check(feasible, self, "loss", f"at most burst / (1 + burst) with bursts of {self.burst:g}, or 1")
        object.__setattr__(self, "ecn", Ecn.of(self.ecn))
        if self.ecn is not None and self.ecn.mark_above is not None:
            _check_marking(self.ecn.mark_above, self)

    @property
    def is_clear(self) -> bool:
        """Whether frames cross unchanged and at once, so that no engine is needed."""
        return (
            self.rate is None
            and (self.ecn is None or self.ecn.is_clear)
            and not any((self.delay, self.jitter, self.loss, self.reorder, self.duplicate, self.corrupt))
        )

    @classmethod
    def preset(cls, name: str) -> LinkCondition:
        """The condition known by that name, one way; raises TopologyError naming those that exist."""
        from netns_fixtures import presets  # here, because presets are made of conditions

        return presets.link(name)

    def with_(self, **changes: float | Ecn | str | None) -> LinkCondition:
        """A copy with some fields changed; raises TopologyError for an unknown field or a wrong value."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise TopologyError(f"a link condition has no {name!r}; it has {', '.join(known)}")
        return replace(self, **changes)  # type: ignore[arg-type]  # __post_init__ checks each value

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON; `LinkCondition(**data)` is the way back."""
        return asdict(self)

    def __str__(self) -> str:
        return ", ".join(_phrases(self)) or "clear"


def _phrases(condition: LinkCondition) -> list[str]:
    c = condition
    phrases = []
    if c.delay or c.jitter:
        phrases.append(f"{c.delay * 1e3:g} ms" + (f" ± {c.jitter * 1e3:g} ms" if c.jitter else ""))
    if c.loss:
        phrases.append(f"{c.loss:.4g} lost" + (f" in bursts of {c.burst:g}" if c.burst > 1 else ""))
    if c.rate is not None:
        phrases.append(f"{c.rate / 1e6:g} Mbit/s with a queue of {c.queue * 1e3:g} ms")
    phrases += [
        f"{value:.4g} {word}"
        for word, value in (("reordered", c.reorder), ("duplicated", c.duplicate), ("corrupted", c.corrupt))
        if value
    ]
    return phrases if c.ecn is None or c.ecn.is_clear else [*phrases, str(c.ecn)]


def _check_marking(threshold: float, condition: LinkCondition) -> None:
    """A threshold that no frame can wait for would be a link without marks, silently."""
    if condition.rate is None:
        raise TopologyError(f"ecn: mark_above={threshold!r} needs a rate; without one no frame waits")
    if threshold >= condition.queue:
        raise TopologyError(
            f"ecn: mark_above={threshold!r} needs a longer queue than {condition.queue:g} s: "
            "what would wait longer is dropped"
        )


def _check(right: bool, condition: LinkCondition, name: str, meaning: str) -> None:
    if not right:
        raise TopologyError(f"{name}={getattr(condition, name)!r}: {name} is {meaning}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TopologyError(f"{name}={value!r}: {name} is a number")
