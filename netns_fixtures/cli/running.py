"""``netns-lab run``, ``replay`` and ``check``: a scenario from a file, with programs in its hosts."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from netns_fixtures.cli.main import WithCommand, program_of
from netns_fixtures.cli.showing import Show
from netns_fixtures.link_engine import LinkEngine
from netns_fixtures.scenario import Scenario, load_scenario

_F = TypeVar("_F", bound=Callable[..., Any])
ENGINE = click.option(
    "--link-engine",
    type=click.Choice([engine.value for engine in LinkEngine]),
    help="What impaired links are made of, whatever the file says.",
)
FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


class _Beside(click.ParamType[Any]):
    """``HOST=COMMAND``."""

    name = "HOST=COMMAND"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, list[str]]:
        host, equals, command = str(value).partition("=")
        try:
            words = shlex.split(command)
        except ValueError as error:
            self.fail(f"{command!r}: {error}", param, ctx)
        if not equals or not host or not words:
            self.fail(f"{value!r}: write the host, '=' and a command, such as 'server=iperf3 -s'", param, ctx)
        return host, words


def _options(command: _F) -> _F:
    for option in (
        click.option(
            "--host", metavar="NAME", help="Where PROGRAM runs; default: the first host of the file."
        ),
        click.option(
            "--on",
            "beside",
            type=_Beside(),
            multiple=True,
            help="Run COMMAND in HOST as well; its lines are shown with its host.",
        ),
        click.option(
            "--evidence",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIRECTORY",
            help="Leave packets, kernel state, logs, the timeline and a repro file here.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Everything as JSON, an object per line."),
        ENGINE,
        click.option("--quiet", is_flag=True, help="Do not show the events of the lab."),
    ):
        command = option(command)
    return command


@click.command("run", cls=WithCommand)
@FILE
@click.option("--seed", type=click.IntRange(0), metavar="NUMBER", help="Another seed than the file's.")
@_options
@click.pass_context
def run_command(context: click.Context, /, file: Path, seed: int | None, **options: Any) -> None:
    """Build the network of FILE, run PROGRAM in one of its hosts, and play the timeline.

    The exit status is PROGRAM's; 128 and the number of the signal that killed it; 125 if it could not be run.
    Without PROGRAM it ends with the timeline, or with the programs of --on.
    """
    context.exit(_run(context, load_scenario(file), seed, **options))


@click.command("replay", cls=WithCommand)
@FILE
@_options
@click.pass_context
def replay_command(context: click.Context, /, file: Path, **options: Any) -> None:
    """Do again what a repro file tells: the same network, seeds, and events at the same times.

    The lab's part of it: a test runs again with pytest --netns-replay FILE.
    """
    scenario = load_scenario(file)
    for sentence in _doubts(scenario):
        click.echo(sentence, err=True)
    if not scenario.nodes:
        raise click.UsageError(f"{file} has no network; {_again(file)}")
    if "test" in scenario.test and not options["quiet"]:
        click.echo(f"the network of {scenario.test['test']}; {_again(file)}", err=True)
    context.exit(_run(context, scenario, None, **options))


@click.command("check")
@FILE
def check_command(file: Path) -> None:
    """Find the mistakes of FILE without building anything; print it as it was understood."""
    click.echo(str(load_scenario(file)), nl=False)


def _run(
    context: click.Context,
    scenario: Scenario,
    seed: int | None,
    *,
    host: str | None,
    beside: tuple[tuple[str, list[str]], ...],
    evidence: Path | None,
    as_json: bool,
    quiet: bool,
    link_engine: str | None,
) -> int:
    from netns_fixtures.cli.session import Session

    program = program_of(context)
    if host is not None and not program:
        raise click.UsageError("--host says where PROGRAM runs: write it at the end, after --")
    show = Show(as_json=as_json, quiet=quiet)
    with Session(scenario, show, evidence, seed, link_engine) as session:
        session.node(host) if host is not None else None
        status = session.play((host, program) if program else None, beside)
    if as_json:
        show.object(type="end", status=status, seed=session.lab.seed)
    return status


def _doubts(scenario: Scenario) -> list[str]:
    from netns_fixtures.repro import doubts

    return doubts(scenario)


def _again(file: Path) -> str:
    return f"to run the test itself: pytest --netns-replay {shlex.quote(str(file))}"
