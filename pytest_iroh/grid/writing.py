"""``--netns-grid``: gathers declared cells and reports of a run, and writes page, JSON and Markdown while it goes on.

Cells are declared when tests are collected. Under pytest-xdist that happens in the workers, which leave their
declarations as files in a directory that the controller names; results come as reports, as ever.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iroh.grid.cells import ATTRIBUTE
from pytest_iroh.grid.places import Place, is_pair, place_of, plain_nodeid
from pytest_iroh.links import PAGE
from pytest_iroh.options import settings_of
from pytest_iroh.repro import FILE

if TYPE_CHECKING:
    from netns_fixtures.grid import Cell, Run

#: The worker input that names the directory of declarations.
INPUT = "netns_grid_declarations"
#: Seconds between two savings of a run that goes on: if it dies, that much of it is not on the page.
INTERVAL = 1.0
#: A saving may take this share of a run's time at most; large grids are saved more rarely.
SHARE = 0.05
PLUGIN = "netns-grid"


def register(config: pytest.Config) -> None:
    """Register what the options of this run need."""
    settings = settings_of(config)
    # What a controller told its worker of pytest-xdist; None in any other process.
    told: dict[str, Any] | None = getattr(config, "workerinput", None)
    if settings.pair is not None:
        config.pluginmanager.register(Chooser(settings.pair, quiet=told is not None), f"{PLUGIN}-pair")
    if told is not None:
        if directory := told.get(INPUT):
            config.pluginmanager.register(Declarer(Path(directory) / f"{told['workerid']}.json"), PLUGIN)
    elif settings.grid is not None:
        config.pluginmanager.register(GridWriter(config, settings.grid), PLUGIN)


class Chooser:
    """``--netns-pair``: only the tests of these cells."""

    def __init__(self, pair: tuple[str, str], *, quiet: bool) -> None:
        self._pair = pair
        self._quiet = quiet

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the others. Raises UsageError where no test is left, with the cells that there are."""
        placed = [(item, place_of(item)) for item in items]
        chosen = [item for item, place in placed if place is not None and is_pair(place, self._pair)]
        if not chosen and not self._quiet:
            known = list(dict.fromkeys(f"{p.row},{p.column}" for _item, p in placed if p is not None))
            more = f", and {len(known) - 12} more" if len(known) > 12 else ""
            cells = "; ".join(known[:12]) + more if known else "none; mark tests with netns_grid"
            raise pytest.UsageError(f"--netns-pair {','.join(self._pair)}: no such cell. Cells: {cells}")
        if len(chosen) < len(items):
            kept = set(chosen)
            config.hook.pytest_deselected(items=[item for item in items if item not in kept])
            items[:] = chosen


class _Collecting:
    """Sees all tests before any is deselected, and those that are left."""

    def __init__(self) -> None:
        self._placed: list[tuple[pytest.Item, Place]] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Every test with a marker has a cell, also if it is not chosen."""
        self._placed = [(item, place) for item in items if (place := place_of(item)) is not None]

    def declared(self, session: pytest.Session) -> list[dict[str, Any]]:
        """The cells of this collection as plain values."""
        chosen = set(session.items)
        return [
            {
                **asdict(place),
                "nodeid": item.nodeid,
                "test": plain_nodeid(item.nodeid, item),
                "chosen": item in chosen,
            }
            for item, place in self._placed
        ]


class Declarer(_Collecting):
    """In a worker: leaves the declared cells where the controller looks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @pytest.hookimpl(tryfirst=True)  # before xdist tells the controller that we are done
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write them."""
        self._path.write_text(json.dumps(self.declared(session)))


class GridWriter(_Collecting):
    """In the process that has all reports: fills the cells and writes the files."""

    def __init__(self, config: pytest.Config, target: Path) -> None:
        from netns_fixtures.grid import Results
        from pytest_iroh.grid.about import about

        super().__init__()
        self.page = target if target.suffix == ".html" else target.with_name(f"{target.name}.html")
        self._config = config
        self._results = Results(about(config))
        self._places: dict[str, tuple[Cell, str]] = {}
        self._phases: dict[str, list[Any]] = {}
        self._declarations = ""
        self._began = time.monotonic()
        self._due = 0.0
        self._trouble = ""

    # --- what there is to be run

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of pytest-xdist begins: say where its declarations go."""
        if not self._declarations:
            self._declarations = tempfile.mkdtemp(prefix="netns-grid-")
        node.workerinput[INPUT] = self._declarations

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """A worker has collected."""
        path = Path(self._declarations) / f"{node.workerinput['workerid']}.json"
        if path.exists():
            self._declare(json.loads(path.read_text()))
            path.unlink()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers, this process has collected."""
        if session.items or self._placed:
            self._declare(self.declared(session))

    def _declare(self, declared: list[dict[str, Any]]) -> None:
        chosen = {each["grid"] for each in declared if each["chosen"]}
        for each in declared:
            if each["grid"] not in chosen or each["nodeid"] in self._places:
                continue
            grid = self._results.grid(each["grid"], each["rows_name"], each["columns_name"])
            fresh = (each["row"], each["column"]) not in grid.cells
            cell = grid.cell(each["row"], each["column"])
            cell.chosen = each["chosen"] or (cell.chosen and not fresh)
            cell.tests.append(each["test"])
            self._places[each["nodeid"]] = cell, each["test"]
        for grid in self._results.grids:
            grid.align()
        self._save()

    # --- what came of it

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins; if it never ends, its cell says so."""
        if nodeid in self._places:
            self._places[nodeid][0].began = True

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A phase of a test is over."""
        if report.nodeid not in self._places:
            return
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        # A worker that crashed reports once, with no phase of a test; who runs a failed test again may leave out its
        # tear-down, or tell it afterwards.
        if report.when in ("setup", "call") and report.outcome != "rerun":
            return
        if len(phases) == 1 and report.when == "teardown" and report.outcome == "passed":
            del self._phases[report.nodeid]
            return
        del self._phases[report.nodeid]
        cell, test = self._places[report.nodeid]
        cell.began = True
        cell.runs.append(self._run(test, phases))
        if time.monotonic() >= self._due:
            self._save()

    def _run(self, test: str, phases: list[Any]) -> Run:
        from netns_fixtures.grid import Run, Value

        decisive = next((each for each in phases if each.outcome != "passed"), phases[-1])
        main = decisive
        if main.outcome == "passed":
            main = next((each for each in phases if each.when == "call"), main)
        carried: dict[str, Any] = next(
            (getattr(each, ATTRIBUTE) for each in reversed(phases) if hasattr(each, ATTRIBUTE)), {}
        )
        page, repro = self._evidence(carried.get("evidence", ""))
        return Run(
            test,
            _outcome(main),
            _reason(main),
            round(sum(each.duration for each in phases), 4),
            carried.get("attempt", 1),
            tuple(Value(**value) for value in carried.get("values", ())),
            page,
            repro,
            carried.get("engine", ""),
            tuple(dict.fromkeys(carried.get("seeds", ()))),
        )

    def _evidence(self, directory: str) -> tuple[str, str]:
        """The page and the repro file of a run's evidence, relative to our page."""
        files = [Path(directory) / name for name in (PAGE, FILE)] if directory else []
        page, repro = (
            os.path.relpath(path, self.page.parent) if path.exists() else "" for path in files or _NOWHERE
        )
        return page, repro

    # --- files

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """The run is over."""
        self._results.about["seconds"] = round(time.monotonic() - self._began, 2)
        self._results.about["finished"] = True
        self._results.about["exit"] = int(exitstatus)
        self._save()
        if self._declarations:
            shutil.rmtree(self._declarations, ignore_errors=True)

    def _save(self) -> None:
        """Write all three files; a disk that is full must not change the results of tests."""
        if not self._results.grids:
            return
        from netns_fixtures.grid.model import write
        from netns_fixtures.grid.page import markdown, results_page

        began = time.monotonic()
        try:
            self._results.save(self.page.with_suffix(".json"))
            write(self.page, results_page(self._results))
            write(self.page.with_suffix(".md"), markdown(self._results))
            self._trouble = ""
        except OSError as error:
            self._trouble = str(error)
        now = time.monotonic()
        self._due = now + max(INTERVAL, (now - began) / SHARE)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Where the page is, and what is on it in a line."""
        if self._trouble:
            terminalreporter.write_line(f"netns grid: not written: {self._trouble}", red=True)
        elif not self._results.grids:
            terminalreporter.write_line("netns grid: not written: no test with the marker netns_grid")
        else:
            counts = ", ".join(f"{number} {name}" for name, number in self._results.counts().items())
            terminalreporter.write_line(f"netns grid: {os.path.relpath(self.page)} ({counts})")


_NOWHERE = (Path("/nonexistent"), Path("/nonexistent"))


def _outcome(report: Any) -> str:
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.outcome == "passed" else "xfailed"
    if report.outcome == "failed" and report.when in ("setup", "teardown"):
        return "error"
    return str(report.outcome)


def _reason(report: Any) -> str:
    """Why, in one line."""
    if hasattr(report, "wasxfail") and report.wasxfail:
        return str(report.wasxfail)
    longrepr = report.longrepr
    if report.outcome == "passed" or longrepr is None:
        return ""
    if isinstance(longrepr, tuple):  # of a skip: file, line, and why
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else longrepr).strip()
    return text.partition("\n")[0]
