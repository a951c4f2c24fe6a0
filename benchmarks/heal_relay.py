"""How long until data flows again with a relay beside: our endpoints and the official ones, in one lab each.

``python benchmarks/heal_relay.py [--json] [--repeat 5] [--only NAME] [--sides ours,1.2.0] [--rtt 40] [--story]``

Both peers sit behind moderate NATs (strict where it says so), IPv4 only, and use one relay, ours, over plain HTTP. RTT
is the direct round trip between the peers. Each peer's own link holds half of it and the relay's none, so the relay is
near: a peer reaches it in RTT / 2, and a message through it takes as long as a direct one. The connection begins by
node id and relay alone; the change comes when payload goes direct, or after 5 s where it does not.

A message goes every 20 ms over one stream and is echoed. *First byte* is the time from the beginning of the last verb
(so the kernel's work counts) to the first application byte that reaches the client and was not yet beyond the broken
link when the verb was done: nothing is subtracted, so every number contains its round trips. *Direct* is the time from
the same beginning until payload goes direct again; ours means both sides, an official one the client's own word and
that the relay forwards no messages any more, seen every 0.05 s. Bounds are those of issue B: (n RTT + seconds).

Ours run one after the other, but for outages; the official ones mostly wait, so their repetitions run side by side.
The official 1.2.0 learns its public address from our relay's QUIC address discovery. JSON has every run, in seconds,
and per side the medians in milliseconds (null: none lived, or went direct).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable

import click
from healing.official import official
from healing.ours import ours
from healing.outcome import Outcome
from healing.report import Row, table
from healing.scenarios import SCENARIOS, Scenario
from rich.console import Console

#: Seconds between our runs side by side: they share a process, and two that heal at once would measure each other.
STAGGER = 1.5


async def measure(
    scenario: Scenario, rtt: float, sides: list[str], repeats: dict[str, int], story: bool
) -> Row:
    bound, direct = scenario.trips * rtt + scenario.extra, None
    if scenario.direct is not None:
        direct = (scenario.direct[0] * rtt + scenario.direct[1]) * 1000
    row = Row(scenario.name, rtt * 1000, bound * 1000, direct, scenario.issue)
    for side in sides:
        repeat = range(repeats[side])
        if side != "ours":
            row.runs[side] = list(await asyncio.gather(*(official(side, scenario, rtt) for _ in repeat)))
        elif scenario.outage:
            row.runs[side] = list(
                await asyncio.gather(*(later(i * STAGGER, ours(scenario, rtt, story)) for i in repeat))
            )
        else:
            row.runs[side] = [await ours(scenario, rtt, story) for _ in repeat]
    return row


async def later(delay: float, run: Awaitable[Outcome]) -> Outcome:
    """Begin a run some seconds later."""
    await asyncio.sleep(delay)
    return await run


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--repeat", default=5, show_default=True, help="Runs of ours.")
@click.option(
    "--repeat-official", default=None, type=int, help="Runs of the others; as many as ours by default."
)
@click.option("--only", default="", help="Only scenarios whose name contains this.")
@click.option(
    "--sides", default="ours,1.2.0", show_default=True, help="ours, and versions of the official bindings."
)
@click.option("--story", is_flag=True, help="Print what our endpoints told, from the change on.")
@click.option(
    "--rtt", "rtts", multiple=True, type=float, default=(0.0, 40.0), show_default=True, help="Milliseconds."
)
def main(
    as_json: bool,
    repeat: int,
    repeat_official: int | None,
    only: str,
    sides: str,
    story: bool,
    rtts: tuple[float, ...],
) -> None:
    """Measure how long connections need to heal when there is a relay."""
    console = Console(stderr=True, width=200)
    rows: list[Row] = []
    chosen = sides.split(",")
    repeats = {side: repeat if side == "ours" else repeat_official or repeat for side in chosen}
    for rtt in rtts:
        for scenario in (s for s in SCENARIOS if only in s.name):
            row = asyncio.run(measure(scenario, rtt / 1000, chosen, repeats, story))
            rows.append(row)
            said = "; ".join(f"{s} {row.first(s)}, direct {row.direct(s)}" for s in chosen)
            console.print(f"{row.scenario} at {rtt:g} ms (bound {row.bound_ms:,.0f}): {said}")
    if as_json:
        click.echo(json.dumps([row.as_json() for row in rows], indent=1))
    else:
        Console(width=200).print(table(rows, chosen))


if __name__ == "__main__":
    main()
