"""The command ``iroh-py`` and how its failures are told: one sentence, exit status 1 or 2, no traceback."""

from __future__ import annotations

import errno
import logging
from typing import Any

import click

from iroh_py.cli.connect import connect
from iroh_py.cli.keys import key
from iroh_py.cli.listen import listen
from iroh_py.cli.netcheck import netcheck
from iroh_py.cli.relay import relay
from iroh_py.cli.ticket import ticket
from iroh_py.errors import IrohError, LocalProtocolError


class Commands(click.Group):
    """A group whose commands may raise whatever the library raises."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it raises becomes a sentence."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # click's own ways to end
        except Exception as error:
            reason = first_of(error)
            if isinstance(reason, OSError) and reason.errno == errno.EPIPE:
                raise reason from None  # whoever read our output has left: click ends without a word
            if ctx.params.get("debug"):
                raise
            if isinstance(reason, LocalProtocolError):
                raise click.UsageError(str(reason)) from error
            raise click.ClickException(sentence(reason)) from error


def first_of(error: BaseException) -> BaseException:
    """The first exception of a group: tasks that fail together mostly fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def sentence(error: BaseException) -> str:
    """An exception as one sentence for people."""
    if isinstance(error, IrohError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return f"{error.filename}: {reason}" if error.filename else reason
    return f"unexpected {type(error).__name__}: {error} ('iroh-py --debug ...' shows where)"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Log to stderr, and show where unexpected failures come from.")
@click.version_option(package_name="iroh-py")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Connections that are named by key and heal when the network changes."""
    handler: logging.Handler = logging.NullHandler()  # without one, Python prints warnings by itself
    logger = logging.getLogger()
    if debug:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        level = logger.level
        logger.setLevel(logging.DEBUG)
        context.call_on_close(lambda: logger.setLevel(level))
    logger.addHandler(handler)
    context.call_on_close(lambda: logger.removeHandler(handler))


for command in (listen, connect, netcheck, relay, key, ticket):
    main.add_command(command)
