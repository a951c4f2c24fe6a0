"""Results of two git refs by one command: each in a worktree of its own, in turn."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from netns_fixtures.errors import ResultsError
from netns_fixtures.grid.model import Results

#: By which pytest learns where its grid goes.
VARIABLE = "PYTEST_NETNS_GRID"
#: Statuses of pytest after which there are results: all passed, some failed.
_RAN = (0, 1)


def results_of_refs(
    refs: tuple[str, str],
    program: Sequence[str],
    place: Path,
    *,
    rounds: int = 1,
    tell: Callable[[str, int], None] = lambda _ref, _number: None,
) -> tuple[Results, Results]:
    """Run a program ``rounds`` times in a worktree of each ref, in turn, and gather what it leaves.

    The program runs at the same place below the repository as we do, with ``PYTEST_NETNS_GRID`` set and the worktree in
    front of PYTHONPATH, so that its code wins over an editable installation. Raises ResultsError where a ref is not
    known, the program could not run, or it left no results; the worktrees are gone afterwards in any case.
    """
    top = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel"))
    inside = Path.cwd().resolve().relative_to(top.resolve())
    gathered = [Results(), Results()]
    with _worktree(top, refs[0], place / "old") as old, _worktree(top, refs[1], place / "new") as new:
        for number in range(1, rounds + 1):
            for tree, ref, results in zip((old, new), refs, gathered, strict=True):
                tell(ref, number)
                found = _run(program, tree, inside, place / f"{tree.name}-{number}.html", ref)
                results.about = {**found.about, "ref": ref}
                results.add(found)
    return gathered[0], gathered[1]


def _run(program: Sequence[str], tree: Path, inside: Path, page: Path, ref: str) -> Results:
    before = os.environ.get("PYTHONPATH")
    paths = [str(tree), *([before] if before else [])]
    environment = os.environ | {VARIABLE: str(page), "PYTHONPATH": os.pathsep.join(paths)}
    try:
        # Its output belongs to people, our stdout to the comparison.
        done = subprocess.run(list(program), cwd=tree / inside, env=environment, stdout=2, check=False)
    except OSError as error:
        raise ResultsError(f"{ref}: {program[0]} does not run there: {error}") from None
    path = page.with_suffix(".json")
    if done.returncode not in _RAN or not path.exists():
        raise ResultsError(
            f"{ref}: {program[0]} exited with {done.returncode} and left no results; are its tests marked "
            "netns_grid, and does pytest know --netns-grid at that ref?"
        )
    return Results.load(path)


@contextmanager
def _worktree(top: Path, ref: str, place: Path) -> Iterator[Path]:
    _git(top, "worktree", "add", "--quiet", "--detach", str(place), ref)
    try:
        yield place
    finally:
        _git(top, "worktree", "remove", "--force", str(place))


def _git(directory: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ResultsError(f"git does not run: {error}") from None
    if done.returncode:
        raise ResultsError(f"git {words[0]} {words[1]}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()
