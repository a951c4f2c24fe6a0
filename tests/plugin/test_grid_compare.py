"""``netns-lab compare``: files, two git refs, and what it exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netns_fixtures.cli import main
from netns_fixtures.grid import Results, Run, Value

TEST = """
import pytest

@pytest.mark.netns_grid("a", "b")
@pytest.mark.parametrize(("a", "b"), [("x", "y"), ("x", "z")])
def test_it(a, b, grid_cell):
    grid_cell.record("took", SECONDS)
    assert b != "BROKEN"
"""


def run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(main, ["compare", *words])


def results(path: Path, seconds: float) -> str:
    found = Results({"finished": True})
    found.grid("nat", "a", "b").cell("x", "y").runs.append(
        Run("t", "passed", values=(Value("direct", seconds),))
    )
    found.save(path)
    return str(path)


@pytest.mark.parametrize(("condition", "status"), [("never", 0), ("worse", 1), ("changed", 1)])
def test_status_says_whether_it_got_worse(tmp_path: Path, condition: str, status: int) -> None:
    """CI fails where that was asked for, and the table says why."""
    old, new = results(tmp_path / "old.json", 0.1), results(tmp_path / "new.json", 0.9)
    page = tmp_path / "page.html"
    done = run(old, new, "--fail-if", condition, "--html", str(page))
    assert done.exit_code == status, done.output
    assert "▼ worse" in done.stdout
    assert "×9.00" in done.stdout
    assert "1 worse" in page.read_text()
    assert run(new, old, "--fail-if", "worse").exit_code == 0
    assert "nothing changed" in run(old, old, "--fail-if", "changed").stdout


def test_changes_as_json(tmp_path: Path) -> None:
    """For programs, all that the table says."""
    done = run(results(tmp_path / "old.json", 0.1), results(tmp_path / "new.json", 0.9), "--json")
    (change,) = json.loads(done.stdout)
    assert (change["verdict"], change["row"], change["column"], change["what"]) == (
        "worse",
        "x",
        "y",
        "direct",
    )


def test_what_cannot_be_compared_is_said_in_a_sentence(tmp_path: Path) -> None:
    """Missing files, other files, and half a command line."""
    (tmp_path / "other.json").write_text("{}")
    other = str(tmp_path / "other.json")
    assert "holds no results of --netns-grid" in run(other, other).stderr
    assert run(other, other).exit_code == 125
    assert "No such file" in run("none.json", "none.json").stderr
    assert run(other).exit_code == 2
    assert "needs a program" in run("--refs", "a", "b").stderr


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits; in the second, a test is slower and another one fails."""
    place = tmp_path / "repository"
    (place / "tests").mkdir(parents=True)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    git(place, "init", "--quiet")
    (place / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    for tag, text in (("old", TEST), ("new", TEST.replace("BROKEN", "z"))):
        seconds = {"old": "0.1", "new": "0.9"}[tag]
        (place / "tests" / "test_it.py").write_text(text.replace("SECONDS", seconds))
        git(place, "add", ".")
        git(place, "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "--quiet", "-m", tag)
        git(place, "tag", tag)
    monkeypatch.chdir(place / "tests")
    return place


def git(place: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=place, check=True, capture_output=True, text=True).stdout


def test_two_refs_are_compared_by_one_command(repository: Path) -> None:
    """Each ref runs in a worktree, below it where we stand; outcomes come first, and no worktree stays."""
    words = ["--refs", "old", "new", "--rounds", "2", "--fail-if", "worse", "--json", "--"]
    done = run(*words, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert done.exit_code == 1, done.output
    changes = json.loads(done.stdout)
    assert [(c["kind"], c["verdict"], c["column"]) for c in changes] == [
        ("outcome", "worse", "z"),
        ("value", "worse", "y"),
    ]
    assert (changes[1]["old"], changes[1]["new"]) == ("100 ms (n 2, p90 100 ms)", "900 ms (n 2, p90 900 ms)")
    assert "new, round 2 of 2" in done.stderr
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--refs", "old", "none", "--", "true"], "git worktree add"),
        (["--refs", "old", "new", "--", "true"], "left no results"),
        (["--refs", "old", "new", "--", "no-such-program"], "does not run there"),
    ],
)
def test_ref_without_results_is_an_error(repository: Path, words: list[str], says: str) -> None:
    """What went wrong is said, and no worktree stays."""
    done = run(*words)
    assert done.exit_code == 125
    assert says in done.stderr
    assert len(git(repository, "worktree", "list").splitlines()) == 1
