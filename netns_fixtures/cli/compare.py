"""``netns-lab compare``: what changed between two results of ``pytest --netns-grid``, or between two git refs."""

from __future__ import annotations

import json
import shlex
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from netns_fixtures.cli.main import WithCommand, program_of
from netns_fixtures.grid.comparing import Change, Rule, compare
from netns_fixtures.grid.model import Results, write
from netns_fixtures.grid.page import comparison_page, doubts
from netns_fixtures.grid.refs import results_of_refs

_STYLES = {"worse": "bold red", "better": "green", "changed": "yellow"}
_SIGNS = {"worse": "▼ worse", "better": "▲ better", "changed": "● changed"}
_FAILS = {"never": (), "worse": ("worse",), "changed": ("worse", "changed", "better")}
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("compare", cls=WithCommand)
@click.argument("files", nargs=-1, type=_FILE, metavar="[OLD.json NEW.json]")
@click.option(
    "--refs",
    nargs=2,
    metavar="OLD NEW",
    help="Run the program behind -- in a worktree of each of these git refs, and compare what both leave.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="With --refs: run both so often, in turn, so that a busy moment of the machine hits both.",
)
@click.option("--html", type=_FILE, metavar="FILE", help="Write a page as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the changes as JSON.")
@click.option(
    "--ratio",
    type=click.FloatRange(1, min_open=True),
    default=Rule().ratio,
    show_default=True,
    help="Medians that differ by less are noise; twice this where a side has fewer than three runs.",
)
@click.option(
    "--fail-if",
    type=click.Choice(list(_FAILS)),
    default="never",
    show_default=True,
    help="Exit with status 1 if anything got worse, or changed at all.",
)
@click.pass_context
def compare_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    refs: tuple[str, str] | None,
    rounds: int,
    html: Path | None,
    as_json: bool,
    ratio: float,
    fail_if: str,
) -> None:
    """What changed between two results of pytest --netns-grid: outcomes first, then values beyond noise.

    \b
    netns-lab compare OLD.json NEW.json --fail-if worse
    netns-lab compare --refs main HEAD -- pytest tests/lab
    """
    rule = Rule(ratio)
    old, new = _sides(ctx, files, refs, rounds)
    changes = compare(old, new, rule)
    if html is not None:
        write(html, comparison_page(old, new, changes, rule))
    if as_json:
        click.echo(json.dumps([asdict(change) for change in changes], indent=1))
    else:
        _show(changes, doubts(old, new), rule)
    if any(change.verdict in _FAILS[fail_if] for change in changes):
        ctx.exit(1)


def _sides(
    ctx: click.Context, files: tuple[Path, ...], refs: tuple[str, str] | None, rounds: int
) -> tuple[Results, Results]:
    program = program_of(ctx)
    if refs is None:
        if len(files) != 2 or program:
            raise click.UsageError("give two files, or --refs OLD NEW -- PROGRAM", ctx)
        return Results.load(files[0]), Results.load(files[1])
    if files or not program:
        raise click.UsageError(
            "--refs OLD NEW needs a program behind --, such as -- pytest tests, and no files", ctx
        )

    def tell(ref: str, number: int) -> None:
        click.echo(f"{ref}, round {number} of {rounds}: {shlex.join(program)}", err=True)

    with tempfile.TemporaryDirectory(prefix="netns-compare-") as place:
        return results_of_refs(refs, program, Path(place), rounds=rounds, tell=tell)


def _show(changes: list[Change], doubtful: list[str], rule: Rule) -> None:
    console = Console(highlight=False)
    for doubt in doubtful:
        console.print(Text(f"note: {doubt}", style="yellow"))
    if changes:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("verdict", "grid", "cell", "what", "old", "new", "ratio"):
            table.add_column(name, overflow="fold")
        for change in changes:
            ratio = "" if change.ratio is None else f"×{change.ratio:.2f}"
            words = (change.grid, change.pair, change.what, change.old, change.new, ratio)
            table.add_row(Text(_SIGNS[change.verdict], style=_STYLES[change.verdict]), *map(Text, words))
        console.print(table)
    counts = {verdict: sum(change.verdict == verdict for change in changes) for verdict in _STYLES}
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    console.print(Text(told or "nothing changed"))
    console.print(Text(str(rule), style="dim"))
