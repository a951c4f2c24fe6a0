"""``iroh-py key``: make and look at secret keys."""

from __future__ import annotations

from pathlib import Path

import click

from iroh_py.cli.keyfile import load_key, save_key
from iroh_py.cli.options import FILE, READABLE
from iroh_py.keys import SecretKey


@click.group(short_help="Make and show secret keys.")
def key() -> None:
    """Secret keys and their node ids."""


@key.command()
@click.argument("file", type=FILE, required=False)
@click.option("--force", is_flag=True, help="Replace the key that is there.")
def new(file: Path | None, force: bool) -> None:
    """Make a secret key, in FILE (mode 0600) or printed; the node id is printed, too."""
    made = SecretKey.generate()
    if file is None:
        click.echo(made.to_text())
        click.echo(f"node id {made.node_id}", err=True)
    else:
        save_key(file, made, force=force)
        click.echo(made.node_id)


@key.command()
@click.argument("file", type=READABLE)
@click.option("--secret", is_flag=True, help="Print the secret key itself.")
def show(file: Path, secret: bool) -> None:
    """Print the node id of the key in FILE in the forms that are in use."""
    found = load_key(file)
    if secret:
        click.echo(found.to_text())
        return
    click.echo(f"node id  {found.node_id}")
    click.echo(f"base32   {found.node_id.base32}")
    click.echo(f"z-base32 {found.node_id.z32}")
