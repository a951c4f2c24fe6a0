"""Port prediction on a kernel's NATs: one strict NAT is passed in both roles, two are not."""

from __future__ import annotations

import asyncio
import os

import pytest

from iroh_py import Connection, Endpoint
from iroh_py.events import Event, StaysRelayed
from iroh_py.proto.birthday import ATTEMPT
from netns_fixtures import Host, Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.grid.cells import GridCell
from pytest_iroh.relays import Relays, RunningRelay

#: One attempt reaches the other side in 9997 of 10000 cases; it takes 7 s at most.
DIRECT = 15.0
ONLINE = 10.0
GRID = "strict NATs, with port prediction"


def world(lab: Lab, relay: Relays, client: str, server: str) -> tuple[Host, Host, RunningRelay]:
    """Two hosts behind NATs of these kinds, IPv4 only, and a relay."""
    home, office = (
        lab.router(name, nat=kind, ipv6=False) for name, kind in (("home", client), ("office", server))
    )
    served = relay(lab.host("relay", uplink=lab.router("dc")))
    return lab.host("laptop", uplink=home), lab.host("desktop", uplink=office), served


async def connected(
    endpoints: Endpoints, hosts: tuple[Host, Host], served: RunningRelay
) -> tuple[Connection, Endpoint, Endpoint]:
    """A relayed connection and its endpoints."""
    config = served.config(portmap=False)
    server = await endpoints.bind_echo(hosts[1], config=config)
    client = await endpoints.bind(hosts[0], config=config)
    await server.online(ONLINE)
    await client.online(ONLINE)
    return await client.connect(server.node_addr, ECHO_ALPN), client, server


async def told(endpoint: Endpoint, kind: type[Event], within: float) -> Event:
    """The first event of a kind."""
    found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
    endpoint.on_event(
        lambda event: found.set_result(event) if isinstance(event, kind) and not found.done() else None
    )
    async with asyncio.timeout(within):
        return await found


@pytest.mark.netns_grid("client", "server", name=GRID)
@pytest.mark.parametrize(("client", "server"), [("moderate", "strict"), ("strict", "moderate")])
async def test_one_strict_nat_is_passed(
    lab: Lab, relay: Relays, endpoints: Endpoints, grid_cell: GridCell, client: str, server: str
) -> None:
    """Direct in time although neither side can know the other's port; data flows before, meanwhile and after."""
    laptop, desktop, served = world(lab, relay, client, server)
    connection, *ends = await connected(endpoints, (laptop, desktop), served)
    assert connection.path.relayed
    assert await echo(connection, b"relayed") == b"relayed"
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(DIRECT):
        while connection.path.relayed:
            assert await echo(connection, b"meanwhile") == b"meanwhile"
    grid_cell.record("direct", loop.time() - began)
    data = os.urandom(300_000)
    assert await echo(connection, data, timeout=10.0) == data
    assert not connection.path.relayed
    assert sum(len(end._driver.sockets.extra) for end in ends) == 1


@pytest.mark.netns_grid("client", "server", name=GRID, at=("strict", "strict"))
async def test_two_strict_nats_stay_relayed_and_say_so(
    lab: Lab, relay: Relays, endpoints: Endpoints, grid_cell: GridCell
) -> None:
    """Both sides tell why after one attempt, and keep no socket of it."""
    laptop, desktop, served = world(lab, relay, "strict", "strict")
    connection, client, server = await connected(endpoints, (laptop, desktop), served)
    within = ATTEMPT + 5.0
    events = await asyncio.gather(*(told(end, StaysRelayed, within) for end in (client, server)))
    assert all("nothing came through" in event.text for event in events)
    assert await echo(connection, b"relayed") == b"relayed"
    assert connection.path.relayed
    grid_cell.record("relayed")
    assert len(client._driver.sockets.extra) == len(server._driver.sockets.extra) == 0
