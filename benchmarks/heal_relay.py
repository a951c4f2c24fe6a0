"""How long until data flows again with a relay beside: our endpoints and the official ones, in one lab each.

``python benchmarks/heal_relay.py [--json] [--repeat 5] [--only NAME] [--sides ours,1.2.0] [--rtt 40] [--story]``

Both peers sit behind moderate NATs (strict where it says so), IPv4 only, and use one relay, ours, over plain HTTP. RTT
is the direct round trip between the peers. Each peer's own link holds half of it and the relay's none, so the relay is
near: a peer reaches it in RTT / 2, and a message through it takes as long as a direct one. The connection begins by
node id and relay alone; the change comes when payload goes direct, or after 5 s where it does not.

A message goes every 20 ms over one stream and is echoed. *First byte* is the time from the beginning of the last verb
(so the kernel's work counts) to the first application byte that reaches the client and was not yet beyond the broken
link when the verb was done: nothing is subtracted, so every number contains its round trips. *Direct* is the time from
the same beginning until payload goes direct again; ours means both sides, an official one the client's own word, asked
every 0.1 s. Bounds are those of issue B: (n RTT + seconds) for both.

Ours run one after the other, but for outages; the official ones mostly wait, so their repetitions run side by side.
The official 1.2.0 learns its public address from a relay's QUIC address discovery only, which ours has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field

import click
from rich.console import Console
from rich.table import Table

from iroh_py import Connection, Endpoint, IrohError, NodeAddr
from iroh_py.events import Event, PathChanged, PathProven
from netns_fixtures import Host, Lab, Router
from pytest_iroh import ECHO_ALPN, Recorder, serve_echo
from pytest_iroh.official import ConnectionId, OfficialAddr, OfficialError, OfficialPeer
from pytest_iroh.pulse import ConnectionPulse
from pytest_iroh.relays import Relays, RunningRelay

#: Seconds after which a run counts as dead: the official idle timeout is 30 s.
PATIENCE = 45.0
#: Seconds that a connection gets to go direct before the change, and again after it.
DIRECT_TIMEOUT = 5.0
DIRECT_AGAIN_TIMEOUT = 10.0
#: Seconds of undisturbed messages before the change: start-up reports and probes are over by then.
CALM = 2.0
#: Seconds in which a loop reads what the kernel had before the change; below the 20 ms between two messages.
STALE = 0.005
#: Seconds between our runs side by side: they share a process, and two that heal at once would measure each other.
STAGGER = 1.5
#: Seconds between two questions to an official peer.
ASK_INTERVAL = 0.1


@dataclass
class World:
    """One lab with a client, a server, a relay, and a second uplink for each peer."""

    lab: Lab
    client: Host
    server: Host
    home: Router
    other_home: Router
    other_office: Router
    relays: Relays
    relay: RunningRelay
    rtt: float

    def close(self) -> None:
        """End the relay, then the lab."""
        self.relays.close()
        self.lab.close()


@dataclass(frozen=True)
class Moment:
    """When the last verb of a change began and was done, and from when on a byte at the client counts."""

    began: float
    done: float
    since: float


Change = Callable[[World], Awaitable[Moment]]


@dataclass(frozen=True)
class Scenario:
    """A named change, what is promised (round trips, seconds), and what the issue says of 1.2.0 at 0 and 40 ms.

    ``change`` None: the connection itself is measured.
    """

    name: str
    change: Change | None
    trips: float
    extra: float
    direct: tuple[float, float] | None = (2.0, 2.0)
    nat: str = "moderate"
    client_uplinks: int = 1
    outage: bool = False
    issue: str = "-"


@dataclass
class Outcome:
    """Seconds to the first byte (None: dead) and to the direct path (None: not within 10 s), and the path before.

    ``verb``: seconds that the lab needed for the last verb, contained in both.
    """

    first: float | None = None
    direct: float | None = None
    before: str = "none"
    verb: float = 0.0


def verb(act: Callable[[World], None], *, wire: bool = False) -> Change:
    """A change that is one call; with ``wire`` the client's own link still delivers what is on it."""

    async def change(w: World) -> Moment:
        began = time.monotonic()
        await asyncio.to_thread(act, w)
        done = time.monotonic()
        return Moment(began, done, done + STALE + (w.rtt / 4 if wire else 0.0))

    return change


def gap(break_it: Callable[[World], None], seconds: float, mend: Callable[[World], None]) -> Change:
    """A change with an outage; measured from the beginning of its end."""

    async def change(w: World) -> Moment:
        await asyncio.to_thread(break_it, w)
        await asyncio.sleep(seconds)
        began = time.monotonic()
        await asyncio.to_thread(mend, w)
        return Moment(began, time.monotonic(), since=began)

    return change


def _unplug(w: World) -> None:
    w.client.link.down()
    w.client.replug(w.other_home)


def _both_move(w: World) -> None:
    w.client.replug(w.other_home)
    w.server.replug(w.other_office)


def _link_down(seconds: float) -> Change:
    return gap(lambda w: w.client.link.down(), seconds, lambda w: w.client.link.up())


def _relay_gone(seconds: float) -> Change:
    return gap(lambda w: w.relay.kill(), seconds, lambda w: w.relay.start())


SCENARIOS = [
    Scenario("first connection through the relay", None, 5, 0.1, (3.0, 1.0)),
    Scenario(
        "client moves to another NAT uplink",
        verb(lambda w: w.client.replug(w.other_home)),
        4,
        0.15,
        issue="340 / 2,100",
    ),
    Scenario(
        "client's first of two uplinks goes down",
        verb(lambda w: w.client.interface("wlan0").down()),
        4,
        0.15,
        client_uplinks=2,
        issue="340 / 2,100",
    ),
    Scenario(
        "new uplink comes up 1 s later",
        gap(_unplug, 1.0, lambda w: w.client.link.up()),
        4,
        0.15,
        issue="4,500",
    ),
    Scenario("both sides renumber at once", verb(_both_move), 5, 0.15, issue="340 / 2,000"),
    Scenario(
        "client link down 10 s", _link_down(10), 4, 0.2, outage=True, issue="8,800 / 11,000, 2 of 5 die"
    ),
    Scenario(
        "client link down 30 s", _link_down(30), 4, 0.2, outage=True, issue="8,800 / 11,000, 2 of 5 die"
    ),
    Scenario(
        "silent NAT rebind while sending",
        verb(lambda w: w.home.nat.rebind(), wire=True),
        2,
        0.1,
        issue="20 to 9,000",
    ),
    *(
        Scenario(
            f"relay gone for {seconds} s, both strict",
            _relay_gone(seconds),
            3,
            1.0,
            None,
            nat="strict",
            outage=True,
            issue="several s",
        )
        for seconds in (2, 10)
    ),
]


def build(scenario: Scenario, rtt: float) -> World:
    """A lab with a running relay for one run."""
    lab = Lab(name="bench")
    names = ("home", "other_home", "office", "other_office")
    home, other_home, office, other_office = (
        lab.router(name.replace("_", "-"), nat=scenario.nat, ipv6=False) for name in names
    )
    near = lab.host("relay", uplink=lab.router("dc", ipv6=False))
    uplinks = {"wlan0": home} if scenario.client_uplinks == 1 else {"wlan0": home, "wwan0": other_home}
    client = lab.host("client", uplink=uplinks, delay=rtt / 4)
    server = lab.host("server", uplink=office, delay=rtt / 4)
    relays = Relays()
    try:
        lab.build()
        relay = relays(near)
    except BaseException:
        relays.close()
        lab.close()
        raise
    return World(lab, client, server, home, other_home, other_office, relays, relay, rtt)


class Way:
    """Since when an endpoint's payload goes direct, and when a pong last proved that it does."""

    def __init__(self, endpoint: Endpoint, news: asyncio.Event) -> None:
        self.direct_since: float | None = None
        self.proven_at = 0.0
        self._news = news
        endpoint.on_event(self._note)

    def _note(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, PathChanged):
            self.direct_since = now if event.path and not event.relayed else None
        elif isinstance(event, PathProven):
            self.proven_at = now
        self._news.set()


class Ways:
    """Both sides' ways."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self._news = asyncio.Event()
        self._ways = [Way(endpoint, self._news) for endpoint in endpoints]

    async def direct_at(self, since: float, timeout: float) -> float | None:
        """When both sides were direct with at least one of them proven after ``since``; None: never in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while (at := self._direct(since)) is None:
                    self._news.clear()
                    await self._news.wait()
                return at
        return None

    def _direct(self, since: float) -> float | None:
        begun = [way.direct_since for way in self._ways if way.direct_since is not None]
        proven = [at for at in (*begun, *(way.proven_at for way in self._ways)) if at >= since]
        if len(begun) < len(self._ways) or not proven:
            return None
        return max(*begun, min(proven))


@contextlib.asynccontextmanager
async def our_endpoint(host: Host, relay: RunningRelay, recorder: Recorder) -> AsyncIterator[Endpoint]:
    """One of our endpoints that is reachable through the relay, and echoes."""
    endpoint = await Endpoint.bind(
        network=host, alpns=[ECHO_ALPN], bind=[("0.0.0.0", 0)], config=relay.config()
    )
    recorder.watch_endpoint(endpoint, host.name)
    service = asyncio.create_task(serve_echo(endpoint))
    try:
        await endpoint.online()
        yield endpoint
    finally:
        await endpoint.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


async def ours(scenario: Scenario, rtt: float, story: bool) -> Outcome:
    """One run of our endpoints."""
    w = await asyncio.to_thread(build, scenario, rtt)
    recorder = Recorder()
    zero, outcome = time.monotonic(), Outcome()
    try:
        recorder.watch_lab(w.lab)
        async with our_endpoint(w.client, w.relay, recorder) as client:
            async with our_endpoint(w.server, w.relay, recorder) as server:
                await asyncio.sleep(CALM)
                zero, outcome = await our_run(scenario, w, client, server)
                return outcome
    except IrohError as error:
        click.echo(f"{scenario.name}: {error!r}", err=True)
        return outcome
    finally:
        recorder.stop()
        await asyncio.to_thread(w.close)
        if story:
            told = [entry.line(zero) for entry in recorder.entries if entry.time >= zero - 0.1]
            click.echo("\n".join([f"--- {scenario.name}, {rtt * 1000:g} ms: {outcome}", *told]), err=True)


async def our_run(scenario: Scenario, w: World, client: Endpoint, server: Endpoint) -> tuple[float, Outcome]:
    """Connect, and change the network; returns what was measured and the time that it counts from."""
    ways = Ways(client, server)
    began = time.monotonic()
    async with await client.connect(NodeAddr(server.node_id, relay_url=w.relay.url), ECHO_ALPN) as connection:
        pulse = ConnectionPulse(connection)
        await pulse.start(PATIENCE)
        if scenario.change is None:
            direct = await ways.direct_at(began, DIRECT_AGAIN_TIMEOUT)
            outcome = Outcome(pulse.beats.byte_times()[0] - began, direct and direct - began)
        else:
            if scenario.direct is not None:
                await ways.direct_at(began, DIRECT_TIMEOUT)
            await asyncio.sleep(CALM)
            began, outcome = await our_healing(scenario.change, w, connection, pulse, ways)
        await pulse.finish()
        if outcome.first is not None and (pulse.error is not None or pulse.bytes_lost):
            raise RuntimeError(
                f"{scenario.name}: the stream is broken: {pulse.error}, {pulse.bytes_lost} lost"
            )
        await pulse.stop()
        return began, outcome


async def our_healing(
    change: Change, w: World, connection: Connection, pulse: ConnectionPulse, ways: Ways
) -> tuple[float, Outcome]:
    outcome = Outcome(before="direct" if connection.path.direct else "relay")
    moment = await change(w)
    outcome.verb = moment.done - moment.began
    answer = await pulse.wait_answer(moment.since, PATIENCE)
    first = pulse.beats.first_byte(moment.since)
    if answer is None or first is None:
        return moment.began, outcome
    outcome.first = first - moment.began
    if outcome.before == "direct":
        direct = await ways.direct_at(moment.since, DIRECT_AGAIN_TIMEOUT)
        outcome.direct = direct and direct - moment.began
    return moment.began, outcome


async def official(version: str, scenario: Scenario, rtt: float) -> Outcome:
    """One run of an official client and server through our relay."""
    w = await asyncio.to_thread(build, scenario, rtt)
    try:
        client, server = await asyncio.gather(
            *(asyncio.to_thread(official_peer, version, host, w.relay) for host in (w.client, w.server))
        )
        await server.aio.listen()
        await asyncio.gather(*(has_relay(peer) for peer in (client, server)))
        began = time.monotonic()
        conn = await client.aio.dial(OfficialAddr(server.node_id, w.relay.url))
        await client.aio.start_ticker(conn)
        return await official_run(scenario, w, client, conn, began)
    except OfficialError as error:
        click.echo(f"{scenario.name}, {version}: {str(error).splitlines()[0]}", err=True)
        return Outcome()
    finally:
        await asyncio.to_thread(w.close)  # its processes end with the lab


def official_peer(version: str, host: Host, relay: RunningRelay) -> OfficialPeer:
    return OfficialPeer.start(version, popen=host.popen, name=host.name, relay_url=relay.url)


async def has_relay(peer: OfficialPeer) -> None:
    """Wait until a peer names its relay, which 1.x does once it is connected, and then a moment for 0.x."""
    for _ in range(int(PATIENCE / ASK_INTERVAL)):
        if (await peer.aio.addr()).relay_url is not None:
            break
        await asyncio.sleep(ASK_INTERVAL)
    await asyncio.sleep(CALM)


async def official_run(
    scenario: Scenario, w: World, client: OfficialPeer, conn: ConnectionId, began: float
) -> Outcome:
    direct = await goes_direct(client, conn, DIRECT_TIMEOUT) if scenario.direct is not None else None
    if scenario.change is None:
        log = await client.aio.ticker_log(conn)
        return Outcome(log.echoes[0][1] - began, direct and direct - began)
    outcome = Outcome(before=(await client.aio.path(conn)).kind)
    await asyncio.sleep(CALM)
    moment = await scenario.change(w)
    outcome.verb = moment.done - moment.began
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and outcome.first is None:
        await asyncio.sleep(ASK_INTERVAL)
        log = await client.aio.ticker_log(conn)
        first = min((at for _, at in log.echoes if at > moment.since), default=None)
        if first is not None and log.healed_at(moment.since) is not None:
            outcome.first = first - moment.began
    if outcome.first is not None and outcome.before == "direct":
        direct = await goes_direct(client, conn, DIRECT_AGAIN_TIMEOUT)
        outcome.direct = direct and max(outcome.first, direct - moment.began)
    return outcome


async def goes_direct(peer: OfficialPeer, conn: ConnectionId, timeout: float) -> float | None:
    """When a peer first says that it is direct; None if it does not in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if (await peer.aio.path(conn)).kind == "direct":
            return time.monotonic()
        await asyncio.sleep(ASK_INTERVAL)
    return None


def spread(seconds: list[float | None], gone: str) -> str:
    """Median and range in milliseconds, and how many runs gave nothing."""
    alive = [s * 1000 for s in seconds if s is not None]
    missing = len(seconds) - len(alive)
    if not alive:
        return gone
    text = f"{statistics.median(alive):,.0f} [{min(alive):,.0f}-{max(alive):,.0f}]"
    return text + (f" ({missing} of {len(seconds)} {gone})" if missing else "")


@dataclass
class Row:
    """The outcomes of one scenario at one round-trip time; milliseconds."""

    scenario: str
    rtt_ms: float
    bound_ms: float
    direct_bound_ms: float | None
    issue: str
    runs: dict[str, list[Outcome]] = field(default_factory=dict)

    def first(self, side: str) -> str:
        """Times to the first byte; a path before the change that is not direct is said."""
        runs = self.runs.get(side, [])
        relayed = sum(run.before != "direct" for run in runs if run.first is not None)
        note = f", {relayed} not direct before" if relayed and self.direct_bound_ms and not self.opens else ""
        return spread([run.first for run in runs], "die") + note if runs else "-"

    def direct(self, side: str) -> str:
        """Times to the direct path."""
        runs = self.runs.get(side, [])
        measured = [run.direct for run in runs if run.before == "direct" or self.opens]
        return spread(measured, "stay relayed") if measured else "-"

    @property
    def opens(self) -> bool:
        """Whether the row is about a new connection."""
        return self.scenario.startswith("first")


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


def table(rows: list[Row], sides: list[str]) -> Table:
    """All rows for people."""
    view = Table(title="milliseconds: median [range]", show_lines=False)
    for column in ("event", "RTT", "bound", *(f"{s}: first byte" for s in sides), "issue B: 1.2.0 had"):
        view.add_column(column)
    for column in ("direct bound", *(f"{s}: direct" for s in sides)):
        view.add_column(column)
    for row in rows:
        view.add_row(
            *(row.scenario, f"{row.rtt_ms:g}", f"{row.bound_ms:,.0f}", *map(row.first, sides), row.issue),
            *("-" if row.direct_bound_ms is None else f"{row.direct_bound_ms:,.0f}", *map(row.direct, sides)),
        )
    return view


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
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        Console(width=200).print(table(rows, chosen))


if __name__ == "__main__":
    main()
