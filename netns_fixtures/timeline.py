"""Faults as a timeline: which verb happens when, in seconds from its start.

::

    timeline = lab.timeline()
    timeline.at(2.0, laptop.link.down)
    timeline.at(5.0, laptop.replug, hotspot)
    timeline.every(1.0, home.nat.rebind, times=3, start=6.0)
    with timeline.running():
        ...

The steps are plain calls, done by a thread of the timeline: no event loop waits for them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netns_fixtures.errors import TopologyError
from netns_fixtures.playing import Playing, StepDone
from netns_fixtures.verbs import is_handle, signature_of, verb_names

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

__all__ = ["Playing", "Step", "StepDone", "Timeline"]

#: Steps of one timeline; a flap every 10 ms for 100 s.
MAX_STEPS = 10_000
#: A day: more than any test, and low enough to refuse a time of the wall clock.
MAX_TIME = 86_400.0


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a timeline, ``at`` seconds from its start."""

    at: float
    verb: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The call as a person would write it."""
        words = [_shown(arg) for arg in self.args]
        words += [f"{name}={_shown(value)}" for name, value in self.kwargs]
        return f"{_name(self.verb)}({', '.join(words)})"

    def do(self) -> None:
        """Carry it out."""
        self.verb(*self.args, **dict(self.kwargs))


class Timeline:
    """Steps of one lab, in order of time; those of one time in the order in which they were added.

    Can be run again and again; a run does what was added before it began.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._steps: list[Step] = []

    def __repr__(self) -> str:
        return f"<Timeline of {self.lab.name}: {len(self._steps)} steps in {self.duration:g} s>"

    @property
    def steps(self) -> tuple[Step, ...]:
        """What happens, in order."""
        return tuple(sorted(self._steps, key=_when))

    @property
    def duration(self) -> float:
        """Seconds until the last step begins."""
        return max((step.at for step in self._steps), default=0.0)

    def at(self, time: float, verb: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Timeline:
        """Call ``verb(*args, **kwargs)`` at ``time`` seconds from the start; returns the timeline.

        A verb of the lab, or any other plain function. Raises TopologyError for a time that is none, and for
        arguments that the verb does not take; TypeError for what cannot be called, or must be awaited.
        """
        _check_time(time)
        _check_call(verb, args, kwargs)
        self._add(Step(float(time), verb, args, tuple(kwargs.items())))
        return self

    def every(
        self,
        interval: float,
        verb: Callable[..., Any],
        /,
        *args: Any,
        times: int,
        start: float | None = None,
        **kwargs: Any,
    ) -> Timeline:
        """Call a verb ``times`` times, each ``interval`` seconds after the one before.

        The first at ``start`` seconds (default: one interval). Raises as ``at`` does.
        """
        _check_time(interval)
        if interval <= 0:
            raise TopologyError(f"interval={interval!r}: it is above 0 seconds")
        if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MAX_STEPS:
            raise TopologyError(f"times={times!r}: it is a whole number from 1 to {MAX_STEPS}")
        first = interval if start is None else start
        for number in range(times):
            self.at(first + number * interval, verb, *args, **kwargs)
        return self

    def running(self) -> Playing:
        """``with timeline.running():`` or ``async with``: the steps happen while the block runs.

        The end of the block waits for the last step, and raises TimelineError if one failed. An exception in
        the block cancels the steps that are left.
        """
        return Playing(self.lab, self.steps)

    def run(self) -> tuple[StepDone, ...]:
        """Do all steps, each at its time; returns what was done when. Raises TimelineError.

        It blocks: in async code, ``await timeline.play()``.
        """
        with self.running() as playing:
            pass
        return playing.done

    async def play(self) -> tuple[StepDone, ...]:
        """The same for async code: the loop runs on. Cancelling it cancels the steps that are left."""
        async with self.running() as playing:
            await playing.finished()
        return playing.done

    def _add(self, step: Step) -> None:
        if len(self._steps) >= MAX_STEPS:
            raise TopologyError(f"a timeline has {MAX_STEPS} steps at most")
        self._steps.append(step)


def _when(step: Step) -> float:
    """The only key: sorting keeps the order of steps of one time."""
    return step.at


def _check_time(time: float) -> None:
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise TopologyError(f"{time!r} is no time: give seconds, such as 2.5")
    if not (math.isfinite(time) and 0 <= time <= MAX_TIME):
        raise TopologyError(f"{time!r} is no time of a timeline: give seconds from 0 to {MAX_TIME:g}")


def _check_call(verb: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not callable(verb):
        raise TypeError(f"{verb!r} cannot be called: give the verb itself, laptop.link.down without ()")
    if inspect.iscoroutinefunction(verb):
        raise TypeError(f"{verb!r} must be awaited, and a timeline does plain calls")
    owner = getattr(verb, "__self__", None)
    name = getattr(verb, "__name__", "")
    if owner is not None and is_handle(owner) and name in verb_names(type(owner)):
        kind: Any = type(owner)
        signature_of(kind, name).bind(args, kwargs)


def _name(verb: Callable[..., Any]) -> str:
    owner = getattr(verb, "__self__", None)
    name = getattr(verb, "__name__", repr(verb))
    if owner is None or not is_handle(owner):
        return str(getattr(verb, "__qualname__", name))
    from netns_fixtures.paths import path_of  # paths know labs, and labs know us

    return f"{path_of(owner)}.{name}"


def _shown(value: Any) -> str:
    if is_handle(value):
        from netns_fixtures.paths import path_of

        return path_of(value)
    return repr(value)
