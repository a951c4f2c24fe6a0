"""``netns-lab shell``, ``exec``, ``do``, ``events`` and ``save``: what can be done with a lab that is up."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click
import yaml

from netns_fixtures.cli.main import SIGNALLED, WithCommand, program_of
from netns_fixtures.cli.showing import Show
from netns_fixtures.cli.terminal import attach, on_terminal
from netns_fixtures.holding import places
from netns_fixtures.holding.places import Held
from netns_fixtures.holding.visitor import Visitor, ask
from netns_fixtures.scenario.marked import Loader


@click.command("shell", cls=WithCommand)
@click.argument("words", nargs=-1, required=True, metavar="[LAB] HOST")
@click.option(
    "--print", "only_print", is_flag=True, help="Print the command that enters HOST, and do no more."
)
@click.pass_context
def shell_command(context: click.Context, /, words: tuple[str, ...], only_print: bool) -> None:
    """Open a shell in HOST of a lab that is up, or run PROGRAM there.

    LAB may be left out where only one is up. The first line on stderr is a command that enters HOST from any other
    terminal of yours. The exit status is that of the shell or PROGRAM.
    """
    held, host = _place(words)
    command = str(ask(held, "enter", node=host)["command"])
    if only_print:
        click.echo(command)
        return
    program = program_of(context)
    if not program:
        click.echo(f"{host} of lab {held.name}; from another terminal: {command}", err=True)
    context.exit(_run(held, host, program or (os.environ.get("SHELL", "sh"),)))


@click.command("exec", cls=WithCommand)
@click.argument("words", nargs=-1, required=True, metavar="[LAB] HOST")
@click.pass_context
def exec_command(context: click.Context, /, words: tuple[str, ...]) -> None:
    """Run PROGRAM in HOST of a lab that is up, with our input and output; the exit status is its."""
    program = program_of(context)
    if not program:
        raise click.UsageError("write the program at the end, after --")
    held, host = _place(words)
    context.exit(_run(held, host, program))


@click.command("do", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, metavar="[LAB] VERB [ARGUMENT...]")
def do_command(words: tuple[str, ...]) -> None:
    """Do a verb to a lab that is up: laptop.link.down, laptop.replug hotspot, laptop.link.condition delay=0.1.

    Arguments are written as in a scenario file, in order or as name=value. Prints what happened.
    """
    names = [held.name for held in places.labs()]
    lab = words[0] if words[0] in names and len(words) > 1 else None
    verb, *given = words[1:] if lab else words
    named = {word.partition("=")[0]: _value(word.partition("=")[2]) for word in given if _is_named(word)}
    in_order = [_value(word) for word in given if not _is_named(word)]
    answer = ask(places.find(lab), "verb", verb=verb, args=in_order, kwargs=named)
    for text in answer["events"]:
        click.echo(text)


@click.command("events")
@click.argument("lab", required=False)
@click.option("--follow", is_flag=True, help="Go on until the lab is down.")
@click.option("--json", "as_json", is_flag=True, help="An object per line.")
def events_command(lab: str | None, follow: bool, as_json: bool) -> None:
    """Show what happened in a lab that is up; times count from its building."""
    show = Show(as_json=as_json, to_stdout=True)
    show.zero = 0.0
    with Visitor(places.find(lab)) as visitor:
        for event in visitor.events(follow=follow):
            show.line(event["time"], event["kind"], event["node"], event["text"], event["data"])


@click.command("save")
@click.argument("lab", required=False)
@click.option(
    "--to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of stdout."
)
def save_command(lab: str | None, to: Path | None) -> None:
    """Write a lab that is up as a scenario file: its network, and what was done to it, when."""
    text = str(ask(places.find(lab), "save")["text"])
    if to is None:
        click.echo(text, nl=False)
    else:
        to.write_text(text, encoding="utf-8")


def _place(words: tuple[str, ...]) -> tuple[Held, str]:
    if len(words) > 2:
        raise click.UsageError("too many words: [LAB] HOST, then -- and a program")
    return places.find(words[0] if len(words) == 2 else None), words[-1]


def _run(held: Held, host: str, program: tuple[str, ...]) -> int:
    with Visitor(held) as visitor:
        if on_terminal():

            def begin(terminal: int) -> int:
                visitor.start(host, program, (terminal,) * 3, terminal=True)
                return visitor.fileno()

            attach(begin)
        else:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, _pass_on(visitor))
            fds = (sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno())
            visitor.start(host, program, fds)
        status = int(visitor.answer()["status"])
    return status if status >= 0 else SIGNALLED - status


def _pass_on(visitor: Visitor) -> Any:
    def handle(number: int, _frame: FrameType | None) -> None:
        visitor.signal(number)

    return handle


def _is_named(word: str) -> bool:
    name, equals, _value = word.partition("=")
    return bool(equals) and name.isidentifier()


def _value(text: str) -> Any:
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise click.UsageError(f"{text!r}: {error}") from None
