"""What changed between two results, and whether that is worse.

The rule for measures, as ``Rule`` has it: the medians differ by more than ``ratio`` and more than ``floor`` seconds,
and the middle halves of both sides (first to third quartile) lie apart. With fewer than three runs on a side there is
no middle half; then the ratio must be twice as large.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

from netns_fixtures.grid.model import Cell, Grid, Results, Value, measure, numbers, quantile

Verdict = Literal["worse", "better", "changed"]
Kind = Literal["outcome", "result", "value", "cell"]
#: What an outcome is worth; a cell that has no verdict any more is worse than one that passed.
_WORTH = {
    "passed": 4,
    "flaky": 3,
    "xfailed": 2,
    "skipped": 2,
    "not run": 2,
    "no result": 1,
    "failed": 0,
}
#: Runs from which on there is a middle half.
_ENOUGH = 3
_KINDS: tuple[Kind, ...] = ("outcome", "result", "value", "cell")
_VERDICTS: tuple[Verdict, ...] = ("worse", "changed", "better")


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as noise: ratios of medians up to ``ratio``, differences up to ``floor`` seconds."""

    #: Medians of the same commit on a busy machine of two cores differ up to this.
    ratio: float = 1.5
    #: A scheduler's slice or two.
    floor: float = 0.005

    def __str__(self) -> str:
        return (
            f"a value changed if the medians differ by more than ×{self.ratio:g} and {measure(self.floor, 's')}, and "
            f"the middle halves of the runs lie apart; with fewer than {_ENOUGH} runs on a side, by more than "
            f"×{2 * self.ratio:g}"
        )

    def changed(self, old: list[float], new: list[float], unit: str) -> bool:
        """Whether the difference of two samples is more than noise; both sorted, neither empty."""
        before, after = statistics.median(old), statistics.median(new)
        low, high = min(before, after), max(before, after)
        enough = min(len(old), len(new)) >= _ENOUGH
        if high <= low * self.ratio * (1 if enough else 2):
            return False
        if unit == "s" and high - low <= self.floor:
            return False
        if not enough:
            return True
        lower, upper = (old, new) if before < after else (new, old)
        return quantile(lower, 0.75) < quantile(upper, 0.25)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``old`` and ``new`` are words; ``ratio`` of medians, where both have one."""

    kind: Kind
    verdict: Verdict
    grid: str
    row: str
    column: str
    what: str
    old: str
    new: str
    ratio: float | None = None
    reason: str = ""

    @property
    def pair(self) -> str:
        """The cell in words."""
        return f"{self.row} × {self.column}"


def compare(old: Results, new: Results, rule: Rule | None = None) -> list[Change]:
    """What changed: outcomes first, then words, then values beyond noise, then cells that came or went; worse first."""
    rule = rule or Rule()
    found: list[Change] = []
    theirs = {grid.name: grid for grid in old.grids}
    ours = {grid.name: grid for grid in new.grids}
    for name in dict.fromkeys([*theirs, *ours]):
        found += _grids(theirs.get(name) or Grid(name, "", ""), ours.get(name) or Grid(name, "", ""), rule)
    return sorted(found, key=_weight)


def _weight(change: Change) -> tuple[int, int, float]:
    size = 0.0 if not change.ratio else max(change.ratio, 1 / change.ratio)
    return _KINDS.index(change.kind), _VERDICTS.index(change.verdict), -size


def _grids(old: Grid, new: Grid, rule: Rule) -> list[Change]:
    found = []
    for key in dict.fromkeys([*old.cells, *new.cells]):
        before, after = old.cells.get(key), new.cells.get(key)
        if before is None or after is None:
            there = before or after
            assert there is not None, "a key of one of them"
            if there.outcome != "not chosen":
                words = _words(there)
                found.append(
                    Change(
                        "cell",
                        "changed",
                        new.name,
                        *key,
                        "cell",
                        "" if before is None else words,
                        "" if before else words,
                    )
                )
        elif "not chosen" not in (before.outcome, after.outcome):
            found += _cells(new.name, before, after, rule)
    return found


def _cells(grid: str, old: Cell, new: Cell, rule: Rule) -> list[Change]:
    place = (grid, new.row, new.column)
    if old.outcome != new.outcome:
        gain = _WORTH[new.outcome] - _WORTH[old.outcome]
        verdict: Verdict = "worse" if gain < 0 else "better" if gain else "changed"
        return [Change("outcome", verdict, *place, "outcome", _words(old), _words(new), None, new.reason)]
    if new.outcome not in ("passed", "flaky"):
        return []
    found = []
    if _said(old) != _said(new):
        found.append(Change("result", _judge_words(old, new), *place, "result", old.text, new.text))
    before, after = old.measured(), new.measured()
    for name in before:
        if name in after and (change := _value(place, name, before[name], after[name], rule)):
            found.append(change)
    return found


def _said(cell: Cell) -> set[str]:
    return {run.values[0].name for run in cell.runs if run.values}


def _judge_words(old: Cell, new: Cell) -> Verdict:
    """A measured word that is gone is worse, one that came is better: "direct after 0.2 s" against "relayed"."""
    lost = (_said(old) - _said(new)) & old.measured().keys()
    won = (_said(new) - _said(old)) & new.measured().keys()
    return "changed" if bool(lost) == bool(won) else "worse" if lost else "better"


def _value(
    place: tuple[str, str, str], name: str, old: list[Value], new: list[Value], rule: Rule
) -> Change | None:
    before, after, unit = numbers(old), numbers(new), new[0].unit
    if unit != old[0].unit or not rule.changed(before, after, unit):
        return None
    low, high = statistics.median(before), statistics.median(after)
    better = {"lower": high < low, "higher": high > low}.get(new[0].better)
    verdict: Verdict = "changed" if better is None else "better" if better else "worse"
    words = (_sample(before, unit), _sample(after, unit))
    return Change("value", verdict, *place, name, *words, high / low if low > 0 else None)


def _sample(ordered: list[float], unit: str) -> str:
    median = measure(statistics.median(ordered), unit)
    return (
        median
        if len(ordered) == 1
        else f"{median} (n {len(ordered)}, p90 {measure(quantile(ordered, 0.9), unit)})"
    )


def _words(cell: Cell) -> str:
    return f"{cell.outcome}: {cell.text}" if cell.text else cell.outcome
