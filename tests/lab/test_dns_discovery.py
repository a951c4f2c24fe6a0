"""Endpoints in a lab find each other through its discovery service: published by pkarr, looked up by DNS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import Endpoint
from iroh_py.errors import ConnectError
from iroh_py.events import NodeDiscovered
from iroh_py.keys import SecretKey
from netns_fixtures import Host, Lab
from netns_fixtures.dns.log import DnsQuery
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.discovery_services import DiscoveryServices, RunningDiscovery

#: Both learn of the move, publish, and ask (0.5 s after the silence is noticed, then every second or two).
FOUND_AGAIN = 15.0
PATIENCE = 20.0


class World:
    """Two mobile hosts, two networks for each, and no relay."""

    def __init__(self, lab: Lab, services: DiscoveryServices) -> None:
        self.lab = lab
        self.nets = [lab.router(name) for name in ("home", "office", "cafe", "train")]
        self.laptop = lab.host("laptop", uplink=self.nets[0])
        self.desktop = lab.host("desktop", uplink=self.nets[1])
        self.service: RunningDiscovery = services(lab.host("registry", uplink=lab.router("centre")))

    def move_both(self) -> None:
        """Each is in another network, before either can tell the other."""
        for host in (self.laptop, self.desktop):
            host.link.down()
        self.laptop.replug(self.nets[2])
        self.desktop.replug(self.nets[3])
        for host in (self.laptop, self.desktop):
            host.link.up()


@pytest.fixture
def world(lab: Lab, discovery_service: DiscoveryServices) -> World:
    return World(lab, discovery_service)


async def published(service: RunningDiscovery, endpoint: Endpoint, host: Host | None = None) -> None:
    """The endpoint's record on the service has the host's present address."""
    ip = None if host is None else host.ip
    await asyncio.to_thread(service.wait_published, endpoint.node_id, ip, within=PATIENCE)


@pytest.mark.parametrize("by", ["dns", "pkarr"])
async def test_peer_is_dialled_by_its_node_id_alone(world: World, endpoints: Endpoints, by: Any) -> None:
    """By name in a URL and in a zone, both of which only the lab's name server knows."""
    config = world.service.config(by=by)
    server = await endpoints.bind_echo(world.desktop, config=config)
    client = await endpoints.bind(world.laptop, config=config)
    found: list[str] = []
    client.on_event(lambda e: found.append(e.provenance) if isinstance(e, NodeDiscovered) else None)
    await published(world.service, server, world.desktop)
    async with asyncio.timeout(PATIENCE):
        connection = await client.connect(server.node_id, ECHO_ALPN)
    assert await echo(connection, b"hello") == b"hello"
    assert set(found) == {by}
    asked = [query for query in world.lab.dns.queries if query.name.startswith("_iroh.")]
    assert bool(asked) is (by == "dns")
    assert {query.record for query in asked} <= {"TXT"}


@pytest.mark.parametrize("dns", ["dns works", "dns fails for a while"])
@pytest.mark.parametrize("dialler", ["laptop", "desktop"])
async def test_nodes_that_both_moved_find_each_other_without_a_relay(
    world: World, endpoints: Endpoints, heals: Callable[..., Any], dialler: str, dns: str
) -> None:
    """Neither can tell the other: only what each publishes anew heals it, also when DNS is late (SCENARIOS 1)."""
    lab, config = world.lab, world.service.config()
    here, there = lab.hosts[dialler], lab.hosts["desktop" if dialler == "laptop" else "laptop"]
    server = await endpoints.bind_echo(there, config=config)
    client = await endpoints.bind(here, config=config)
    await published(world.service, server, there)
    async with asyncio.timeout(PATIENCE):
        connection = await client.connect(server.node_id, ECHO_ALPN)
    assert await echo(connection, b"before") == b"before"
    question = f"_iroh.{server.node_id.z32}.{world.service.origin}"
    before = lab.dns.queries[-1].number

    async def asked(after: int) -> DnsQuery:
        return await asyncio.to_thread(lab.dns.wait_for_query, question, "TXT", after=after, within=PATIENCE)

    async with heals(connection, within=FOUND_AGAIN):
        if dns == "dns fails for a while":
            lab.dns.fail("*", "servfail")
        await asyncio.to_thread(world.move_both)
        if dns == "dns fails for a while":
            assert (await asked(before)).fault == "servfail"
            before = lab.dns.queries[-1].number
            lab.dns.heal()
    assert (await asked(before)).result == "NOERROR"
    assert await echo(connection, b"after") == b"after"


async def test_service_that_restarts_has_what_was_published(world: World, endpoints: Endpoints) -> None:
    """And while it is away, a dial by node id fails in time, and waiting for a record does, too."""
    config = world.service.config()
    server = await endpoints.bind_echo(world.desktop, config=config)
    client = await endpoints.bind(world.laptop, config=config)
    await published(world.service, server, world.desktop)
    await asyncio.to_thread(world.service.stop)
    with pytest.raises(ConnectError):
        await client.connect(server.node_id, ECHO_ALPN, timeout=2.0)
    with pytest.raises(TimeoutError, match="did not publish anything"):
        await asyncio.to_thread(world.service.wait_published, SecretKey(bytes(32)).node_id, within=0.1)
    await asyncio.to_thread(world.service.start)
    async with asyncio.timeout(PATIENCE):
        connection = await client.connect(server.node_id, ECHO_ALPN)
    assert await echo(connection, b"hello") == b"hello"


async def test_service_with_tls_is_trusted_by_its_configuration(
    lab: Lab, discovery_service: DiscoveryServices, endpoints: Endpoints
) -> None:
    """The certificate has the name that the lab's name server knows."""
    host = lab.host("host", uplink=lab.router("home"))
    service = discovery_service(lab.host("registry", uplink=lab.router("centre")), tls=True)
    assert service.pkarr_url == "https://pkarr.example:8443/pkarr"
    endpoint = await endpoints.bind(host, config=service.config())
    await published(service, endpoint, host)


async def test_service_on_loopback_needs_no_lab(
    discovery_service: DiscoveryServices, endpoints: Endpoints
) -> None:
    """At free ports, with its own name server."""
    service = discovery_service()
    config = service.config(by="both")
    server = await endpoints.bind_echo(config=config)
    client = await endpoints.bind(config=config)
    await published(service, server)
    async with asyncio.timeout(PATIENCE):
        connection = await client.connect(server.node_id, ECHO_ALPN)
    assert await echo(connection, b"hello") == b"hello"
