"""``netns-lab doctor``: what this machine can do."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from netns_fixtures.doctor import capabilities
from netns_fixtures.features import Capabilities, Feature


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Try what this machine can do, and say what helps where it cannot.

    Exit status 0 when labs run here.
    """
    found = capabilities()
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found, Console(highlight=False))
    context.exit(0 if found.ok else 1)


def _print(found: Capabilities, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "feature", "for", "remedy"):
        table.add_column(heading, overflow="fold")
    for feature in found.features:
        table.add_row(_mark(feature), feature.name, feature.what, "" if feature.ok else _advice(feature))
    console.print(table)
    how = {"root": "as root", "userns": "without root, in a user namespace"}.get(found.mode, "not at all")
    verdict = "[green]labs run here[/]" if found.ok else "[red]labs do not run here[/]"
    console.print(f"\n{verdict} (Linux {found.kernel}, {how})")


def _mark(feature: Feature) -> str:
    if feature.ok:
        return "[green]yes[/]"
    return "[red]no[/]" if feature.needed else "[yellow]no[/]"


def _advice(feature: Feature) -> str:
    return f"{feature.remedy} ({feature.detail})" if feature.detail else feature.remedy
