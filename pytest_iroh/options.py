"""The options of the plugin: each as command line, environment variable and ini value.

Precedence: command line > environment > ini > default. ``strict`` for example is ``--netns-strict``,
``PYTEST_NETNS_STRICT=1`` and ``netns_strict = true``.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from pytest_iroh import replay
from pytest_iroh.replay import Replay

ArtifactPolicy = Literal["on", "off", "retain-on-failure"]
_POLICIES = ("on", "off", "retain-on-failure")
#: The names of ``netns_fixtures.LinkEngine``, which is not imported here: many runs have no lab.
ENGINES = ("auto", "wire", "netem")
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}


def _flag(text: str) -> bool:
    try:
        return _WORDS[text.lower()]
    except KeyError:
        raise ValueError("it is true or false") from None


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value > 0 and math.isfinite(value)):
        raise ValueError("it is a number above 0, such as 2.5")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("it is a whole number, such as the one that a failure shows")
    return int(text)


def _engine(text: str) -> str:
    if text not in ENGINES:
        raise ValueError(f"it is one of {', '.join(ENGINES)}")
    return text


def _pair(text: str) -> tuple[str, str]:
    row, comma, column = (part.strip() for part in text.partition(","))
    if not (row and comma and column) or "," in column:
        raise ValueError(
            "it is a row and a column, such as 'moderate,strict'; ? and * stand for any characters"
        )
    return row, column


def _policy(text: str) -> str:
    if text not in _POLICIES:
        raise ValueError(f"it is one of {', '.join(_POLICIES)}")
    return text


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name after the prefix, how its text is read, and what the help says."""

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str
    metavar: str = "VALUE"

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return f"--netns-{self.name}"

    @property
    def ini(self) -> str:
        """The name in an ini file, and of the parsed command line value."""
        return f"netns_{self.name.replace('-', '_')}"

    @property
    def env(self) -> str:
        """The name of the environment variable."""
        return f"PYTEST_{self.ini.upper()}"

    def value(self, config: pytest.Config) -> tuple[Any, bool]:
        """The value, and whether anybody set it. Raises UsageError naming the place and the valid values."""
        places = (
            (self.flag, config.getoption(self.ini)),
            (self.env, os.environ.get(self.env)),
            (self.ini, config.getini(self.ini)),
        )
        for place, text in places:
            if text is not None:
                try:
                    return self.read(str(text)), True
                except ValueError as error:
                    raise pytest.UsageError(f"{place}={text!r}: {error}") from None
        return self.default, False


OPTIONS = (
    Option(
        "strict",
        _flag,
        False,
        "fail tests that need a feature which this machine lacks, instead of skipping them",
    ),
    Option(
        "timeout-scale",
        _scale,
        1.0,
        "multiply every deadline of labs, endpoints and packet assertions, for slow machines (default: 1)",
        "FACTOR",
    ),
    Option(
        "seed",
        _seed,
        None,
        "the seed of every lab, to repeat a failure (default: drawn per test, shown with failures)",
        "NUMBER",
    ),
    Option(
        "link-engine",
        _engine,
        None,
        f"what impaired links are made of: {', '.join(ENGINES)} (default: the wire)",
        "ENGINE",
    ),
    Option(
        "replay",
        str,
        None,
        "run the test of a repro file again, with the seeds of its labs",
        "FILE",
    ),
    Option(
        "artifacts",
        _policy,
        "retain-on-failure",
        f"when to keep timelines and logs: {', '.join(_POLICIES)} (default: retain-on-failure)",
        "WHEN",
    ),
    Option(
        "output",
        str,
        "test-results",
        "where to keep them, below the root directory (default: test-results)",
        "DIRECTORY",
    ),
    Option(
        "pause-on-failure",
        _flag,
        False,
        "when a test fails, hold its lab, print how to enter each host, and wait for Enter",
    ),
    Option(
        "topology-only",
        _flag,
        False,
        "set up the fixtures of every test and build their labs, but run no test body",
    ),
    Option(
        "grid",
        str,
        None,
        "write the results of tests marked netns_grid as a page of grids, with JSON and Markdown beside it",
        "PATH",
    ),
    Option(
        "pair",
        _pair,
        None,
        "run only these cells of the grids, such as 'moderate,strict' or 'strict,*'",
        "ROW,COLUMN",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of this run. ``told``: somebody set at least one of them, so this run is about labs."""

    strict: bool
    timeout_scale: float
    seed: int | None
    link_engine: str | None
    replay: Replay | None
    artifacts: ArtifactPolicy
    output: Path
    pause_on_failure: bool
    topology_only: bool
    grid: Path | None
    pair: tuple[str, str] | None
    told: bool


SETTINGS = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Declare the options to pytest."""
    group = parser.getgroup("netns", "networks out of Linux namespaces (pytest_iroh)")
    for option in OPTIONS:
        if option.read is _flag:
            group.addoption(
                option.flag,
                action=argparse.BooleanOptionalAction,
                dest=option.ini,
                default=None,
                help=option.help,
            )
        else:
            group.addoption(
                option.flag, dest=option.ini, default=None, help=option.help, metavar=option.metavar
            )
        parser.addini(option.ini, f"{option.help}; also {option.flag} and {option.env}", default=None)


def read_options(config: pytest.Config) -> Settings:
    """The settings of a run. Raises UsageError for a value that an option cannot have."""
    found = {option.name: option.value(config) for option in OPTIONS}
    values = {name: value for name, (value, _told) in found.items()}
    repeated = None if values["replay"] is None else replay.read(values["replay"], config)
    seed = values["seed"]
    return Settings(
        strict=values["strict"],
        timeout_scale=values["timeout-scale"],
        seed=repeated.seed if seed is None and repeated is not None else seed,
        link_engine=values["link-engine"] or (None if repeated is None else repeated.link_engine),
        # Whoever names a seed wants that one.
        replay=repeated if seed is None or repeated is None else replace(repeated, labs=()),
        artifacts=cast(ArtifactPolicy, values["artifacts"]),
        output=config.rootpath / values["output"],
        pause_on_failure=values["pause-on-failure"],
        topology_only=values["topology-only"],
        grid=None if values["grid"] is None else config.rootpath / values["grid"],
        pair=values["pair"],
        told=any(told for _value, told in found.values()),
    )


def settings_of(config: pytest.Config) -> Settings:
    """The settings of a run, read once."""
    if SETTINGS not in config.stash:
        config.stash[SETTINGS] = read_options(config)
    return config.stash[SETTINGS]
