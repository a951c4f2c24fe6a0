"""The group of commands, and how they fail: one sentence, never a traceback."""

from __future__ import annotations

import signal
from typing import Any

import click

from netns_fixtures.cli.doctor import doctor
from netns_fixtures.errors import LabError

#: What a command of ours exits with that failed itself, so that it is not taken for the status of a program
#: that ran in a host (as ``timeout`` and ``docker run`` do).
FAILED = 125
#: What a shell adds to the number of a signal.
SIGNALLED = 128

_COMMANDS = {
    "run": "running",
    "replay": "running",
    "check": "running",
    "up": "labs",
    "list": "labs",
    "down": "labs",
    "shell": "inside",
    "exec": "inside",
    "do": "inside",
    "events": "inside",
    "save": "inside",
    "compare": "compare",
}


class Failed(click.ClickException):
    """A command failed; its text is one sentence."""

    exit_code = FAILED


#: click's own answer to Ctrl-C is 1, which would be taken for a program's.
_INTERRUPTED = click.exceptions.Exit(SIGNALLED + signal.SIGINT)


def _interrupted(error: BaseException | None) -> bool:
    """Whether it came of Ctrl-C: what was cut short may fail once more on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class Group(click.Group):
    """Imports a command when it is used; says what went wrong in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            import importlib

            module = importlib.import_module(f"netns_fixtures.cli.{_COMMANDS[cmd_name]}")
            command: click.Command = getattr(module, f"{cmd_name}_command")
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly then, as any program of a pipe
        except (LabError, OSError) as error:
            if _interrupted(error):
                raise _INTERRUPTED from None
            raise Failed(str(error)) from error
        except KeyboardInterrupt:
            raise _INTERRUPTED from None


class WithCommand(click.Command):
    """A command line that ends with ``-- PROGRAM ARGUMENTS``; the program is in ``ctx.meta``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        program: list[str] = []
        if "--" in args:
            at = args.index("--")
            args, program = args[:at], args[at + 1 :]
            if not program:
                raise click.UsageError("after -- comes a program", ctx)
        ctx.meta[_PROGRAM] = tuple(program)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- PROGRAM...]"]


_PROGRAM = f"{__name__}.program"


def program_of(ctx: click.Context) -> tuple[str, ...]:
    """What stands behind ``--``; empty where nothing does."""
    program: tuple[str, ...] = ctx.meta[_PROGRAM]
    return program


@click.group(cls=Group)
@click.version_option(package_name="iroh-py")
def main() -> None:
    """Small internets out of Linux network namespaces."""


main.add_command(doctor)
