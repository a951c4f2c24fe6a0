"""One run of the official bindings, through the same relay of ours.

1.2.0 learns its addresses from the relay's address discovery. *Direct* is when the client says so and the relay no
longer carries the messages: right after a change a node still names the path that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import click

from healing.outcome import CALM, DIRECT_AGAIN_TIMEOUT, DIRECT_TIMEOUT, PATIENCE, Outcome
from healing.scenarios import Moment, Scenario
from healing.world import World, build
from netns_fixtures import Host
from pytest_iroh.official import ConnectionId, OfficialAddr, OfficialError, OfficialPeer, OfficialTimeout
from pytest_iroh.relays import RunningRelay

#: Seconds between two questions to an official peer about what it got back.
ASK_INTERVAL = 0.1
#: Seconds between two looks at the relay's counter, and how many looks make a verdict.
LOOK_INTERVAL = 0.05
LOOKS = 4
#: Messages and echoes in that time are 20; a relay that forwards at most this many carries keep-alives and probes.
QUIET_PACKETS = 6


class RelayMeter:
    """When the relay last carried the messages of its only connection."""

    def __init__(self, relay: RunningRelay) -> None:
        self._relay = relay
        self._samples: list[tuple[float, int]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RelayMeter]:
        """Look at the relay meanwhile."""
        task = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            task.cancel()

    async def _look(self) -> None:
        while True:
            if self._relay.running:
                packets = (await asyncio.to_thread(self._relay.stats))["packets_out"]
                self._samples.append((time.monotonic(), packets))
            await asyncio.sleep(LOOK_INTERVAL)

    async def quiet_since(self, since: float, deadline: float) -> float | None:
        """From when on, after ``since``, the relay carried no messages any more; None: it always did."""
        while time.monotonic() < deadline:
            for begin, end in zip(self._samples, self._samples[LOOKS:], strict=False):
                if begin[0] >= since - LOOK_INTERVAL and 0 <= end[1] - begin[1] <= QUIET_PACKETS:
                    return begin[0]
            await asyncio.sleep(LOOK_INTERVAL)
        return None


async def official(version: str, scenario: Scenario, rtt: float) -> Outcome:
    """One run of an official client and server."""
    w = await asyncio.to_thread(build, scenario.nat, scenario.client_uplinks, rtt)
    try:
        client, server = await asyncio.gather(
            *(asyncio.to_thread(official_peer, version, host, w.relay) for host in (w.client, w.server))
        )
        await server.aio.listen()
        await asyncio.gather(*(has_relay(peer) for peer in (client, server)))
        began = time.monotonic()
        conn = await client.aio.dial(OfficialAddr(server.node_id, w.relay.url))
        await client.aio.start_ticker(conn)
        async with RelayMeter(w.relay).running() as meter:
            return await official_run(scenario, w, client, conn, began, meter)
    except OfficialError as error:
        click.echo(f"{scenario.name}, {version}: {str(error).splitlines()[0]}", err=True)
        return Outcome()
    finally:
        await asyncio.to_thread(w.close)  # its processes end with the lab


def official_peer(version: str, host: Host, relay: RunningRelay) -> OfficialPeer:
    """A node in a host that uses the relay, with all that it offers."""
    return OfficialPeer.start(version, popen=host.popen, name=host.name, relay=relay)


async def has_relay(peer: OfficialPeer) -> None:
    """Wait until a peer names its relay, which 1.x does once it is connected, and then a moment for 0.x."""
    for _ in range(int(PATIENCE / ASK_INTERVAL)):
        if (await peer.aio.addr()).relay_url is not None:
            break
        await asyncio.sleep(ASK_INTERVAL)
    await asyncio.sleep(CALM)


async def official_run(
    scenario: Scenario, w: World, client: OfficialPeer, conn: ConnectionId, began: float, meter: RelayMeter
) -> Outcome:
    """Connect, and change the network."""
    direct = None
    if scenario.direct is not None:
        direct = await goes_direct(client, conn, DIRECT_TIMEOUT)
    if scenario.change is None:
        log = await client.aio.ticker_log(conn)
        return Outcome(log.echoes[0][1] - began, direct and direct - began)
    outcome = Outcome(before=(await client.aio.path(conn)).kind)
    await asyncio.sleep(CALM)
    moment = await scenario.change(w)
    outcome.verb = moment.done - moment.began
    outcome.first = await first_byte(client, conn, moment)
    if outcome.first is not None and outcome.before == "direct":
        outcome.direct = await direct_again(client, conn, moment, outcome.first, meter)
    return outcome


async def first_byte(client: OfficialPeer, conn: ConnectionId, moment: Moment) -> float | None:
    """Seconds from the change to the first byte behind it; None: dead."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await asyncio.sleep(ASK_INTERVAL)
        log = await client.aio.ticker_log(conn)
        first = min((at for _, at in log.echoes if at > moment.since), default=None)
        if first is not None and log.healed_at(moment.since) is not None:
            return first - moment.began
    return None


async def direct_again(
    client: OfficialPeer, conn: ConnectionId, moment: Moment, first: float, meter: RelayMeter
) -> float | None:
    """Seconds from the change until messages go direct: by the client's word, and not through the relay."""
    said = await goes_direct(client, conn, DIRECT_AGAIN_TIMEOUT)
    quiet = await meter.quiet_since(moment.began + first, time.monotonic() + DIRECT_AGAIN_TIMEOUT)
    if said is None or quiet is None:
        return None
    return max(first, said - moment.began, quiet - moment.began)


async def goes_direct(peer: OfficialPeer, conn: ConnectionId, timeout: float) -> float | None:
    """When a peer says that it is direct; None if it does not in time."""
    try:
        await peer.aio.until_direct(conn, within=timeout)
    except OfficialTimeout:
        return None
    return time.monotonic()
