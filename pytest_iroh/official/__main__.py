"""``python -m pytest_iroh.official 0.35.0 0.28.1``: make the environments ahead of the tests."""

from __future__ import annotations

import click

from pytest_iroh.official.errors import OfficialUnavailable
from pytest_iroh.official.venv import official_python


@click.command()
@click.argument("versions", nargs=-1, required=True)
def main(versions: tuple[str, ...]) -> None:
    """Install the official iroh bindings of each version into an environment of its own."""
    for version in versions:
        try:
            python = official_python(version)
        except OfficialUnavailable as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"iroh {version}: {python}")


if __name__ == "__main__":
    main(prog_name="python -m pytest_iroh.official")
