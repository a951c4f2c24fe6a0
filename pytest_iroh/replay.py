"""``--netns-replay FILE``: the test of a repro file again, with the seeds that its labs had."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Replay:
    """What a repro file says about a test: its node id, and name and seed of each lab in the order of their making."""

    test: str
    labs: tuple[tuple[str, int], ...]
    #: What the links of the file's own lab were made of; None: nobody had asked for anything.
    link_engine: str | None = None

    @property
    def seed(self) -> int | None:
        """The seed of what has no name of its own in the file: that of the first lab."""
        return self.labs[0][1] if self.labs else None

    def seeds(self) -> Seeds:
        """The seeds for one run."""
        return Seeds(self.labs)


class Seeds:
    """Hands out each recorded seed once: labs of one name get theirs in the order of their making."""

    def __init__(self, labs: tuple[tuple[str, int], ...]) -> None:
        self._left: dict[str, deque[int]] = {}
        for name, seed in labs:
            self._left.setdefault(name, deque()).append(seed)

    def take(self, name: str) -> int | None:
        """The next seed of a lab of this name; None where the file has no more."""
        left = self._left.get(name)
        return left.popleft() if left else None


def read(text: str, config: pytest.Config) -> Replay:
    """The replay of a file, relative to where pytest was started. Raises UsageError naming what is wrong."""
    from netns_fixtures.errors import ScenarioError
    from netns_fixtures.scenario import load_scenario

    path = config.invocation_params.dir / text
    try:
        scenario = load_scenario(path)
    except (OSError, ScenarioError) as error:
        raise pytest.UsageError(f"--netns-replay: {error}") from None
    labs = scenario.test.get("labs", [])
    test = scenario.test.get("test")
    right = isinstance(labs, list) and all(_is_lab(each) for each in labs)
    if not isinstance(test, str) or not right:
        raise pytest.UsageError(
            f"--netns-replay: {os.path.relpath(path)} names no test; it is for netns-lab replay, or no repro file"
        )
    return Replay(test, tuple((each["name"], each["seed"]) for each in labs), scenario.link_engine)


def choose(config: pytest.Config, replay: Replay | None) -> None:
    """Collect the test of the file where nobody said what to run."""
    if replay is None or config.args_source is pytest.Config.ArgsSource.ARGS:
        return
    config.args = [str(Path(config.rootpath) / replay.test)]


def deselect(config: pytest.Config, items: list[pytest.Item], replay: Replay | None) -> None:
    """Leave the other tests out. Where the test is not among them, all run: it may have another name by now."""
    if replay is None:
        return
    others = [item for item in items if item.nodeid != replay.test]
    if len(others) < len(items):
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.nodeid == replay.test]


def _is_lab(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("name"), str) and isinstance(value.get("seed"), int)
    )
