"""Results as grids: what a cell is, the file, and what counts as a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_fixtures.errors import ResultsError
from netns_fixtures.grid import Change, Results, Rule, Run, Value, compare
from netns_fixtures.grid.model import measure, quantile
from netns_fixtures.grid.page import comparison_page, doubts, markdown, results_page


def results(**cells: list[Run]) -> Results:
    """One row of cells in one grid."""
    found = Results({"commit": "abc", "kernel": "6.18", "finished": True})
    grid = found.grid("nat", "left", "right")
    for column, runs in cells.items():
        cell = grid.cell("row", column)
        cell.tests.append(f"test_it.py::test_nat[row-{column}]")
        cell.runs += runs
    return found


def runs(*seconds: float, name: str = "direct", outcome: str = "passed") -> list[Run]:
    return [Run("t", outcome, values=(Value(name, each),)) for each in seconds]


def only(changes: list[Change]) -> Change:
    (change,) = changes
    return change


@pytest.mark.parametrize(
    ("outcomes", "cell"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "failed"], "flaky"),
        (["rerun", "passed"], "flaky"),
        (["failed", "failed"], "failed"),
        (["error", "skipped"], "failed"),
        (["skipped"], "skipped"),
        (["xfailed"], "xfailed"),
        (["xpassed"], "passed"),
        ([], "not run"),
    ],
)
def test_cell_is_what_its_runs_are(outcomes: list[str], cell: str) -> None:
    """One verdict for several runs, and none hides a failure."""
    found = results(a=[Run("t", outcome) for outcome in outcomes])
    assert found.grids[0].cells["row", "a"].outcome == cell


def test_cell_that_began_and_never_ended_says_so() -> None:
    """A run that died is not taken for one that was never begun, nor for one that nobody chose."""
    cell = results(a=[]).grids[0].cells["row", "a"]
    cell.chosen = False
    assert cell.outcome == "not chosen"
    cell.began = True
    assert cell.outcome == "no result"


def test_words_of_a_cell_are_counted_and_measures_are_medians() -> None:
    """Runs that found the same are one phrase; others are counted."""
    cell = results(a=[*runs(0.2, 0.3, 0.9), Run("t", "passed", values=(Value("relayed"),))]).grids[0].cells
    assert cell["row", "a"].text == "3× direct 300 ms, 1× relayed"
    assert results(a=runs(1.5)).grids[0].cells["row", "a"].text == "direct 1.50 s"
    assert [measure(0.0042, "s"), measure(3, "MB"), measure(2, "")] == ["4.2 ms", "3 MB", "2"]


def test_quantile_is_a_measure_that_was_made() -> None:
    """Nearest rank: p90 of ten is the ninth."""
    ten = [float(number) for number in range(1, 11)]
    assert [quantile(ten, share) for share in (0.25, 0.5, 0.9, 1.0)] == [3, 5, 9, 10]
    assert quantile([7.0], 0.9) == 7


def test_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Nothing is lost on the way, and nothing else is left beside the file."""
    found = results(
        a=[Run("t", "failed", "why", 1.5, 2, (Value("gap", 0.1),), "p", "r", "wire", (7, 8))], b=[]
    )
    found.save(tmp_path / "deep" / "grid.json")
    assert Results.load(tmp_path / "deep" / "grid.json") == found
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["grid.json"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", 'no "format"'),
        ('{"format": "netns-grid 1", "about": {}}', "'grids' is missing"),
        (
            '{"format": "netns-grid 1", "about": {}, "grids": [{"name": 1, "rows_name": "", "columns_name": ""}]}',
            "1 is no text",
        ),
    ],
)
def test_file_that_is_none_is_refused_in_a_sentence(text: str, says: str) -> None:
    """The error names the file and what is wrong with it."""
    with pytest.raises(ResultsError, match=r"old\.json holds no results") as caught:
        Results.parse(text, "old.json")
    assert says in str(caught.value)


def test_outcomes_come_first_and_worse_ones_before_better_ones() -> None:
    """Who reads only the first line reads what matters most."""
    old = results(a=runs(0.1), b=runs(0.1, outcome="failed"), c=runs(0.1), d=runs(0.1))
    new = results(a=runs(9.0), b=runs(0.1), c=runs(0.1, outcome="failed"), e=[Run("t", "passed")])
    found = [(change.kind, change.verdict, change.column) for change in compare(old, new)]
    assert found == [
        ("outcome", "worse", "c"),
        ("outcome", "better", "b"),
        ("value", "worse", "a"),
        ("cell", "changed", "d"),
        ("cell", "changed", "e"),
    ]


def test_noise_is_no_change() -> None:
    """Same ratio of medians: a change where the runs lie apart, none where they overlap."""
    assert compare(results(a=runs(0.10, 0.11, 0.12)), results(a=runs(0.12, 0.13, 0.14))) == []
    assert compare(results(a=runs(0.1, 0.1, 0.5)), results(a=runs(0.1, 0.2, 0.3))) == []
    change = only(compare(results(a=runs(0.10, 0.11, 0.12)), results(a=runs(0.2, 0.22, 0.24))))
    assert (change.verdict, change.what) == ("worse", "direct")
    assert change.ratio == pytest.approx(2.0)


def test_few_runs_need_a_larger_ratio_and_short_times_a_larger_difference() -> None:
    """A single run twice as slow says nothing; neither do two milliseconds instead of one."""
    assert compare(results(a=runs(0.1)), results(a=runs(0.25))) == []
    assert only(compare(results(a=runs(0.1)), results(a=runs(0.31)))).verdict == "worse"
    assert compare(results(a=runs(0.001)), results(a=runs(0.0045))) == []
    assert only(compare(results(a=runs(0.1)), results(a=runs(0.21)), Rule(1.01))).ratio == pytest.approx(2.1)


def test_direction_of_a_measure_decides_what_is_worse() -> None:
    """More megabytes per second are better, more seconds are worse; a plain count is neither."""

    def with_value(value: float, better: str) -> Results:
        return results(a=[Run("t", "passed", values=(Value("rate", value, "MB/s", better),))])

    verdicts = [
        only(compare(with_value(10, better), with_value(1, better))).verdict
        for better in ("higher", "lower", "")
    ]
    assert verdicts == ["worse", "better", "changed"]


def test_measured_word_that_is_gone_is_worse() -> None:
    """Direct after 0.2 s, and now relayed: the test passes, and the comparison tells."""
    relayed = [Run("t", "passed", values=(Value("relayed"),))]
    change = only(compare(results(a=runs(0.2)), results(a=relayed)))
    assert (change.kind, change.verdict, change.old, change.new) == (
        "result",
        "worse",
        "direct 200 ms",
        "relayed",
    )
    assert only(compare(results(a=relayed), results(a=runs(0.2)))).verdict == "better"


def test_cells_that_nobody_chose_are_not_compared() -> None:
    """A run of one pair against the whole matrix says something of that pair alone."""
    old, new = results(a=runs(0.1), b=runs(0.1)), results(a=runs(0.1), b=[])
    new.grids[0].cells["row", "b"].chosen = False
    assert compare(old, new) == []
    new.grids[0].cells["row", "b"].chosen = True
    assert only(compare(old, new)).new == "not run"


def test_rounds_are_gathered() -> None:
    """Runs of several rounds are runs of one cell."""
    found = results(a=runs(0.1))
    found.add(results(a=runs(0.2), b=runs(0.3)))
    cells = found.grids[0].cells
    assert [len(cell.runs) for cell in cells.values()] == [2, 1]
    assert cells["row", "a"].tests == ["test_it.py::test_nat[row-a]"]


def test_pages_and_markdown_hold_no_markup_of_names() -> None:
    """Names of parameters are words, whatever they are."""
    hostile = "</script><script>alert(1)</script>|`*"
    found = results(**{hostile: [Run("t", "failed", hostile)]})
    changes = compare(results(**{hostile: [Run("t", "passed")]}), found)
    for page in (results_page(found), comparison_page(found, found, changes, Rule())):
        assert "<script>alert" not in page
        assert "alert(1)" in page
    table = next(line for line in markdown(found).splitlines() if line.startswith("| left"))
    assert table.count(" | ") == 1
    assert "<script>" not in table.replace("\\<", "")


def test_other_machines_are_named() -> None:
    """Two runs that cannot be compared well say why."""
    old, new = results(a=[]), results(a=[])
    new.about |= {"kernel": "5.10", "finished": False}
    assert doubts(old, new) == ["another kernel: 6.18 and 5.10", "the new run did not end"]
