"""The grid's page in a real browser."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from chromium import Visit, needs_chromium, screenshot, visit

from netns_fixtures.grid import Results, Rule, Run, Value, compare, comparison_page, results_page

pytestmark = needs_chromium

REPORT = "const report = (value) => document.body.setAttribute('data-found', JSON.stringify(value));"
HOSTILE = '</script><script>document.title="owned"</script><!--<b>&'


def found(visited: Visit) -> Any:
    assert visited.console == []
    return json.loads(unescape(visited.attribute("data-found")))


def grid(size: int, *, slower: float = 1.0) -> Results:
    """A grid with every sort of cell, and a place without a test at its second row's third column."""
    results = Results({"commit": "0123456789abcdef", "kernel": "6.18", "finished": True})
    made = results.grid("NAT by NAT", "client", "server")
    for row in range(size):
        for column in range(size):
            if (row, column) == (1, 2):
                continue
            cell = made.cell(f"kind-{row}", f"kind-{column}")
            cell.tests.append(f"tests/test_nat.py::test_nat[{row} {column}]")
            for number in range(5):
                values = (Value("direct", slower * (0.1 * (row + 1) + 0.01 * number)), Value("gap", 0.02))
                cell.runs.append(Run(cell.tests[0], "passed", values=values, seconds=0.5, seeds=(7,)))
    for (row, column), runs in {
        (0, 0): [Run("t", "failed", HOSTILE, page="a b/report.html", repro="a b/repro.yaml")],
        (0, 1): [Run("t", "skipped", "no tun here")],
        (0, 2): [],
        (1, 0): [Run("t", "passed", values=(Value("relayed"),))],
    }.items():
        made.cells[f"kind-{row}", f"kind-{column}"].runs[:] = runs
    return results


def test_page_shows_each_cell_with_words_and_colours(tmp_path: Path) -> None:
    """Outcome and median in each cell; failed, skipped and unreached cells look different; names are only words."""
    visited = visit(
        results_page(grid(5)),
        tmp_path,
        REPORT
        + """
        const cells = [...document.querySelectorAll("button.cell")];
        const at = (n) => [cells[n].className, cells[n].querySelector("b").textContent,
          getComputedStyle(cells[n]).backgroundColor];
        report({ count: cells.length, failed: at(0), skipped: at(1), unreached: at(2), measured: at(3), relayed: at(5),
                 heads: [...document.querySelectorAll("tbody th")].map((n) => n.textContent),
                 note: cells[3].querySelector("small").textContent, title: document.title,
                 scripts: document.scripts.length });""",
    )
    seen = found(visited)
    assert seen["count"] == 24
    assert seen["heads"] == [f"kind-{n}" for n in range(5)]
    assert [seen[name][0] for name in ("failed", "skipped", "unreached")] == [
        "cell failed",
        "cell skipped",
        "cell not-run",
    ]
    assert seen["measured"][:2] == ["cell passed warm", "direct 120 ms"]
    assert seen["note"] == "5 runs, p90 140 ms"
    assert seen["relayed"][:2] == ["cell passed", "relayed"]
    assert len({seen[name][2] for name in ("failed", "skipped", "unreached", "measured")}) == 4
    assert seen["title"] == "21 passed, 1 skipped, 1 not run, 1 failed"
    assert seen["scripts"] == 3  # data, page, probe


def test_cell_opens_with_runs_links_and_command(tmp_path: Path) -> None:
    """Why it failed, where its evidence is, the command for it alone, and how its measures lie."""
    visited = visit(
        results_page(grid(5)),
        tmp_path,
        REPORT
        + """
        const cells = [...document.querySelectorAll("button.cell")], box = document.querySelector(".detail");
        cells[0].click();
        const failed = { reason: box.querySelector("pre").textContent, open: cells[0].getAttribute("aria-expanded"),
                         links: [...box.querySelectorAll("a")].map((a) => a.getAttribute("href")) };
        cells[3].click();
        const words = [...box.querySelectorAll(".sample")].map(
          (n) => n.querySelector("dl").textContent.replace(/\\s+/g, " "));
        const measured = { words, dots: box.querySelectorAll(".sample svg")[0].querySelectorAll(".dot").length,
                           command: box.querySelector("code").textContent,
                           runs: box.querySelectorAll("tbody tr").length,
                           others: document.querySelectorAll("[aria-expanded=true]").length };
        report({ failed, measured });""",
    )
    seen = found(visited)
    assert seen["failed"] == {
        "reason": HOSTILE,
        "open": "true",
        "links": ["a%20b/report.html", "a%20b/repro.yaml"],
    }
    assert seen["measured"]["words"][0] == "n5least100 msmedian120 msp90140 msgreatest140 ms"
    assert (seen["measured"]["dots"], seen["measured"]["runs"], seen["measured"]["others"]) == (5, 5, 1)
    assert seen["measured"]["command"] == "pytest 'tests/test_nat.py::test_nat[0 3]' --netns-seed 7"


def test_keys_move_open_and_close(tmp_path: Path) -> None:
    """Arrows go from cell to cell, over a place without a test; Escape closes and gives the focus back."""
    visited = visit(
        results_page(grid(5)),
        tmp_path,
        REPORT
        + """
        const press = (key) => document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", { key, bubbles: true }));
        const here = () => document.activeElement.dataset.cell;
        const way = [];
        document.querySelector("button.cell[tabindex='0']").focus();
        for (const key of ["ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp"]) {
          press(key); way.push(here());
        }
        document.activeElement.click();
        document.querySelector(".detail button").focus();
        press("Escape");
        report({ way, hidden: document.querySelector(".detail").hidden, back: here(),
                 stops: document.querySelectorAll("button.cell[tabindex='0']").length });""",
    )
    assert found(visited) == {"way": ["5", "6", "7", "3", "3"], "hidden": True, "back": "3", "stops": 1}


def test_colours_follow_the_value_where_asked(tmp_path: Path) -> None:
    """The quickest and the slowest cell have different colours then, and the failed one stays red."""
    visited = visit(
        results_page(grid(5)),
        tmp_path,
        REPORT
        + """
        const colour = (n) => getComputedStyle(document.querySelectorAll("button.cell")[n]).backgroundColor;
        const before = [colour(3), colour(23), colour(0)], choice = document.querySelector(".colour");
        choice.value = "value"; choice.dispatchEvent(new Event("change"));
        report({ before, after: [colour(3), colour(23), colour(0)], words: choice.selectedOptions[0].textContent });""",
    )
    seen = found(visited)
    assert seen["before"][0] == seen["before"][1]
    assert seen["after"][0] != seen["after"][1]
    assert seen["after"][2] == seen["before"][2]
    assert seen["words"] == "value, 120 ms to 520 ms"


@pytest.mark.parametrize("flags", [(), ("--force-dark-mode",)], ids=["light", "dark"])
@pytest.mark.parametrize(("size", "width"), [(5, 1400), (12, 1400), (12, 500)])
def test_grids_fit_windows(tmp_path: Path, size: int, width: int, flags: tuple[str, ...]) -> None:
    """A large grid scrolls in its box, never the whole page; words stay inside of their cells."""
    visited = visit(
        results_page(grid(size)),
        tmp_path,
        REPORT
        + """
        const cells = [...document.querySelectorAll("button.cell")];
        report({ sideways: document.documentElement.scrollWidth - innerWidth, count: cells.length,
                 cut: cells.filter((c) => c.scrollWidth > c.clientWidth + 1
                                          || c.scrollHeight > c.clientHeight + 1).length });""",
        f"--window-size={width},900",
        *flags,
    )
    seen = found(visited)
    assert seen["sideways"] <= 0
    assert (seen["count"], seen["cut"]) == (size * size - 1, 0)


def test_page_is_a_picture(tmp_path: Path) -> None:
    """A screenshot is more than an empty window."""
    path = tmp_path / "grid.html"
    path.write_text(results_page(grid(12)))
    screenshot(path, tmp_path / "grid.png")
    assert len((tmp_path / "grid.png").read_bytes()) > 30_000


def test_comparison_is_a_page(tmp_path: Path) -> None:
    """Changes in a table, worse ones first, and marked in the grid."""
    old, new = grid(3), grid(3, slower=4.0)
    cell = new.grids[0].cells["kind-1", "kind-0"]
    cell.runs[:] = [Run("t", "failed", HOSTILE)]
    changes = compare(old, new)
    visited = visit(
        comparison_page(old, new, changes, Rule()),
        tmp_path,
        REPORT
        + """
        const rows = [...document.querySelectorAll("#changes tbody tr")].map(
          (r) => [...r.cells].map((c) => c.textContent));
        report({ first: rows[0], second: rows[1], count: rows.length,
                 worse: document.querySelectorAll(".was-worse").length,
                 same: document.querySelectorAll(".cell.same").length, title: document.title });""",
    )
    seen = found(visited)
    assert seen["first"][:5] == ["▼ worse", "NAT by NAT", "kind-1 × kind-0", "outcome", "passed: relayed"]
    assert HOSTILE in seen["first"][5]
    assert (seen["second"][3], seen["second"][6]) == ("direct", "×4.00")
    assert (seen["count"], seen["worse"], seen["same"]) == (5, 5, 3)
    assert seen["title"] == "5 worse, 0 better"
