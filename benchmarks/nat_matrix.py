"""Who can be punched: every NAT kind of the lab dials every other through a relay; writes docs/nat-matrix.md.

``python benchmarks/nat_matrix.py [--repeat 5] [--json] [--grid FILE] [--no-write]``

Each run is a lab of its own: two hosts behind a NAT each, a relay elsewhere, IPv4 alone (IPv6 needs no punching). The
client knows the server's key and relay, nothing else. Counted is the time from ``connect()`` until both sides send
payload straight to each other. A 4 KB echo with checked content runs over the path that was found.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

from iroh_py import Endpoint, NodeAddr
from iroh_py.events import Event, PathChanged
from netns_fixtures import Lab
from netns_fixtures.grid import Results, Run, Value, results_page
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.grid.about import commit
from pytest_iroh.relays import Relays

KINDS = ("none", "open", "moderate", "strict")
#: Round trips between client and server, in seconds: a lab without delay, and a usual one.
TRIPS = (0.0, 0.04)
#: Seconds after which a pair counts as relayed: upstream's limit for its NAT matrix, divided by five.
PATIENCE = 3.0
TARGET = Path(__file__).parent.parent / "docs" / "nat-matrix.md"
DATA = bytes(range(256)) * 16


@dataclass
class Pair:
    """What was measured for one pair of NATs at one round trip, in seconds; None where it stayed relayed."""

    client: str
    server: str
    trip: float
    connected: list[float] = field(default_factory=list)
    direct: list[float | None] = field(default_factory=list)

    @property
    def median(self) -> float | None:
        """Median time to direct; None unless every run became direct."""
        times = [seconds for seconds in self.direct if seconds is not None]
        return statistics.median(times) if len(times) == len(self.direct) else None

    def __str__(self) -> str:
        times = [seconds * 1000 for seconds in self.direct if seconds is not None]
        if not times:
            return "relayed"
        ms = f"{statistics.median(times):.0f} ms ({min(times):.0f}..{max(times):.0f})"
        return ms if len(times) == len(self.direct) else f"{len(times)} of {len(self.direct)}: {ms}"


def when_direct(endpoint: Endpoint) -> asyncio.Future[float]:
    """The time at which an endpoint's payload first goes straight to its peer."""
    future: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def look(event: Event) -> None:
        if isinstance(event, PathChanged) and event.path and not event.relayed and not future.done():
            future.set_result(time.monotonic())

    endpoint.on_event(look)
    return future


async def measure(pair: Pair, endpoints: Endpoints, relays: Relays) -> None:
    """One run in a new lab."""
    with Lab() as lab:
        quarter = pair.trip / 4  # a way between two hosts crosses both of their uplinks
        hosts = [
            lab.host(name, uplink=lab.router(f"{name}-nat", nat=nat, ipv6=False), delay=quarter)
            for name, nat in (("client", pair.client), ("server", pair.server))
        ]
        relay = relays(lab.host("relay", uplink=lab.router("dc", ipv6=False)))
        server = await endpoints.bind_echo(hosts[1], config=relay.config())
        client = await endpoints.bind(hosts[0], config=relay.config())
        await server.online()
        await client.online()
        both = asyncio.gather(when_direct(client), when_direct(server))
        began = time.monotonic()
        connection = await client.connect(NodeAddr(server.node_id, relay_url=relay.url), ECHO_ALPN)
        pair.connected.append(time.monotonic() - began)
        try:
            pair.direct.append(max(await asyncio.wait_for(both, PATIENCE)) - began)
        except TimeoutError:
            pair.direct.append(None)
        assert await echo(connection, DATA) == DATA
        if pair.direct[-1] is None:
            assert connection.path.relayed, connection.path
        await endpoints.aclose()


def run_pair(pair: Pair) -> None:
    """One run with endpoints and a relay of its own, closed whatever happens."""
    relays, endpoints = Relays("matrix"), Endpoints()
    try:
        asyncio.run(measure(pair, endpoints, relays))
    finally:
        relays.close()
        endpoints.close()


def page(pairs: list[Pair], repeat: int) -> str:
    """The whole of docs/nat-matrix.md."""
    lines = [
        "# NAT by NAT: who goes direct, and how soon",
        "",
        "Written by `python benchmarks/nat_matrix.py`; do not edit. Two hosts behind a NAT each, IPv4",
        "alone; the client knows the server's key and relay and nothing else, so every pair starts",
        "relayed. Milliseconds from",
        "`connect()` until **both** sides send payload straight to each other: median (fastest..slowest) of",
        f"{repeat} runs. *Relayed*: no direct path within {PATIENCE:g} s, and data flows over the relay. A row dials,",
        "a column is dialled, so every unequal pair stands here in both roles. Between strict and moderate the port is",
        "guessed (port prediction), which takes luck; between strict and strict it cannot be.",
    ]
    for trip in sorted({pair.trip for pair in pairs}):
        of_trip = {(pair.client, pair.server): pair for pair in pairs if pair.trip == trip}
        lines += [
            "",
            f"## Round trip {trip * 1000:g} ms",
            "",
            "| dials \\ is dialled | " + " | ".join(KINDS) + " |",
        ]
        lines.append("|---" * (len(KINDS) + 1) + "|")
        lines += [f"| **{a}** | " + " | ".join(str(of_trip[a, b]) for b in KINDS) + " |" for a in KINDS]
        lines += ["", f"All pairs: {connected(list(of_trip.values()))}."]
    return "\n".join(lines) + "\n"


def grids(pairs: list[Pair]) -> Results:
    """The same as grids of results: a page, and a file for ``netns-lab compare``."""
    found = Results(
        commit(Path(__file__).parent) | {"kernel": platform.release(), "machine": platform.node()}
    )
    for pair in pairs:
        grid = found.grid(f"NAT by NAT, round trip {pair.trip * 1000:g} ms", "dials", "is dialled")
        cell = grid.cell(pair.client, pair.server)
        for direct, connected in zip(pair.direct, pair.connected, strict=True):
            first = Value("relayed") if direct is None else Value("direct", direct)
            values = (first, Value("connected", connected))
            cell.runs.append(Run("benchmarks/nat_matrix.py", "passed", values=values))
    return found


def connected(pairs: list[Pair]) -> str:
    """How long connect() took."""
    times = [seconds * 1000 for pair in pairs for seconds in pair.connected]
    return f"connected after {statistics.median(times):.0f} ms ({min(times):.0f}..{max(times):.0f})"


@click.command(help=__doc__)
@click.option("--repeat", default=5, show_default=True, help="Runs per pair and round trip.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON.")
@click.option("--grid", type=click.Path(path_type=Path), help="Write a page here, and JSON beside it.")
@click.option("--write/--no-write", default=True, show_default=True, help=f"Write {TARGET.name}.")
def main(repeat: int, as_json: bool, grid: Path | None, write: bool) -> None:
    pairs = [Pair(a, b, trip) for trip in TRIPS for a in KINDS for b in KINDS]
    for _ in range(repeat):  # in rounds, so that a busy moment of the machine hits no single pair
        for pair in pairs:
            run_pair(pair)
    if write:
        TARGET.write_text(page(pairs, repeat))
    if grid is not None:
        found = grids(pairs)
        found.save(grid.with_suffix(".json"))
        grid.with_suffix(".html").write_text(results_page(found))
    if as_json:
        rows = [
            {"client": p.client, "server": p.server, "rtt": p.trip, "connected": p.connected} for p in pairs
        ]
        click.echo(json.dumps([row | {"direct": p.direct} for row, p in zip(rows, pairs, strict=True)]))
    else:
        click.echo(page(pairs, repeat))


if __name__ == "__main__":
    main()
