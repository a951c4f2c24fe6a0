"""A scenario as data: what a lab is made of, and what happens in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netns_fixtures.scenario.marked import Key

#: The version of the format; a file of another one is refused.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Action:
    """A verb with its arguments as plain values: ``target`` is a path such as "laptop.link".

    ``at``: seconds from the start of the timeline; None while the lab is described. ``key``: its place in the
    file.
    """

    target: str
    verb: str
    args: Mapping[str, Any] | tuple[Any, ...] = field(default_factory=dict)
    at: float | None = None
    key: Key = field(default=(), compare=False)

    @property
    def path(self) -> str:
        """The verb as a file names it: "laptop.link.down"."""
        return f"{self.target}.{self.verb}"


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same verb ``times`` times, each ``interval`` seconds after the one before, the first at its ``at``."""

    action: Action
    interval: float
    times: int

    @property
    def actions(self) -> tuple[Action, ...]:
        """One action for each time."""
        first = self.action.at or 0.0
        each = self.action
        return tuple(
            # Rounded to a nanosecond: 0.1 * 3 must not be printed as 0.30000000000000004.
            Action(each.target, each.verb, each.args, round(first + n * self.interval, 9), each.key)
            for n in range(self.times)
        )


@dataclass(frozen=True, slots=True)
class Command:
    """A program of a host, started before the timeline; ``ready``: a pattern that its output has then."""

    host: str
    argv: tuple[str, ...]
    ready: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    key: Key = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """Something with a name that a lab is made of: ``kind`` is the verb of the lab that makes it, "router"."""

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    key: Key = field(default=(), compare=False)


def is_time(value: object) -> bool:
    """Whether a value of a file is a number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value >= 0
