"""The official bindings through our relay: they meet there, go direct, move, and heal; alone and with ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import EndpointConfig, NodeAddr, NodeId
from netns_fixtures import Host, Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.official import OfficialAddr, OfficialPeer
from pytest_iroh.relays import Relays, RunningRelay

#: Official 1.2.0 needs up to some seconds for what takes ours milliseconds; what counts here is that it does it.
OFFICIAL_HEALS = 20.0
SOON = 20.0

StartPeer = Callable[..., OfficialPeer]


def two_sites(lab: Lab, relay: Relays, nat: str = "moderate") -> tuple[RunningRelay, Host, Host]:
    """A relay, and a host behind a NAT of its own on each side."""
    server = relay(lab.host("relay", uplink=lab.router("dc")))
    home, office = (lab.router(name, nat=nat, ipv6=False) for name in ("home", "office"))
    return server, lab.host("laptop", uplink=home), lab.host("desktop", uplink=office)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mover", ["client", "server"])
def test_nodes_of_1_2_0_go_direct_and_heal_when_one_moves(
    lab: Lab, relay: Relays, official_iroh: StartPeer, heals: Callable[..., Any], mover: str
) -> None:
    """Both behind moderate NATs: only our relay's address discovery can tell them where they are, and where now."""
    server, laptop, desktop = two_sites(lab, relay)
    other = lab.router("elsewhere", nat="moderate", ipv6=False)
    client, peer = (official_iroh("1.2.0", host=host, relay=server) for host in (laptop, desktop))
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=SOON)
    assert client.until_direct(connection, within=SOON).address is not None
    assert server.stats()["qad_reports"] >= 2
    moved = laptop if mover == "client" else desktop
    with heals(lambda: client.echo(connection, b"still there?").ok, within=OFFICIAL_HEALS):
        moved.replug(other)

    def direct_again() -> bool:
        address = client.until_direct(connection, within=OFFICIAL_HEALS).address or ""
        # Right after the move a node still names the path that it had.
        found = mover == "client" or address.startswith(f"{other.ip}:")
        return found and server.stats()["qad_reports"] >= 3

    deadline = time.monotonic() + OFFICIAL_HEALS
    while not direct_again():
        assert time.monotonic() < deadline, "they never went direct again"
        assert client.echo(connection, b"and still?").ok


@pytest.mark.parametrize("version", ["0.28.1", "0.35.0"])
def test_nodes_of_0_x_learn_from_the_relay_where_they_are_and_go_direct(
    lab: Lab, relay: Relays, official_iroh: StartPeer, version: str
) -> None:
    """They ask relays that are built in, by STUN (0.35 by QUIC, too); ours stands in for those."""
    server, laptop, desktop = two_sites(lab, relay)
    client, peer = (official_iroh(version, host=host, relay=server) for host in (laptop, desktop))
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=SOON)
    address = client.until_direct(connection, within=SOON).address
    assert address is not None
    assert not address.startswith(desktop.ip), "the address of its NAT, not the one behind it"
    assert client.echo(connection, b"direct").ok
    stats = server.stats()
    assert stats["stun_requests"] > 0
    assert (stats["qad_reports"] > 0) is (version == "0.35.0")


@pytest.mark.parametrize("version", ["0.28.1", "0.35.0", "1.2.0"])
def test_nodes_trust_a_relay_with_tls(
    lab: Lab, relay: Relays, official_iroh: StartPeer, version: str
) -> None:
    """The test's own authority takes the place of a built-in root: no other certificate could be had in a lab."""
    server = relay(lab.host("relay", uplink=lab.router("dc")), tls=True)
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    client, peer = (
        official_iroh(version, host=lab.host(name, uplink=uplink), relay=server)
        for name, uplink in (("laptop", home), ("desktop", office))
    )
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=SOON)
    assert client.echo(connection, b"over TLS").ok
    assert client.path(connection).kind in ("relay", "mixed")


def test_node_of_1_2_0_shows_its_token_to_the_relay(
    lab: Lab, relay: Relays, official_iroh: StartPeer
) -> None:
    """A relay that wants one lets it in, and nobody without it."""
    server = relay(lab.host("relay", uplink=lab.router("dc")), token="sesame")
    home = lab.router("home", nat="strict", ipv6=False)
    peer = official_iroh("1.2.0", host=lab.host("laptop", uplink=home), relay=server)
    client = official_iroh("1.2.0", host=lab.host("desktop", uplink=home), relay=server)
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=SOON)
    assert client.echo(connection, b"with a token").ok
    assert server.stats()["login_failures"] == 0


def config_for(version: str, server: RunningRelay) -> EndpointConfig:
    """Ours as a peer of that version."""
    return server.config(portmap=False, tls_auth="x509" if version == "0.28.1" else "raw-public-key")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("version", ["0.35.0", "0.28.1"])
async def test_official_node_goes_direct_to_our_endpoint_and_finds_it_after_a_move(
    lab: Lab,
    relay: Relays,
    endpoints: Endpoints,
    official_iroh: StartPeer,
    heals: Callable[..., Any],
    version: str,
) -> None:
    """Both behind moderate NATs: each learns from the relay where it is, and says so over the relay."""
    server, laptop, desktop = two_sites(lab, relay)
    other = lab.router("elsewhere", nat="moderate", ipv6=False)
    ours = await endpoints.bind_echo(desktop, config=config_for(version, server))
    await ours.online()
    theirs = await asyncio.to_thread(official_iroh, version, host=laptop, relay=server)
    connection = await theirs.aio.dial(OfficialAddr(str(ours.node_id), server.url), within=SOON)
    assert (await theirs.aio.echo(connection, b"across generations" * 1000)).ok
    assert server.stats()["packets_out"] > 0
    assert (await theirs.aio.until_direct(connection, within=SOON)).address is not None

    async def answered() -> bool:
        return (await theirs.aio.echo(connection, b"still there?", within=SOON)).ok

    async with heals(answered, within=OFFICIAL_HEALS):
        await asyncio.to_thread(desktop.replug, other)
    path = await theirs.aio.until_direct(connection, within=SOON)
    assert path.address is not None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("version", ["0.35.0", "0.28.1"])
async def test_our_endpoint_goes_direct_to_an_official_node_and_heals_when_it_moves(
    lab: Lab,
    relay: Relays,
    endpoints: Endpoints,
    official_iroh: StartPeer,
    heals: Callable[..., Any],
    version: str,
) -> None:
    """Both behind moderate NATs; the one that moves is ours, the other side is of another generation."""
    server, laptop, desktop = two_sites(lab, relay)
    other = lab.router("elsewhere", nat="moderate", ipv6=False)
    theirs = await asyncio.to_thread(official_iroh, version, host=laptop, relay=server)
    await theirs.aio.listen()
    ours = await endpoints.bind(desktop, config=config_for(version, server))
    await ours.online()
    connection = await ours.connect(NodeAddr(NodeId.parse(theirs.node_id), server.url), ECHO_ALPN)
    assert await echo(connection, b"across generations" * 1000) == b"across generations" * 1000
    async with asyncio.timeout(SOON):
        await connection.watch_path().wait_until(lambda path: path.direct)
    async with heals(connection, within=OFFICIAL_HEALS) as healing:
        await asyncio.to_thread(desktop.replug, other)
    assert healing.bytes_lost == 0
