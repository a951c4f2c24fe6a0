"""One run of our endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import click

from healing.outcome import CALM, DIRECT_AGAIN_TIMEOUT, DIRECT_TIMEOUT, PATIENCE, Outcome
from healing.scenarios import Change, Scenario
from healing.world import World, build
from iroh_py import Connection, Endpoint, IrohError, NodeAddr
from iroh_py.events import Event, PathChanged, PathProven
from netns_fixtures import Host
from pytest_iroh import ECHO_ALPN, Recorder, serve_echo
from pytest_iroh.pulse import ConnectionPulse
from pytest_iroh.relays import RunningRelay


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
    w = await asyncio.to_thread(build, scenario.nat, scenario.client_uplinks, rtt)
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
