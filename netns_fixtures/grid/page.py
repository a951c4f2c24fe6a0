"""Pages of results: a grid that can be opened cell by cell, what changed between two, and Markdown for a pull request.

Each page is one file that needs no network; data goes in as JSON that cannot break out.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from netns_fixtures.grid.comparing import Change, Rule
from netns_fixtures.grid.model import Cell, Grid, Results, Run, measure, numbers, quantile

#: What would end the script element, or a line of it; JSON has another way to write each (RFC 8259 section 7).
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
#: Runs of a cell that the page lists; all of them count in its numbers, and all are in the JSON file.
MAX_RUNS = 50
#: Characters of a reason on the page and in Markdown.
MAX_REASON = 2000
MAX_REASON_LINE = 200
#: A sign beside the colour, for those who do not see it.
SIGNS = {
    "passed": "✓",
    "flaky": "≈",
    "xfailed": "x",
    "skipped": "–",
    "not run": "○",
    "not chosen": "·",
    "no result": "…",
    "failed": "✗",
}


def results_page(results: Results) -> str:
    """The page of one run."""
    grids = [_grid(grid, results.about) for grid in results.grids]
    return _render(
        "grid.html.j2",
        title=_title(results),
        about=about_words(results.about),
        finished=results.about.get("finished", True),
        counts=results.counts(),
        signs=SIGNS,
        grids=grids,
        data=_safe([grid["cells"] for grid in grids]),
    )


def comparison_page(old: Results, new: Results, changes: Sequence[Change], rule: Rule) -> str:
    """The page of what changed between two runs."""
    verdicts = {
        verdict: sum(c.verdict == verdict for c in changes) for verdict in ("worse", "changed", "better")
    }
    return _render(
        "comparison.html.j2",
        sides=[("old", about_words(old.about)), ("new", about_words(new.about))],
        changes=changes,
        verdicts=verdicts,
        doubts=doubts(old, new),
        rule=str(rule),
        grids=[_compared(grid, old, changes) for grid in new.grids],
        signs=SIGNS,
    )


def markdown(results: Results) -> str:
    """The same for a pull request or a terminal: a table per grid, and why cells are not passed."""
    lines = [f"**{_title(results)}**", ""]
    for grid in results.grids:
        heads = " | ".join(map(_md, grid.columns))
        lines += [
            f"### {_md(grid.name)}",
            "",
            f"| {_md(grid.rows_name)} \\ {_md(grid.columns_name)} | {heads} |",
        ]
        lines.append("|---" * (len(grid.columns) + 1) + "|")
        for row in grid.rows:
            cells = [grid.cells.get((row, column)) for column in grid.columns]
            texts = ("" if cell is None else _md(f"{SIGNS[cell.outcome]} {face(cell)}") for cell in cells)
            lines.append(f"| **{_md(row)}** | " + " | ".join(texts) + " |")
        lines.append("")
        reasons = [c for c in grid.cells.values() if c.reason and c.outcome not in ("passed", "not chosen")]
        lines += [
            f"* {_md(f'{cell.row} × {cell.column}')}: {cell.outcome}: {_md(cell.reason[:MAX_REASON_LINE])}"
            for cell in reasons
        ]
        lines += [""] if reasons else []
    lines += [" · ".join(_md(f"{name} {text}") for name, text in about_words(results.about)), ""]
    return "\n".join(lines)


def about_words(about: dict[str, Any]) -> list[tuple[str, str]]:
    """What a run is about, as pairs of words; what is not known is left out."""
    commit = str(about.get("commit", ""))[:12] + (" and changes" if about.get("dirty") else "")
    engine, seed, seconds = about.get("link_engine"), about.get("seed"), about.get("seconds")
    found = [
        ("ref", about.get("ref")),
        ("commit", commit.strip()),
        ("date", about.get("date")),
        ("took", None if seconds is None else f"{seconds} s"),
        ("machine", about.get("machine")),
        ("kernel", about.get("kernel")),
        ("python", about.get("python")),
        ("links", engine),
        ("seed", None if seed is None else str(seed)),
        ("command", about.get("command")),
    ]
    return [(name, str(text)) for name, text in found if text]


def doubts(old: Results, new: Results) -> list[str]:
    """Why two runs may differ without a change of code, as sentences."""
    names = ("machine", "cpus", "kernel", "python", "link_engine")
    sides = [(name, old.about.get(name), new.about.get(name)) for name in names]
    said = [f"another {name.replace('_', ' ')}: {a} and {b}" for name, a, b in sides if a != b and (a or b)]
    if old.about.get("seed") != new.about.get("seed"):
        said.append("another seed, or one drawn for each test")
    return said + [
        f"the {side} run did not end"
        for side, each in (("old", old), ("new", new))
        if not each.about.get("finished", True)
    ]


def face(cell: Cell) -> str:
    """What stands in the cell."""
    return cell.text or cell.outcome


def _grid(grid: Grid, about: dict[str, Any]) -> dict[str, Any]:
    heats = _heats(grid)
    cells = [_cell(cell, heats.get(key), about) for key, cell in grid.cells.items()]
    index = {key: number for number, key in enumerate(grid.cells)}
    rows = [
        (
            row,
            [
                None if (at := index.get((row, column))) is None else (at, cells[at])
                for column in grid.columns
            ],
        )
        for row in grid.rows
    ]
    scale = _scale(grid)
    return {"grid": grid, "rows": rows, "cells": cells, "counts": grid.counts(), "scale": scale}


def _first(cell: Cell) -> tuple[float, str] | None:
    """The median of what stands in the cell."""
    for values in cell.measured().values():
        return statistics.median(numbers(values)), values[0].unit
    return None


def _heats(grid: Grid) -> dict[tuple[str, str], float]:
    """Where each cell's measure lies between the grid's least and greatest, 0 to 1, by orders of magnitude."""
    firsts = {key: found for key, cell in grid.cells.items() if (found := _first(cell))}
    unit = next((unit for _value, unit in firsts.values()), "")
    logs = {k: math.log(max(value, 1e-6)) for k, (value, its) in firsts.items() if its == unit}
    if not logs:
        return {}
    low, high = min(logs.values()), max(logs.values())
    return {key: (log - low) / (high - low) if high > low else 0.0 for key, log in logs.items()}


def _scale(grid: Grid) -> tuple[str, str] | None:
    firsts = [found for cell in grid.cells.values() if (found := _first(cell))]
    ordered = sorted(value for value, unit in firsts if unit == firsts[0][1])
    if len(ordered) < 2:
        return None
    return measure(ordered[0], firsts[0][1]), measure(ordered[-1], firsts[0][1])


def _cell(cell: Cell, heat: float | None, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "row": cell.row,
        "column": cell.column,
        "outcome": cell.outcome,
        "text": face(cell),
        "reason": cell.reason[:MAX_REASON],
        "heat": None if heat is None else round(heat, 3),
        "samples": [
            {
                "name": name,
                "values": numbers(values),
                "unit": values[0].unit,
                "n": len(values),
                "words": [
                    (what, measure(number, values[0].unit)) for what, number in _summary(numbers(values))
                ],
            }
            for name, values in cell.measured().items()
        ],
        "commands": _commands(cell, about),
        "runs": [_run(run) for run in cell.runs[-MAX_RUNS:]],
        "total": len(cell.runs),
        "note": _note(cell),
    }


def _note(cell: Cell) -> str:
    """The small line of a cell: how many runs, and how the slow ones were; or what its words do not say."""
    total, outcome = len(cell.runs), cell.outcome
    if total < 2:
        return outcome if outcome in ("failed", "skipped", "xfailed") and cell.text else ""
    if outcome == "flaky":
        return f"{sum(run.outcome in ('passed', 'xpassed') for run in cell.runs)} of {total} passed"
    first = next(iter(cell.measured().values()), [])
    slow = f", p90 {measure(quantile(numbers(first), 0.9), first[0].unit)}" if len(first) > 1 else ""
    return f"{total} runs{slow}"


def _summary(ordered: list[float]) -> list[tuple[str, float]]:
    if len(ordered) == 1:
        return [("once", ordered[0])]
    return [
        ("least", ordered[0]),
        ("median", statistics.median(ordered)),
        ("p90", quantile(ordered, 0.9)),
        ("greatest", ordered[-1]),
    ]


def _commands(cell: Cell, about: dict[str, Any]) -> list[str]:
    """What runs this cell again; of one run with one seed, with that."""
    engine = f" --netns-link-engine {about['link_engine']}" if about.get("link_engine") else ""
    seeds = {run.seeds for run in cell.runs}
    only = next(iter(seeds)) if len(seeds) == 1 else ()
    seed = f" --netns-seed {only[0]}" if len(only) == 1 else ""
    return [f"pytest {shlex.quote(test)}{seed}{engine}" for test in dict.fromkeys(cell.tests)]


def _run(run: Run) -> dict[str, Any]:
    return {
        "outcome": run.outcome,
        "test": run.test,
        "attempt": run.attempt,
        "seconds": run.seconds,
        "found": ", ".join(map(str, run.values)),
        "reason": run.reason[:MAX_REASON],
        "page": quote(run.page),
        "repro": quote(run.repro),
    }


def _compared(grid: Grid, old: Results, changes: Sequence[Change]) -> dict[str, Any]:
    before = next((each for each in old.grids if each.name == grid.name), None)
    found: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        if change.grid == grid.name:
            found.setdefault((change.row, change.column), []).append(change)
    rows = []
    for row in grid.rows:
        line = []
        for column in grid.columns:
            cell, was = grid.cells.get((row, column)), before and before.cells.get((row, column))
            its = found.get((row, column), [])
            line.append(None if cell is None else (cell.outcome, face(cell), face(was) if was else "", its))
        rows.append((row, line))
    return {"grid": grid, "rows": rows}


def _title(results: Results) -> str:
    return ", ".join(f"{number} {name}" for name, number in results.counts().items()) or "no cells"


def _md(text: str) -> str:
    """Text inside a Markdown table."""
    escaped = "".join(f"\\{c}" if c in "\\|*_`<>[]" else c for c in text)
    return " ".join(escaped.split())


def _safe(data: Any) -> str:
    return json.dumps(data, default=str, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("netns_fixtures.grid")
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _render(template: str, **parts: Any) -> str:
    from markupsafe import Markup

    environment = _environment()
    # Our own files and JSON, not the tests' data: they go in as they are.
    style, script = (
        Markup(environment.loader.get_source(environment, name)[0]) for name in ("grid.css", "grid.js")
    )
    if "data" in parts:
        parts["data"] = Markup(parts["data"])
    text: str = environment.get_template(template).render(style=style, script=script, **parts)
    return text
