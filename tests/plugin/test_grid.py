"""Results as a grid: ``--netns-grid``, ``--netns-pair``, the marker and the fixture; no lab is needed for any of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_attempts import CONFTEST as AGAIN

from netns_fixtures.grid import Cell, Results

#: Seconds for a run of its own to come to the test that hangs.
PATIENCE = 60.0

NATS = """
import os
import pytest

KINDS = ["none", "moderate", "strict"]

@pytest.mark.netns_grid(rows="left", columns="right")
@pytest.mark.parametrize("right", KINDS)
@pytest.mark.parametrize("left", KINDS)
def test_nat(left, right, grid_cell):
    if left == right == "strict":
        grid_cell.record("relayed")
        assert not os.environ.get("BREAK")
    elif (left, right) == ("none", "strict"):
        pytest.skip("no strict NAT here")
    elif (left, right) == ("strict", "none"):
        assert left == right, "nobody came"
    else:
        grid_cell.record("direct", 0.2 + 0.1 * KINDS.index(left))
        grid_cell.record("gap", 0.01)

def test_other():
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Nine pairs of NATs, and a test that has nothing to do with them."""
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(test_it=NATS)
    return pytester


def cells(path: Path, name: str = "test_nat") -> dict[tuple[str, str], Cell]:
    """The cells of a grid of a file."""
    return next(grid.cells for grid in Results.load(path).grids if grid.name == name)


def outcomes(path: Path, name: str = "test_nat") -> dict[str, str]:
    return {",".join(key): cell.outcome for key, cell in cells(path, name).items()}


WORKERS = pytest.mark.parametrize(
    "workers", [(), ("-n", "2"), ("-n", "2", "--dist=loadgroup")], ids=["alone", "xdist", "loadgroup"]
)


@WORKERS
def test_run_leaves_a_page_and_two_files(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Each pair of parameters is a cell with what its test found, whoever ran it."""
    project.makepyfile(
        test_it=NATS.replace(
            "@pytest.mark.netns_grid", "@pytest.mark.xdist_group('g')\n@pytest.mark.netns_grid"
        )
    )
    result = project.runpytest_subprocess("--netns-grid=out/nat.html", *workers)

    result.assert_outcomes(passed=8, skipped=1, failed=1)
    result.stdout.fnmatch_lines(["netns grid: out/nat.html (7 passed, 1 skipped, 1 failed)"])
    assert sorted(path.name for path in (project.path / "out").iterdir()) == [
        "nat.html",
        "nat.json",
        "nat.md",
    ]
    results = Results.load(project.path / "out" / "nat.json")
    (grid,) = results.grids
    assert grid.rows == grid.columns == ["none", "moderate", "strict"]
    assert grid.cells["moderate", "strict"].text == "direct 300 ms"
    assert [str(value) for value in grid.cells["none", "none"].runs[0].values] == [
        "direct 200 ms",
        "gap 10 ms",
    ]
    assert grid.cells["strict", "strict"].text == "relayed"
    assert grid.cells["none", "strict"].reason == "no strict NAT here"
    assert "nobody came" in grid.cells["strict", "none"].reason
    assert grid.cells["none", "none"].tests == ["test_it.py::test_nat[none-none]"]
    assert {"kernel", "machine", "date", "commit", "seed", "link_engine"} <= set(results.about)
    assert (results.about["finished"], results.about["exit"]) == (True, 1)
    assert "| **moderate** | ✓ direct 300 ms |" in (project.path / "out" / "nat.md").read_text()
    page = (project.path / "out" / "nat.html").read_text()
    assert "pytest \\u0027test_it.py::test_nat[strict-none]\\u0027" in page or "test_nat[strict-none]" in page


def test_pair_runs_alone_and_the_others_stay_on_the_page(project: pytest.Pytester) -> None:
    """The rest of the grid is there, as cells that nobody chose."""
    result = project.runpytest("--netns-grid=nat", "--netns-pair=moderate,strict")
    result.assert_outcomes(passed=1, deselected=9)
    found = outcomes(project.path / "nat.json")
    assert found.pop("moderate,strict") == "passed"
    assert set(found.values()) == {"not chosen"}
    assert len(found) == 8


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_row_of_cells_by_a_pattern(project: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A star stands for any column."""
    project.runpytest_subprocess("--netns-pair=moderate,*", *workers).assert_outcomes(passed=3)


def test_pair_that_does_not_exist_is_an_error_with_those_that_do(project: pytest.Pytester) -> None:
    """Who mistypes learns the names."""
    result = project.runpytest("--netns-pair=modrate,strict")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --netns-pair modrate,strict: no such cell. Cells: none,none; *"])


def test_first_failure_that_ends_the_run_leaves_cells_not_run(project: pytest.Pytester) -> None:
    """With -x the page shows which cells were never reached."""
    project.runpytest("--netns-grid=nat", "-x")
    found = outcomes(project.path / "nat.json")
    assert [found[pair] for pair in ("moderate,none", "strict,none", "strict,moderate", "strict,strict")] == [
        "passed",
        "failed",
        "not run",
        "not run",
    ]


def test_failure_of_set_up_or_tear_down_is_the_cells(project: pytest.Pytester) -> None:
    """What a fixture does wrong stands in the cell; values recorded before are kept."""
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.fixture
        def broken(a):
            assert a != 1, "set-up"
            yield
            assert a != 2, "tear-down"

        @pytest.mark.netns_grid("a", "b")
        @pytest.mark.parametrize("b", [True])
        @pytest.mark.parametrize("a", [0, 1, 2])
        def test_it(a, b, grid_cell, broken):
            grid_cell.record("fine", 0.5)
        """
    )
    project.runpytest("--netns-grid=nat").assert_outcomes(passed=2, errors=2)
    found = cells(project.path / "nat.json", "test_it")
    assert [found[str(a), "True"].runs[0].outcome for a in range(3)] == ["passed", "error", "error"]
    assert "tear-down" in found["2", "True"].reason
    assert found["2", "True"].text == "fine 500 ms"


def test_repetitions_are_runs_of_a_cell_and_other_parameters_make_grids(project: pytest.Pytester) -> None:
    """``repeats`` names the parameter of repetitions; each value of any other has a grid; labels are readable."""
    project.makepyfile(
        test_it="""
        import enum
        import pytest

        class Load(enum.Enum):
            LIGHT = "light"

        @pytest.mark.netns_grid("link", "load", name="links", repeats="n")
        @pytest.mark.parametrize("n", range(3))
        @pytest.mark.parametrize("side", ["client", "server"])
        @pytest.mark.parametrize("load", [Load.LIGHT, pytest.param(object(), id="heavy"), max])
        @pytest.mark.parametrize("link", [b"x", 2], ids=["fibre", None])
        def test_it(link, load, side, n, grid_cell):
            grid_cell.record("took", n + 1.0)
        """
    )
    project.runpytest("--netns-grid=nat").assert_outcomes(passed=36)
    results = Results.load(project.path / "nat.json")
    assert sorted(grid.name for grid in results.grids) == ["links [side=client]", "links [side=server]"]
    grid = results.grids[0]
    assert (grid.rows, grid.columns) == (["fibre", "2"], ["light", "heavy", "max"])
    cell = grid.cells["fibre", "heavy"]
    assert (len(cell.runs), cell.text) == (3, "took 2.00 s")


def test_several_tests_share_a_grid(project: pytest.Pytester) -> None:
    """A name joins tests; ``at`` says where one belongs that has no parameters."""
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.netns_grid("a", "b", name="all")
        @pytest.mark.parametrize(("a", "b"), [("x", "x"), ("x", "y")])
        def test_one(a, b): pass

        @pytest.mark.netns_grid("a", "b", name="all", at=("y", "y"))
        def test_two(): pass
        """
    )
    project.runpytest("--netns-grid=nat").assert_outcomes(passed=3)
    assert set(outcomes(project.path / "nat.json", "all")) == {"x,x", "x,y", "y,y"}


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('rows="a", columns="c"', "*test_it.py::test_it[[]1-2[]]: netns_grid: no parameter 'c'; it has a, b"),
        ('rows="a"', "*netns_grid(rows='a'): write netns_grid(rows, columns, *"),
        ('"a", "b", at="ab"', "*it is a row and a column*"),
    ],
)
def test_marker_that_cannot_be_meant_is_an_error(project: pytest.Pytester, marker: str, says: str) -> None:
    """The run ends before it begins, with one sentence."""
    test = f"import pytest\n@pytest.mark.netns_grid({marker})\n@pytest.mark.parametrize(('a', 'b'), [(1, 2)])"
    project.makepyfile(test_it=test + "\ndef test_it(a, b): pass")
    result = project.runpytest("--netns-grid=nat")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])


def test_measure_that_is_no_number_is_refused(project: pytest.Pytester) -> None:
    """A test that records nonsense fails there, with or without a grid."""
    project.makepyfile(
        test_it="""
        import pytest

        def test_it(grid_cell):
            with pytest.raises(ValueError, match="finite number"):
                grid_cell.record("direct", float("nan"))
            with pytest.raises(ValueError, match="'lower', 'higher'"):
                grid_cell.record("direct", 1.0, better="faster")
            for number in range(50):
                grid_cell.record("direct", number)
            with pytest.raises(ValueError, match="room for 50"):
                grid_cell.record("direct", 1.0)
        """
    )
    project.runpytest().assert_outcomes(passed=1)


def test_healing_is_recorded(project: pytest.Pytester) -> None:
    """Time to heal, gap and path of ``heals`` by one call."""
    project.makepyfile(
        test_it="""
        import pytest
        from pytest_iroh import Healing

        @pytest.mark.netns_grid("a", "b")
        @pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 2)])
        def test_it(a, b, grid_cell):
            good = Healing(5.0, healed=True, seconds=0.12, gap=0.15, path_after="1.2.3.4:5", direct=True)
            grid_cell.record_healing(good if b == 1 else Healing(5.0))
        """
    )
    project.runpytest("--netns-grid=nat").assert_outcomes(passed=2)
    found = cells(project.path / "nat.json", "test_it")
    assert [str(value) for value in found["1", "1"].runs[0].values] == [
        "healed 120 ms",
        "gap 150 ms",
        "direct",
    ]
    assert found["1", "2"].text == "not healed"


FLAKY = """
import pytest
tries = []

@pytest.mark.netns_grid("a", "b")
@pytest.mark.parametrize(("a", "b"), [(1, 1)])
def test_it(a, b, grid_cell):
    tries.append(a)
    grid_cell.record("try", len(tries), "")
    assert len(tries) == 2
"""


def test_test_that_is_run_again_is_flaky(project: pytest.Pytester) -> None:
    """As pytest-rerunfailures reports it: the first try with the outcome "rerun", and maybe without its tear-down."""
    every = AGAIN.replace(
        "    for report in reports:\n        item.ihook", "    for report in []:\n        item.ihook"
    )
    every = every.replace(
        "        if last or not any",
        """
        again = not last and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
            if report.outcome == "rerun":
                break
        if last or not any""",
    ).replace(
        "any(report.failed for report in reports):\n            break",
        "any(r.outcome == 'rerun' for r in reports):\n            break",
    )
    project.makeconftest(every)
    project.makepyfile(test_it=FLAKY)
    project.runpytest("--netns-grid=nat")
    (cell,) = cells(project.path / "nat.json", "test_it").values()
    assert [(run.outcome, run.attempt, str(run.values[0])) for run in cell.runs] == [
        ("rerun", 1, "try 1"),
        ("passed", 2, "try 2"),
    ]
    assert cell.outcome == "flaky"


@pytest.mark.usefixtures("fake_labs")
def test_cell_links_to_evidence_and_repro(project: pytest.Pytester) -> None:
    """The page of a failed test is a click away, by a path that works where the results are."""
    project.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.netns_grid("a", "b")
        @pytest.mark.parametrize(("a", "b"), [(1, 1)])
        def test_it(a, b, lab):
            lab.happen("down", "laptop", "laptop went down")
            assert False
        """
    )
    project.runpytest("--netns-grid=out/deep/nat.html", "--netns-seed=77")
    (cell,) = cells(project.path / "out/deep/nat.json", "test_it").values()
    (run,) = cell.runs
    assert run.page.startswith("../../test-results/")
    assert (project.path / "out/deep" / run.page).is_file()
    assert (project.path / "out/deep" / run.repro).is_file()
    assert (run.seeds, run.engine) == ((77,), "veth")
    assert "--netns-seed 77" in (project.path / "out/deep/nat.html").read_text()


def test_died_worker_is_a_failed_cell(project: pytest.Pytester) -> None:
    """kill -9 of a worker fails the cell that it was in; cells that nobody reached are there as well."""
    project.makepyfile(
        test_it=NATS.replace(
            '    if left == right == "strict"',
            '    if (left, right) == ("moderate", "none"): os.kill(os.getpid(), 9)\n    if left == right == "strict"',
        )
    )
    result = project.runpytest_subprocess("-n", "1", "--max-worker-restart=0", "--netns-grid=nat")
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed*"])
    found = cells(project.path / "nat.json")
    assert found["none", "none"].outcome == "passed"
    assert found["moderate", "none"].outcome == "failed"
    assert "crashed" in found["moderate", "none"].reason
    assert found["strict", "strict"].outcome == "not run"


def test_run_that_is_killed_leaves_what_it_had(project: pytest.Pytester) -> None:
    """kill -9 of pytest itself: all cells are on the page from the first moment, and it says that it did not end."""
    project.makepyfile(
        test_it=NATS.replace(
            "    if left == right",
            "    open('began', 'w').close()\n    import time\n    time.sleep(1000)\n    if left == right",
            1,
        )
    )
    argv = [sys.executable, "-m", "pytest", "-q", "--netns-grid=nat"]
    with subprocess.Popen(argv, cwd=project.path, stdout=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + PATIENCE
        while not (project.path / "began").exists():
            assert time.monotonic() < deadline
            assert run.poll() is None
        os.kill(run.pid, signal.SIGKILL)
    found = outcomes(project.path / "nat.json")
    assert len(found) == 9
    assert set(found.values()) == {"not run"}
    assert "did not end" in (project.path / "nat.html").read_text()


def test_results_that_cannot_be_written_change_no_test(project: pytest.Pytester) -> None:
    """A place that is no directory is told in a line; the tests are what they are."""
    (project.path / "file").write_text("")
    result = project.runpytest("--netns-grid=file/nat", "-k", "moderate-moderate or other")
    result.assert_outcomes(passed=2, deselected=8)
    result.stdout.fnmatch_lines(["netns grid: not written: *file*"])


def test_run_without_cells_says_so(project: pytest.Pytester) -> None:
    """Nobody wonders where the page is."""
    result = project.runpytest("--netns-grid=nat", "-k", "other")
    result.stdout.fnmatch_lines(["netns grid: not written: no test with the marker netns_grid"])
    assert not (project.path / "nat.html").exists()
