"""A relay that endpoints know by a name: while the name changes, and while nobody can tell what it means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import Connection, EndpointConfig, RelayUrl
from iroh_py.relay import DEV_PORT
from netns_fixtures import Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.relays import Relays, RunningRelay

NAME = "relay.example"
URL = RelayUrl.parse(f"http://{NAME}:{DEV_PORT}")
PATIENCE = 20.0
#: A relay that is gone is noticed, dialled again and found elsewhere; the longest pause between dials is in it.
FOUND_AGAIN = 15.0


class World:
    """Two hosts that only meet through a relay, whose name the lab's name server knows."""

    def __init__(self, lab: Lab, relay: Relays) -> None:
        self.lab = lab
        self._relay = relay
        self.home, self.office, self.cafe = (
            lab.router(name, nat="strict", ipv6=False) for name in ("home", "office", "cafe")
        )
        self.laptop = lab.host("laptop", uplink=self.home)
        self.desktop = lab.host("desktop", uplink=self.office)
        self.centres = [lab.host(name, uplink=lab.router(f"{name}-dc")) for name in ("relay1", "relay2")]
        lab.dns.set(NAME, "A", self.centres[0].ip)

    def start(self, number: int = 0) -> RunningRelay:
        return self._relay(self.centres[number], public_url=URL, quic_port=None)

    def config(self, server: RunningRelay) -> EndpointConfig:
        # No port prediction: it might find a direct path after all.
        return server.config(portmap=False, port_prediction=False)

    async def connect(self, endpoints: Endpoints, config: EndpointConfig) -> Connection:
        server = await endpoints.bind_echo(self.desktop, config=config)
        client = await endpoints.bind(self.laptop, config=config)
        async with asyncio.timeout(PATIENCE):
            await server.online()
            await client.online()
            connection = await client.connect(server.node_addr, ECHO_ALPN)
        assert await echo(connection, b"hello") == b"hello"
        assert connection.path.relayed
        return connection


@pytest.fixture
def world(lab: Lab, relay: Relays) -> World:
    return World(lab, relay)


async def test_relay_is_found_by_its_name(world: World, endpoints: Endpoints) -> None:
    """By questions that each endpoint asked from its own network."""
    await world.connect(endpoints, world.config(world.start()))
    asked = {query.node for query in world.lab.dns.queries if query.name == NAME}
    assert asked == {"home", "office"}


async def test_truncated_answer_leads_to_the_relay_over_tcp(world: World, endpoints: Endpoints) -> None:
    """As for a name with many addresses."""
    world.lab.dns.fail(NAME, "truncate")
    await world.connect(endpoints, world.config(world.start()))
    results = {(query.transport, query.result) for query in world.lab.dns.queries if query.name == NAME}
    assert results == {("udp", "TRUNCATED"), ("tcp", "NOERROR")}


@pytest.mark.parametrize("kind", ["timeout", "servfail"])
async def test_dead_name_server_does_not_disturb_a_connection(
    world: World, endpoints: Endpoints, heals: Callable[..., Any], kind: str
) -> None:
    """Not even when its client moves to another network, or the relay restarts: the address is still known."""
    server = world.start()
    connection = await world.connect(endpoints, world.config(server))
    world.lab.dns.fail("*", kind)
    async with heals(connection, within=FOUND_AGAIN):
        await asyncio.to_thread(world.laptop.replug, world.cafe)
    async with heals(connection, within=FOUND_AGAIN):
        await asyncio.to_thread(server.restart)


async def test_name_server_that_fails_at_first_is_asked_again(world: World, endpoints: Endpoints) -> None:
    """The endpoint comes online once there is an answer, without being told."""
    world.lab.dns.fail(NAME, "servfail")
    endpoint = await endpoints.bind(world.laptop, config=world.config(world.start()))
    online = asyncio.create_task(endpoint.online())
    query = await asyncio.to_thread(world.lab.dns.wait_for_query, NAME, within=PATIENCE)
    assert query.fault == "servfail"
    assert not online.done()
    world.lab.dns.heal()
    async with asyncio.timeout(PATIENCE):
        await online


async def test_relay_that_moved_is_found_at_its_new_address(
    world: World, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """It dies, and another machine takes its name: whoever cannot reach the old one asks again."""
    server = world.start()
    connection = await world.connect(endpoints, world.config(server))

    def move() -> None:
        server.kill()
        world.start(1)
        world.lab.dns.set(NAME, "A", world.centres[1].ip)

    async with heals(connection, within=FOUND_AGAIN):
        await asyncio.to_thread(move)
    assert connection.path.relayed


async def test_relay_of_an_ipv4_only_place_is_found_from_an_ipv6_network(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Through DNS64 and NAT64: the phone has no IPv4 at all, the relay no IPv6."""
    phone = lab.host("phone", uplink=lab.router("mobile", nat="moderate", family="v6", nat64=True))
    place = lab.host("relay1", uplink=lab.router("centre", ipv6=False))
    lab.dns.set(NAME, "A", place.ip)
    server = relay(place, public_url=URL, quic_port=None)
    endpoint = await endpoints.bind(phone, config=server.config(portmap=False))
    async with asyncio.timeout(PATIENCE):
        await endpoint.online()
    assert server.stats().nodes == 1
    told = [q.answers for q in lab.dns.queries if q.name == NAME and q.record == "AAAA"]
    assert told
    assert lab.routers["mobile"].nat64 is not None
    assert {answers[0] for answers in told} == {lab.routers["mobile"].nat64.address(place.ip)}
