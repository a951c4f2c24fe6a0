"""docs/cli.md names what ``iroh-py`` has: every command and every option, and none besides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from iroh_py.cli import main

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
#: Every command has these.
COMMON = {"--help"}


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def options(command: click.Command) -> set[str]:
    """Its long options, and those that switch them off."""
    return {
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }


ALL = list(commands(main))


@pytest.mark.parametrize("command", ALL, ids=lambda command: str(command.name))
def test_every_option_of_a_command_is_documented(command: click.Command) -> None:
    """Of a pair of switches one is enough, as the other one is the default."""
    for option in command.params:
        if isinstance(option, click.Option):
            names = (*option.opts, *option.secondary_opts)
            assert any(re.search(rf"{re.escape(name)}\b", TEXT) for name in names if name.startswith("--")), (
                names
            )


def test_every_documented_option_exists() -> None:
    """The document promises nothing that is not there."""
    known = set().union(*map(options, ALL), options(main), COMMON)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT)) <= known


def test_every_command_has_a_row() -> None:
    """The table at the beginning lists them all."""
    assert set(re.findall(r"^\| \[`(\w+)`\]", TEXT, re.MULTILINE)) == set(main.commands)
