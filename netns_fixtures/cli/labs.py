"""``netns-lab up``, ``list`` and ``down``: labs that stay up until somebody brings them down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from netns_fixtures.cli.main import Failed
from netns_fixtures.cli.running import ENGINE, FILE
from netns_fixtures.holding import places
from netns_fixtures.holding.places import Held
from netns_fixtures.scenario import load_scenario

# Where this package is imported from, so that the holder finds the very same one.
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


@click.command("up")
@FILE
@click.option("--name", metavar="NAME", help="What other commands call it; default: the name of FILE.")
@click.option("--detach", is_flag=True, help="Return when the lab is up; 'netns-lab down' ends it.")
@click.option("--play", is_flag=True, help="Play the timeline of FILE once.")
@ENGINE
def up_command(file: Path, name: str | None, detach: bool, play: bool, link_engine: str | None) -> None:
    """Build the network of FILE, start its programs, and keep it up: until Ctrl-C, or 'netns-lab down'."""
    name = places.check_name(name or re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem)[:40].lstrip(".-") or "lab")
    scenario = load_scenario(file)
    if detach:
        _detach(name, file.resolve(), play, link_engine)
        click.echo(name)
        return
    from netns_fixtures.cli.showing import Show
    from netns_fixtures.holding.holder import Holder

    holder = Holder(scenario, name, str(file.resolve()), link_engine)
    show = Show()
    holder.lab.on_event(show.event)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: holder.stop())

    def ready(held: Held) -> None:
        show.zero = holder.lab.events[0].time
        click.echo(f"lab {held.name} is up: netns-lab shell {held.name} {' or '.join(held.hosts[:3])}")

    holder.run(ready, play=play)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_command(as_json: bool) -> None:
    """Show the labs that are up."""
    there = places.labs()
    if as_json:
        click.echo(json.dumps([asdict(held) for held in there], indent=2))
        return
    if not there:
        click.echo("no lab is up", err=True)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "age", "pid", "hosts", "file"):
        table.add_column(heading, overflow="fold")
    for held in there:
        hosts = ", ".join(held.hosts)
        table.add_row(held.name, age(time.time() - held.since), str(held.pid), hosts, held.file)
    Console(highlight=False).print(table)


@click.command("down")
@click.argument("lab", required=False)
@click.option("--all", "everything", is_flag=True, help="All labs that are up.")
def down_command(lab: str | None, everything: bool) -> None:
    """Bring a lab down: all its programs and networks end. LAB may be left out where there is only one."""
    from netns_fixtures.holding.visitor import take_down

    if lab is not None and everything:
        raise click.UsageError("LAB and --all exclude each other")
    for held in places.labs() if everything else [places.find(lab)]:
        take_down(held)
        click.echo(f"{held.name} is down")


def age(seconds: float) -> str:
    """A duration for people, in its two largest units."""
    whole = max(0, int(seconds))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        if whole >= size or parts or unit == "s":
            parts.append(f"{whole // size} {unit}")
        whole %= size
    return " ".join(parts[:2])


def _detach(name: str, file: Path, play: bool, link_engine: str | None) -> None:
    if any(held.name == name for held in places.labs()):
        raise places.is_up_already(name)  # before its log is touched
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    log = places.directory() / f"{name}{places.LOG}"
    path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        words = (str(write_end), "play" if play else "hold", name, str(file), *filter(None, (link_engine,)))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "netns_fixtures.holding", *words],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(write_end,),
            start_new_session=True,
        )
    os.close(write_end)
    with open(read_end, "rb") as answer:
        said = answer.read()
    if not said:
        status = process.wait()
        words_said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
        raise Failed(f"the process that should hold the lab ended with status {status}: {words_said[-1]}")
    told = json.loads(said)
    if "error" in told:
        process.wait()
        raise Failed(told["error"])
    # It lives on, in a session of its own; this object must not complain that nobody waits for it.
    process.returncode = 0
