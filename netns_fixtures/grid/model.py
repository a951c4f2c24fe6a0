"""Grids of results: rows by columns of cells, each with the runs of its tests and what they measured.

The file is JSON, made by ``Results.dump`` and read by ``Results.load``; times are seconds.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from netns_fixtures.errors import ResultsError

#: Stands in each file; another number is another meaning.
FORMAT = "netns-grid 1"
#: What a run can end with. ``rerun``: it failed and was run again, so it does not decide.
RUN_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "rerun")
#: What a cell can be, best first. ``flaky``: some runs passed. ``no result``: it began and never ended.
CELL_OUTCOMES = (
    "passed",
    "flaky",
    "xfailed",
    "skipped",
    "not run",
    "not chosen",
    "no result",
    "failed",
)
_GOOD = ("passed", "xpassed")
_BAD = ("failed", "error", "rerun")


@dataclass(frozen=True, slots=True)
class Value:
    """What a run found: a word ("relayed"), or a word with a measure ("direct", 0.21, "s").

    ``better``: "lower", "higher", or "" where neither is.
    """

    name: str
    value: float | None = None
    unit: str = "s"
    better: str = "lower"

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name} {measure(self.value, self.unit)}"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one test: ``seconds`` it took, what it found, and where its evidence lies, relative to the file."""

    test: str
    outcome: str
    reason: str = ""
    seconds: float | None = None
    attempt: int = 1
    values: tuple[Value, ...] = ()
    page: str = ""
    repro: str = ""
    engine: str = ""
    seeds: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """What it found first, without its measure; its outcome, where it found nothing."""
        return self.values[0].name if self.values else self.outcome


@dataclass(slots=True)
class Cell:
    """A place of a grid. ``tests``: those that belong here, known before any of them ran."""

    row: str
    column: str
    tests: list[str] = field(default_factory=list)
    chosen: bool = True
    began: bool = False
    runs: list[Run] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """One of CELL_OUTCOMES."""
        if not self.runs:
            return "no result" if self.began else "not run" if self.chosen else "not chosen"
        kinds = {run.outcome for run in self.runs}
        if kinds & set(_GOOD):
            return "flaky" if kinds & set(_BAD) else "passed"
        if kinds & set(_BAD):
            return "failed"
        return "xfailed" if "xfailed" in kinds else "skipped"

    @property
    def text(self) -> str:
        """What was found, in a few words: "direct 210 ms", "3× direct 210 ms, 2× relayed"; "" where nothing was."""
        firsts = [run.values[0] for run in self.runs if run.values]
        names = Counter(value.name for value in firsts).most_common()
        words = [_joined(name, [v for v in firsts if v.name == name]) for name, _count in names]
        if len(names) < 2:
            return "".join(words)
        return ", ".join(f"{count}× {text}" for text, (_name, count) in zip(words, names, strict=True))

    def measured(self) -> dict[str, list[Value]]:
        """The values with a measure, by their names, in the order of their first appearance."""
        found: dict[str, list[Value]] = {}
        for run in self.runs:
            for value in run.values:
                if value.value is not None:
                    found.setdefault(value.name, []).append(value)
        return found

    @property
    def reason(self) -> str:
        """Why it is not simply passed: what the newest run said that has anything to say."""
        return next((run.reason for run in reversed(self.runs) if run.reason), "")


@dataclass(slots=True)
class Grid:
    """Rows by columns; a pair without a cell has no test."""

    name: str
    rows_name: str
    columns_name: str
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    def cell(self, row: str, column: str) -> Cell:
        """The cell of a pair, made where there is none yet."""
        for label, axis in ((row, self.rows), (column, self.columns)):
            if label not in axis:
                axis.append(label)
        return self.cells.setdefault((row, column), Cell(row, column))

    def align(self) -> None:
        """Bring the columns into the order of the rows where both have the same labels: then a diagonal is one."""
        if set(self.rows) == set(self.columns):
            self.columns[:] = self.rows

    def counts(self) -> dict[str, int]:
        """How many cells are what, in the order of CELL_OUTCOMES."""
        found = Counter(cell.outcome for cell in self.cells.values())
        return {outcome: found[outcome] for outcome in CELL_OUTCOMES if found[outcome]}


@dataclass(slots=True)
class Results:
    """Grids, and about what: commit, kernel, machine, engine, seed, date, versions."""

    about: dict[str, Any] = field(default_factory=dict)
    grids: list[Grid] = field(default_factory=list)

    def grid(self, name: str, rows_name: str, columns_name: str) -> Grid:
        """The grid of a name, made where there is none yet."""
        for grid in self.grids:
            if grid.name == name:
                return grid
        self.grids.append(Grid(name, rows_name, columns_name))
        return self.grids[-1]

    def counts(self) -> dict[str, int]:
        """How many cells are what."""
        found: Counter[str] = Counter()
        for grid in self.grids:
            found.update(grid.counts())
        return {outcome: found[outcome] for outcome in CELL_OUTCOMES if found[outcome]}

    def add(self, other: Results) -> None:
        """Take the runs of another round of the same tests."""
        for theirs in other.grids:
            grid = self.grid(theirs.name, theirs.rows_name, theirs.columns_name)
            for key, cell in theirs.cells.items():
                mine = grid.cell(*key)
                mine.tests += [test for test in cell.tests if test not in mine.tests]
                mine.runs += cell.runs
                mine.chosen, mine.began = mine.chosen or cell.chosen, mine.began or cell.began

    def dump(self) -> str:
        """The file's text."""
        grids = [
            {
                "name": grid.name,
                "rows_name": grid.rows_name,
                "columns_name": grid.columns_name,
                "rows": grid.rows,
                "columns": grid.columns,
                "cells": [asdict(cell) | {"outcome": cell.outcome} for cell in grid.cells.values()],
            }
            for grid in self.grids
        ]
        return (
            json.dumps({"format": FORMAT, "about": self.about, "grids": grids}, indent=1, default=str) + "\n"
        )

    @classmethod
    def parse(cls, text: str, name: str = "") -> Results:
        """The results of a file's text. Raises ResultsError naming the file and what is wrong with it."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ValueError(f'it has no "format": "{FORMAT}"')
            return cls(dict(data["about"]), [_grid(each) for each in data["grids"]])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ResultsError(f"{name or 'the text'} holds no results of --netns-grid: {what}") from None

    @classmethod
    def load(cls, path: Path) -> Results:
        """The results of a file. Raises ResultsError, OSError."""
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ResultsError(f"{path} holds no results of --netns-grid: {error}") from None
        return cls.parse(text, str(path))

    def save(self, path: Path) -> None:
        """Write the file; whoever reads it meanwhile sees the old one or the new one. Raises OSError."""
        write(path, self.dump())


def write(path: Path, text: str) -> None:
    """Write a text file in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def measure(value: float, unit: str) -> str:
    """A measure for people: seconds below one as milliseconds."""
    if unit != "s":
        return f"{value:.4g} {unit}".rstrip()
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.0f} ms" if value >= 0.01 else f"{value * 1e3:.2g} ms"


def numbers(values: Iterable[Value]) -> list[float]:
    """The measures, sorted."""
    return sorted(value.value for value in values if value.value is not None)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest measure that at least this share of them do not exceed (nearest rank)."""
    return ordered[max(-(-len(ordered) * round(share * 1000) // 1000), 1) - 1]


def _joined(name: str, values: list[Value]) -> str:
    measures = numbers(values)
    return f"{name} {measure(statistics.median(measures), values[0].unit)}" if measures else name


def _grid(data: dict[str, Any]) -> Grid:
    names = (_text(data["name"]), _text(data["rows_name"]), _text(data["columns_name"]))
    grid = Grid(*names, [_text(each) for each in data["rows"]], [_text(each) for each in data["columns"]])
    for each in data["cells"]:
        cell = grid.cell(_text(each["row"]), _text(each["column"]))
        cell.tests += [_text(test) for test in each["tests"]]
        cell.chosen, cell.began = bool(each["chosen"]), bool(each["began"])
        cell.runs += [_run(run) for run in each["runs"]]
    return grid


def _run(data: dict[str, Any]) -> Run:
    outcome = _text(data["outcome"])
    if outcome not in RUN_OUTCOMES:
        raise ValueError(f"outcome {outcome!r}: it is one of {', '.join(RUN_OUTCOMES)}")
    return Run(
        _text(data["test"]),
        outcome,
        _text(data.get("reason", "")),
        _number(data.get("seconds")),
        int(data.get("attempt", 1)),
        tuple(_value(each) for each in data.get("values", ())),
        _text(data.get("page", "")),
        _text(data.get("repro", "")),
        _text(data.get("engine", "")),
        tuple(int(seed) for seed in data.get("seeds", ())),
    )


def _value(data: dict[str, Any]) -> Value:
    return Value(
        _text(data["name"]),
        _number(data.get("value")),
        _text(data.get("unit", "s")),
        _text(data.get("better", "lower")),
    )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value
