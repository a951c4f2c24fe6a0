"""``grid_cell``: what a test found, for its cell of the grid and for comparisons."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_iroh.attempt import Attempt
from pytest_iroh.grid import places

if TYPE_CHECKING:
    from pytest_iroh.healing import Healing

#: The attribute of a report; pytest-xdist carries it to the controller.
ATTRIBUTE = "netns_cell"
CELL = pytest.StashKey["GridCell"]()
#: Values of one run. More is a mistake, such as recording in a loop.
MAX_VALUES = 50


class GridCell:
    """The cell of the running test; harmless where nobody asked for a grid."""

    def __init__(self) -> None:
        self._values: list[dict[str, Any]] = []

    def record(
        self,
        name: str,
        value: float | None = None,
        unit: str = "s",
        *,
        better: Literal["lower", "higher", ""] = "lower",
    ) -> None:
        """Record a word ("relayed"), or a word and a measure ("direct", 0.21); what comes first stands in the cell.

        ``unit``: "s" is shown as seconds or milliseconds. ``better``: for comparisons. Raises ValueError for a measure
        that is no finite number, and for the 51st value.
        """
        if value is not None and not math.isfinite(value):
            raise ValueError(f"grid_cell.record({name!r}, {value}): a measure is a finite number")
        if better not in ("lower", "higher", ""):
            raise ValueError(f"grid_cell.record: better={better!r}: it is 'lower', 'higher' or ''")
        if len(self._values) == MAX_VALUES:
            raise ValueError(f"a cell has room for {MAX_VALUES} values")
        number = None if value is None else float(value)
        self._values.append({"name": str(name), "value": number, "unit": unit, "better": better})

    def record_healing(self, healing: Healing) -> None:
        """Record what ``heals`` found: how long healing took, the longest gap, and whether the path is direct."""
        if not healing.healed or healing.seconds is None:
            self.record("not healed")
            return
        self.record("healed", healing.seconds)
        if healing.gap is not None:
            self.record("gap", healing.gap)
        if healing.path_after:
            self.record("direct" if healing.direct else "relayed")

    @property
    def values(self) -> list[dict[str, Any]]:
        """What was recorded, as plain values."""
        return list(self._values)


@pytest.fixture
def grid_cell(request: pytest.FixtureRequest) -> GridCell:
    """What the test finds, for its cell of ``--netns-grid``: ``grid_cell.record("direct", 0.21)``."""
    cell = request.node.stash[CELL] = GridCell()
    return cell


def add_cell(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let a report of a test with the marker carry what the test found, where its evidence is, and its seeds."""
    if item.get_closest_marker(places.MARKER) is None:
        return
    attempt, cell = Attempt.of(item), item.stash.get(CELL, None)
    labs = [] if attempt is None else attempt.recorder.labs
    carried = {
        "values": [] if cell is None else cell.values,
        "attempt": 1 if attempt is None else attempt.number,
        "seeds": [lab.seed for lab in labs if isinstance(lab.seed, int)],
        "engine": next((str(e) for lab in labs if (e := getattr(lab, "link_engine", ""))), ""),
        # Of this attempt; the property would name those of earlier ones, too.
        "evidence": "" if attempt is None else str(attempt.evidence.directory or ""),
    }
    setattr(report, ATTRIBUTE, carried)
    if report.when == "teardown" and cell is not None:
        del item.stash[CELL]
