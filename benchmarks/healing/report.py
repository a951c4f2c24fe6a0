"""The rows of the table, for people and as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from healing.outcome import Outcome


def spread(seconds: list[float | None], gone: str) -> str:
    """Median and range in milliseconds, and how many runs gave nothing."""
    alive = [s * 1000 for s in seconds if s is not None]
    missing = len(seconds) - len(alive)
    if not alive:
        return gone
    text = f"{statistics.median(alive):,.0f} [{min(alive):,.0f}-{max(alive):,.0f}]"
    return text + (f" ({missing} of {len(seconds)} {gone})" if missing else "")


def median(seconds: list[float | None]) -> float | None:
    """Of those that there are, in milliseconds."""
    there = [s * 1000 for s in seconds if s is not None]
    return round(statistics.median(there), 1) if there else None


@dataclass
class Row:
    """The outcomes of one scenario at one round-trip time; milliseconds."""

    scenario: str
    rtt_ms: float
    bound_ms: float
    direct_bound_ms: float | None
    issue: str
    runs: dict[str, list[Outcome]] = field(default_factory=dict)

    def first(self, side: str) -> str:
        """Times to the first byte; a path before the change that is not direct is said."""
        runs = self.runs.get(side, [])
        relayed = sum(run.before != "direct" for run in runs if run.first is not None)
        note = f", {relayed} not direct before" if relayed and self.direct_bound_ms and not self.opens else ""
        return spread([run.first for run in runs], "die") + note if runs else "-"

    def direct(self, side: str) -> str:
        """Times to the direct path."""
        runs = self.runs.get(side, [])
        measured = [run.direct for run in runs if run.before == "direct" or self.opens]
        return spread(measured, "stay relayed") if measured else "-"

    def as_json(self) -> dict[str, Any]:
        """Every run, and per side the medians in milliseconds."""
        medians = {
            side: {
                "first_ms": median([run.first for run in runs]),
                "direct_ms": median([run.direct for run in runs]),
                "dead": sum(run.first is None for run in runs),
            }
            for side, runs in self.runs.items()
        }
        return {**asdict(self), "medians": medians}

    @property
    def opens(self) -> bool:
        """Whether the row is about a new connection."""
        return self.scenario.startswith("first")


def table(rows: list[Row], sides: list[str]) -> Table:
    """All rows for people."""
    view = Table(title="milliseconds: median [range]", show_lines=False)
    for column in ("event", "RTT", "bound", *(f"{s}: first byte" for s in sides), "issue B: 1.2.0 had"):
        view.add_column(column)
    for column in ("direct bound", *(f"{s}: direct" for s in sides)):
        view.add_column(column)
    for row in rows:
        view.add_row(
            *(row.scenario, f"{row.rtt_ms:g}", f"{row.bound_ms:,.0f}", *map(row.first, sides), row.issue),
            *("-" if row.direct_bound_ms is None else f"{row.direct_bound_ms:,.0f}", *map(row.direct, sides)),
        )
    return view
