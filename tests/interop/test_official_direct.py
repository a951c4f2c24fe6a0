"""Our endpoint and the official bindings in one lab, without a relay: they talk, and what moves heals."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from iroh_py import Connection, Endpoint, EndpointConfig
from pytest_iroh.echoing import ECHO_ALPN, echo, serve_echo
from pytest_iroh.official import ConnectionId, OfficialPeer

if TYPE_CHECKING:
    from netns_fixtures import Host, Lab

CONFIGS = {
    "0.35.0": EndpointConfig(),
    "0.28.1": EndpointConfig(tls_auth="x509"),
}
"""What we present when we dial: raw public keys since 0.34, X.509 before. Who listens accepts both."""

HEAL_WITHIN = 25.0
"""Seconds. When we move, 0.28 and 0.35 stay on our old address until their trust in it ends, after 6.5 s; now and
then for more than 12, although they answer our pings from the new one. They give up after 30."""

MEGABYTE = 1_000_000


def _switch_uplink(host: Host) -> None:
    """The second interface comes, the first one goes: neither side knew the new address before."""
    host.interface("wwan0").up()
    host.interface("wlan0").down()


Verb = Callable[["Host"], None]
MOVES: dict[str, Verb] = {
    "renumbers": lambda host: host.renumber(interface="wlan0"),
    "switches uplink": _switch_uplink,
}


@dataclasses.dataclass(slots=True, frozen=True)
class Meeting:
    """Our endpoint and an official one, each connected to the other."""

    our_host: Host
    their_host: Host
    theirs: OfficialPeer
    dialled: Connection
    accepted: ConnectionId

    async def seen_at(self, mover: Host) -> str | None:
        """The address to which the side that stays sends what is for the side that moves."""
        if mover is self.their_host:
            return self.dialled.path.text
        return (await self.theirs.aio.path(self.accepted)).address

    async def check_bytes(self, size: int) -> None:
        """Echo so many bytes over both connections, begun by the side that dialled."""
        data = hashlib.shake_256(b"from us").digest(size)
        assert await echo(self.dialled, data, timeout=HEAL_WITHIN) == data
        assert (await self.theirs.aio.bulk(self.accepted, size, within=HEAL_WITHIN)).ok


Meet = Callable[[str], Awaitable[Meeting]]


@pytest.fixture
async def meet(lab: Lab, official_iroh: Callable[..., OfficialPeer]) -> AsyncIterator[Meet]:
    """Connect our endpoint and an official one of some version, both ways, in hosts with two uplinks each."""
    home, mobile = lab.router("home"), lab.router("mobile")
    our_host = lab.host("ours", uplink={"wlan0": home, "wwan0": mobile})
    their_host = lab.host("theirs", uplink={"wlan0": mobile, "wwan0": home})
    for host in (our_host, their_host):
        host.interface("wwan0").down()
    async with contextlib.AsyncExitStack() as stack:

        async def start(version: str) -> Meeting:
            endpoint = await stack.enter_async_context(
                await Endpoint.bind(network=our_host, alpns=[ECHO_ALPN], config=CONFIGS[version])
            )
            service = asyncio.create_task(serve_echo(endpoint))
            stack.push_async_callback(_ended, service)
            stack.push_async_callback(endpoint.close)
            theirs = await asyncio.to_thread(official_iroh, version, host=their_host)
            dialled = await endpoint.connect((await theirs.aio.listen()).node_addr(), ECHO_ALPN)
            accepted = await theirs.aio.dial(endpoint.node_addr)
            return Meeting(our_host, their_host, theirs, dialled, accepted)

        yield start


async def _ended(service: asyncio.Task[None]) -> None:
    async with asyncio.timeout(HEAL_WITHIN):
        await service


@pytest.mark.parametrize("version", CONFIGS)
async def test_each_dials_the_other_and_a_megabyte_comes_back_byte_exact(meet: Meet, version: str) -> None:
    """The wire format, the identities and the streams are those of the official bindings, in both roles."""
    meeting = await meet(version)
    assert str(meeting.dialled.node_id) == meeting.theirs.node_id
    assert meeting.dialled.path.direct
    assert (await meeting.theirs.aio.path(meeting.accepted)).kind == "direct"
    await meeting.check_bytes(MEGABYTE)


@pytest.mark.parametrize("version", CONFIGS)
async def test_both_connections_heal_when_we_move(meet: Meet, version: str) -> None:
    """We renumber, then lose the interface in use: no message is lost, in either connection."""
    meeting = await meet(version)
    await heals_after_every_move(meeting, meeting.our_host)


@pytest.mark.parametrize("version", CONFIGS)
async def test_both_connections_heal_when_they_move(meet: Meet, version: str) -> None:
    """They renumber, then lose the interface in use: no message is lost, in either connection."""
    meeting = await meet(version)
    await heals_after_every_move(meeting, meeting.their_host)


async def heals_after_every_move(meeting: Meeting, mover: Host) -> None:
    """Move a host in every way while a ticker runs, and check that all its messages arrive."""
    theirs, conn = meeting.theirs.aio, meeting.accepted
    await theirs.start_ticker(conn)
    await theirs.healed(conn, time.monotonic())
    for name, move in MOVES.items():
        before = await meeting.seen_at(mover)
        await asyncio.to_thread(move, mover)
        took = await theirs.healed(conn, time.monotonic(), within=HEAL_WITHIN)
        print(f"{meeting.theirs.version}, {mover.name} {name}: healed in {took * 1000:.0f} ms")
        await meeting.check_bytes(10_000)
        assert await meeting.seen_at(mover) != before
    log = await theirs.stop_ticker(conn)
    assert log.error is None
    assert log.in_order
