"""The main job, to look at: a laptop leaves its Wi-Fi for a hotspot, and its connection heals.

``python -m pytest_iroh.demo`` (or ``ci/demo``) builds a network with three routers out of namespaces,
connects two endpoints, keeps a small message going every 20 ms, moves the laptop, and tells the story as it
happens.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from iroh_py import PING_INTERVAL, IrohError
from netns_fixtures import Lab, LabError
from pytest_iroh import DidNotHeal, Healing, heals
from pytest_iroh.endpoints import Endpoints
from pytest_iroh.timeline import Entry, Recorder

#: Seconds of calm before and after the move, so that the pulse is seen to beat.
CALM = 1.0
_COLOURS = {
    "lab": "bold magenta",
    "netmon": "yellow",
    "disco": "cyan",
    "path": "green",
    "relay": "blue",
    "payload": "bold white",
}


class Story:
    """Prints entries as they come, times relative to the move."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._zero = time.monotonic()

    def show(self, entry: Entry) -> None:
        """Print one entry."""
        line = Text(f"{entry.time - self._zero:+8.3f}  ", style="dim")
        line.append(f"{entry.part:<8} ", style=_COLOURS.get(entry.part, ""))
        line.append(f"{entry.who:<9} ", style="bold")
        line.append(entry.text)
        self._console.print(line, soft_wrap=True)

    def zero(self) -> None:
        """The move happens now: times count from here."""
        self._zero = time.monotonic()


async def run(delay: float, seed: int | None, show: Any, on_move: Any) -> Healing:
    """Build the network, connect, move, and return what happened. Raises DidNotHeal, LabError, IrohError."""
    with Recorder() as recorder, Lab(name="demo", seed=seed) as lab:
        recorder.on_entry(show)
        recorder.watch_lab(lab)
        home = lab.router("home", nat="moderate")
        hotspot = lab.router("hotspot", nat="cgnat")
        centre = lab.router("centre")
        laptop = lab.host("laptop", uplink=home)
        server = lab.host("server", uplink=centre, delay=delay / 2)
        lab.build()
        endpoints = Endpoints(recorder)
        try:
            async with endpoints.connect(laptop, server) as connection:
                async with heals(connection, within=PING_INTERVAL, lab=lab) as healing:
                    await asyncio.sleep(CALM)
                    on_move()
                    laptop.replug(hotspot)
                return healing
        finally:
            await endpoints.aclose()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object and nothing else.")
@click.option(
    "--rtt", default=40.0, show_default=True, help="Round-trip time between the routers, milliseconds."
)
@click.option("--seed", type=int, default=None, help="Seed of the lab (default: drawn).")
def main(as_json: bool, rtt: float, seed: int | None) -> None:
    """Move a laptop from its Wi-Fi to a hotspot and see its connection heal.

    The exit status is 0 only if it healed within the ping interval of 5 s and nothing was lost.
    """
    console = Console(quiet=as_json, highlight=False)
    story = Story(console)
    console.print(Text("laptop -- home (NAT) ----------.", style="dim"))
    console.print(Text("                                internet -- centre -- server", style="dim"))
    console.print(Text("     `..-- hotspot (CGNAT) ----'", style="dim"))
    try:
        healing = asyncio.run(run(rtt / 1000, seed, story.show, story.zero))
    except (DidNotHeal, LabError, IrohError) as error:
        if as_json:
            click.echo(json.dumps({"healed": False, "error": f"{type(error).__name__}: {error}"}))
        else:
            console.print(Text(f"error: {error}", style="bold red"))
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(healing.as_dict()))
    else:
        console.print(summary(healing))
    sys.exit(0 if healing.healed else 1)


def summary(healing: Healing) -> Text:
    """The result for people."""
    assert healing.seconds is not None
    text = Text("\nhealed ", style="bold green")
    text.append(f"in {healing.seconds * 1000:.0f} ms", style="bold")
    text.append(f" after {healing.cause}\n", style="bold")
    text.append(f"  path before  {healing.path_before}\n")
    text.append(f"  path after   {healing.path_after} ({'direct' if healing.direct else 'relayed'})\n")
    text.append(f"  payload      {healing.messages} messages came back, {healing.bytes_lost} bytes lost\n")
    text.append(f"  lab          {healing.link_engine} engine, seed {healing.seed}")
    return text


if __name__ == "__main__":
    main()
