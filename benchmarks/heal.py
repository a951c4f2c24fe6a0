"""How long until data flows again: our endpoints, the official iroh 0.35.0, and one against the other, in one lab.

``python benchmarks/heal.py [--json] [--repeat 5] [--only NAME] [--sides ours,official,mixed] [--rtt 0 --rtt 40]``

A message goes every 20 ms over one stream and is echoed. Measured is the time from the beginning of the change (before
the kernel's work, so that it counts) to the first echo of a message that was sent after it: no byte that was under way
when the network changed can count, and the wait for the next message counts too. After an outage nothing is under way,
so there the first byte counts, and the echo of a new message (which has to wait for all that piled up) stands beside it
as "round trip". Ours run first, one after the other
(outages a little apart); the official ones wait for seconds without using the machine, so theirs run side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from iroh_py import Connection, Endpoint, IrohError, NodeAddr
from iroh_py.events import PathChanged
from netns_fixtures import Host, Lab, Router
from pytest_iroh import ECHO_ALPN, serve_echo
from pytest_iroh.official import OfficialError, OfficialPeer
from pytest_iroh.pulse import ConnectionPulse

OFFICIAL = "0.35.0"
#: Seconds after which a run counts as dead: the official idle timeout is 30 s.
PATIENCE = 35.0
#: Seconds between the beginnings of our runs that go on side by side: a verb of one must not hold up another.
STAGGER = 0.9
#: Scenarios of the others that go on side by side.
PARALLEL = 2


@dataclass
class World:
    """One lab with a client and a server."""

    lab: Lab
    client: Host
    server: Host
    home: Router
    hotspot: Router
    plain: Router
    centre: Router
    delay: float


Change = Callable[[World], Awaitable[float]]


@dataclass(frozen=True)
class Scenario:
    """A named change, the client's uplinks, and what is promised: round trips and seconds beside them."""

    name: str
    change: Change
    uplinks: tuple[str, ...] = ("plain",)
    trips: float = 1.0
    extra: float = 0.05
    idle: bool = False
    outage: bool = False
    #: The end whose link has the delay: the one that stays. A changed end asks for its neighbours anew, and over a slow
    #: link that costs a round trip which no real local network has.
    stays: str = "server"


def verb(act: Callable[[World], None]) -> Change:
    """A change that is one call."""

    async def change(w: World) -> float:
        began = time.monotonic()
        act(w)
        return began

    return change


def link_down(seconds: float) -> Change:
    async def change(w: World) -> float:
        w.client.link.down()
        await asyncio.sleep(seconds)
        began = time.monotonic()
        w.client.link.up()
        return began

    return change


def black_hole(seconds: float) -> Change:
    async def change(w: World) -> float:
        w.server.link.condition(loss=1.0, delay=w.delay)
        await asyncio.sleep(seconds)
        began = time.monotonic()
        w.server.link.condition(loss=0.0, delay=w.delay)
        return began

    return change


SCENARIOS = [
    Scenario("client renumbers", verb(lambda w: w.client.renumber())),
    Scenario(
        "client switches uplink", verb(lambda w: w.client.interface("wlan0").down()), ("plain", "hotspot")
    ),
    Scenario(
        "first interface loses its carrier",
        verb(lambda w: w.client.interface("wlan0").carrier(False)),
        ("plain", "hotspot"),
        extra=0.1,
    ),
    Scenario("client moves behind a NAT", verb(lambda w: w.client.replug(w.home))),
    Scenario("server renumbers", verb(lambda w: w.server.renumber()), stays="client"),
    Scenario("NAT rebinds: new port", verb(lambda w: w.home.nat.rebind()), ("home",)),
    Scenario("NAT rebinds: new address", verb(lambda w: w.home.nat.rebind(address=True)), ("home",)),
    Scenario("NAT rebinds while idle", verb(lambda w: w.home.nat.rebind()), ("home",), extra=5.0, idle=True),
    *(Scenario(f"link down {s} s", link_down(s), trips=2.0, outage=True) for s in (3, 10, 30)),
    *(Scenario(f"black hole {s} s", black_hole(s), trips=2.0, extra=1.0, outage=True) for s in (3, 10, 25)),
]


def build(scenario: Scenario, rtt: float) -> World:
    """A lab for one run."""
    lab = Lab(name="bench")
    delay = rtt / 2
    delays = {"client": 0.0, "server": 0.0, scenario.stays: delay}
    home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
    plain, centre = lab.router("plain"), lab.router("centre")
    routers = {"home": home, "hotspot": hotspot, "plain": plain}
    if len(scenario.uplinks) == 1:
        client = lab.host("client", uplink=routers[scenario.uplinks[0]], delay=delays["client"])
    else:
        client = lab.host(
            "client",
            uplink=dict(zip(("wlan0", "wwan0"), map(routers.__getitem__, scenario.uplinks), strict=True)),
        )
    server = lab.host("server", uplink=centre, delay=delays["server"])
    lab.build()
    if scenario.name.startswith("black"):
        server.link.condition(delay=delay, loss=0.0)
    return World(lab, client, server, home, hotspot, plain, centre, delay)


def v4_only(addr: NodeAddr) -> NodeAddr:
    """All runs use IPv4, so that a second family does not hide what happens to the first."""
    return NodeAddr(addr.node_id, direct_addresses=[a for a in addr.direct_addresses if ":" not in a[0]])


@contextlib.asynccontextmanager
async def our_endpoint(host: Host) -> AsyncIterator[Endpoint]:
    endpoint = await Endpoint.bind(network=host, alpns=[ECHO_ALPN], bind=[("0.0.0.0", 0)])
    service = asyncio.create_task(serve_echo(endpoint))
    try:
        yield endpoint
    finally:
        await endpoint.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


@dataclass(frozen=True)
class Healed:
    """Seconds from the change to the first byte, and to the echo of a message sent after it."""

    first_byte: float
    round_trip: float


async def heal(connection: Connection, scenario: Scenario, w: World) -> Healed | None:
    """Run the change under our own client; None if the connection died."""
    pulse = ConnectionPulse(connection)
    await pulse.start(PATIENCE)
    await asyncio.sleep(1.0)
    began = await scenario.change(w)
    changed = time.monotonic()
    answer = await pulse.wait_answer(changed, PATIENCE)
    if answer is not None:
        await pulse.finish()
        if pulse.error is not None or pulse.bytes_lost:
            raise RuntimeError(
                f"{scenario.name}: the stream is broken: {pulse.error}, {pulse.bytes_lost} lost"
            )
    await pulse.stop()
    if answer is None:
        return None
    first = pulse.beats.first_byte(began) if scenario.outage else answer
    return Healed((first or answer) - began, answer - began)


async def idle_heal(server: Endpoint, change: Callable[[], Awaitable[float]]) -> Healed | None:
    """How long until the server, to which nobody sends, has proven the client's new address."""
    moved = asyncio.Event()
    end = server.on_event(lambda event: moved.set() if isinstance(event, PathChanged) else None)
    began = await change()
    try:
        async with asyncio.timeout(PATIENCE):
            await moved.wait()
            passed = time.monotonic() - began
            return Healed(passed, passed)
    except TimeoutError:
        return None
    finally:
        end()


async def ours(scenario: Scenario, rtt: float) -> Healed | None:
    w = build(scenario, rtt)
    try:
        async with our_endpoint(w.client) as client, our_endpoint(w.server) as server:
            async with await client.connect(v4_only(server.node_addr), ECHO_ALPN) as connection:
                if scenario.idle:
                    await asyncio.sleep(1.0)
                    return await idle_heal(server, lambda: scenario.change(w))
                return await heal(connection, scenario, w)
    finally:
        w.lab.close()


async def ticker(peer: OfficialPeer, conn: Any, scenario: Scenario, w: World) -> Healed | None:
    """Run the change under an official client."""
    await peer.aio.start_ticker(conn)
    await asyncio.sleep(1.5)
    began = await scenario.change(w)
    changed = time.monotonic()
    deadline = changed + PATIENCE
    while time.monotonic() < deadline:
        log = await peer.aio.ticker_log(conn)
        healed = log.healed_at(changed)
        if healed is not None:
            first = min((at for _, at in log.echoes if at > began), default=healed)
            return Healed((first if scenario.outage else healed) - began, healed - began)
        await asyncio.sleep(0.25)
    return None


def official_peer(host: Host) -> OfficialPeer:
    return OfficialPeer.start(OFFICIAL, popen=host.popen, name=host.name)


async def official(scenario: Scenario, rtt: float) -> Healed | None:
    w = build(scenario, rtt)
    try:
        client = await asyncio.to_thread(official_peer, w.client)
        server = await asyncio.to_thread(official_peer, w.server)
        addr = v4_only((await server.aio.listen()).node_addr())
        conn = await client.aio.dial(addr)
        return await ticker(client, conn, scenario, w)
    except OfficialError:
        return None
    finally:
        w.lab.close()


async def mixed(scenario: Scenario, rtt: float) -> Healed | None:
    """Our client, official server."""
    w = build(scenario, rtt)
    try:
        server = await asyncio.to_thread(official_peer, w.server)
        addr = v4_only((await server.aio.listen()).node_addr())
        async with our_endpoint(w.client) as client, await client.connect(addr, ECHO_ALPN) as connection:
            return await heal(connection, scenario, w)
    except (OfficialError, IrohError):
        return None
    finally:
        w.lab.close()


Run = Callable[[Scenario, float], Awaitable[Healed | None]]
Tell = Callable[["Row"], None]
SIDES: dict[str, Run] = {
    "ours": ours,
    "official": official,
    "mixed": mixed,
}


@dataclass
class Row:
    """The results of one scenario at one round-trip time."""

    scenario: str
    rtt_ms: float
    bound_ms: float
    runs: dict[str, list[Healed | None]] = field(default_factory=dict)

    def median(self, side: str, what: str = "first_byte") -> float | None:
        """Median milliseconds; None if most runs died."""
        runs = self.runs.get(side, [])
        alive = [getattr(r, what) for r in runs if r is not None]
        return statistics.median(alive) * 1000 if len(alive) * 2 > len(runs) else None

    def text(self, side: str) -> str:
        """The median and the range; for an outage the round trip too."""
        runs = self.runs.get(side)
        if not runs:
            return "-"
        alive = [r.first_byte * 1000 for r in runs if r is not None]
        dead = len(runs) - len(alive)
        median, trip = self.median(side), self.median(side, "round_trip")
        head = "dies" if median is None else f"{median:,.0f}"
        span = f" [{min(alive):,.0f}-{max(alive):,.0f}]" if alive else ""
        trips = "" if trip is None or trip == median else f", round trip {trip:,.0f}"
        return head + span + trips + (f" ({dead} of {len(runs)} die)" if dead else "")

    def as_json(self) -> dict[str, Any]:
        """Everything measured, times in milliseconds."""
        return {
            "scenario": self.scenario,
            "rtt_ms": self.rtt_ms,
            "bound_ms": self.bound_ms,
            "first_byte_ms": {side: self._all(side, "first_byte") for side in self.runs},
            "round_trip_ms": {side: self._all(side, "round_trip") for side in self.runs},
            "median_ms": {side: self.median(side) for side in self.runs},
            "median_round_trip_ms": {side: self.median(side, "round_trip") for side in self.runs},
        }

    def _all(self, side: str, what: str) -> list[float | None]:
        return [None if r is None else round(getattr(r, what) * 1000, 1) for r in self.runs[side]]


async def measure_ours(row: Row, scenario: Scenario, rtt: float, repeat: int) -> None:
    """Our runs: one after the other, those with an outage side by side but never at the same moment."""
    if not scenario.outage:
        row.runs["ours"] = [await ours(scenario, rtt) for _ in range(repeat)]
        return

    async def later(number: int) -> Healed | None:
        await asyncio.sleep(number * STAGGER)
        return await ours(scenario, rtt)

    row.runs["ours"] = list(await asyncio.gather(*map(later, range(repeat))))


async def measure_others(row: Row, scenario: Scenario, rtt: float, sides: list[str], repeat: int) -> None:
    """The runs that mostly wait: all repetitions of a side at once."""
    for side in sides:
        runs = (SIDES[side](scenario, rtt) for _ in range(repeat))
        row.runs[side] = list(await asyncio.gather(*runs))


async def measure_all(
    rows: list[Row], scenarios: list[Scenario], sides: list[str], repeat: int, tell: Tell
) -> None:
    """Fill the rows: first ours, with the machine to themselves, then the others, a few scenarios at a time."""
    pairs = list(zip(rows, scenarios, strict=True))
    if "ours" in sides:
        for row, scenario in pairs:
            await measure_ours(row, scenario, row.rtt_ms / 1000, repeat)
            tell(row)
    others = [side for side in sides if side != "ours"]
    places = asyncio.Semaphore(PARALLEL)

    async def one(row: Row, scenario: Scenario) -> None:
        async with places:
            await measure_others(row, scenario, row.rtt_ms / 1000, others, repeat)
            tell(row)

    if others:
        await asyncio.gather(*(one(r, s) for r, s in pairs if not s.idle))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--repeat", default=5, show_default=True)
@click.option("--only", default="", help="Only scenarios whose name contains this.")
@click.option("--sides", default="ours,official,mixed", show_default=True)
@click.option(
    "--rtt", "rtts", multiple=True, type=float, default=(0.0, 40.0), show_default=True, help="Milliseconds."
)
def main(as_json: bool, repeat: int, only: str, sides: str, rtts: tuple[float, ...]) -> None:
    """Measure how long connections need to heal."""
    console = Console(stderr=True, width=160)
    chosen = [scenario for scenario in SCENARIOS if only in scenario.name]
    rows = [Row(s.name, rtt, s.trips * rtt + s.extra * 1000) for rtt in rtts for s in chosen]

    def tell(row: Row) -> None:
        console.print(
            f"{row.scenario} at {row.rtt_ms:g} ms: " + "; ".join(f"{s} {row.text(s)}" for s in row.runs)
        )

    asyncio.run(measure_all(rows, chosen * len(rtts), sides.split(","), repeat, tell))
    if as_json:
        click.echo(json.dumps([row.as_json() for row in rows], indent=1))
        return
    table = Table(title="milliseconds to the first byte: median [range]")
    for column in ("event", "RTT", "bound", *sides.split(",")):
        table.add_column(column, justify="left" if column == "event" else "right")
    for row in rows:
        table.add_row(
            row.scenario, f"{row.rtt_ms:g}", f"{row.bound_ms:,.0f}", *(row.text(s) for s in sides.split(","))
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
