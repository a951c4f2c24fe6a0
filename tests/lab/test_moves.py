"""Connections heal on a real kernel network, without a relay: every move, both roles.

The measured bounds are those of the benchmark (docs/performance.md); here a test only fails when the promise itself is
broken: nothing lost, direct again, and an answer within the ping interval (within a second where the change is seen).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from iroh_py import PING_INTERVAL, Connection, EndpointConfig, NodeAddr, TimedOutError
from netns_fixtures import Host, Lab, Router
from pytest_iroh import ECHO_ALPN, Endpoints, echo

#: What a change that is seen may cost at most, in seconds: the ceiling of DESIGN 2.
SEEN = 1.0


@dataclass
class Home:
    """A mover with an uplink or two, and a peer in a data centre, 20 ms away."""

    lab: Lab
    mover: Host
    peer: Host
    home: Router
    hotspot: Router
    plain: Router


def build(lab: Lab, *uplinks: str) -> Home:
    routers = {"home": lab.router("home", nat="moderate"), "hotspot": lab.router("hotspot", nat="cgnat")}
    routers["plain"] = lab.router("plain")
    centre = lab.router("centre", delay=0.01)
    if len(uplinks) == 1:
        mover = lab.host("mover", uplink=routers[uplinks[0]])
    else:
        mover = lab.host(
            "mover", uplink=dict(zip(("wlan0", "wwan0"), map(routers.__getitem__, uplinks), strict=True))
        )
    peer = lab.host("peer", uplink=centre)
    return Home(lab, mover, peer, routers["home"], routers["hotspot"], routers["plain"])


def ends(home: Home, moves: str) -> tuple[Host, Host]:
    """Client and server, the mover in the role that was asked for."""
    return (home.mover, home.peer) if moves == "client" else (home.peer, home.mover)


BOTH_ROLES = pytest.mark.parametrize("moves", ["client", "server"])


@BOTH_ROLES
async def test_wifi_to_hotspot_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], moves: str
) -> None:
    """The main job: from a home network to a carrier's, while data flows."""
    home = build(lab, "home" if moves == "client" else "plain")
    async with endpoints.connect(*ends(home, moves)) as connection, heals(connection, within=SEEN) as healing:
        home.mover.replug(home.hotspot if moves == "client" else home.home)
    assert healing.direct
    assert healing.bytes_lost == 0


@BOTH_ROLES
async def test_new_address_in_the_same_network_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], moves: str
) -> None:
    """DHCP gave another address."""
    home = build(lab, "plain")
    async with endpoints.connect(*ends(home, moves)) as connection, heals(connection, within=SEEN) as healing:
        home.mover.renumber()
    assert healing.direct


async def test_network_renumbered_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """The router hands out another subnet, behind the same NAT."""
    home = build(lab, "home")
    async with (
        endpoints.connect(home.mover, home.peer) as connection,
        heals(connection, within=SEEN) as healing,
    ):
        home.home.renumber()
    assert healing.direct


@pytest.mark.parametrize("how", ["link-down", "carrier-lost", "default-route", "metric"])
async def test_second_uplink_takes_over(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], how: str
) -> None:
    """The second interface is up already; also when the kernel keeps routing into the dead first one."""
    home = build(lab, "home", "hotspot")
    wlan = home.mover.interface("wlan0")
    acts: dict[str, Callable[[], None]] = {
        "link-down": wlan.down,
        "carrier-lost": lambda: wlan.carrier(False),
        "default-route": lambda: home.mover.set_default_route("wwan0"),
        "metric": lambda: home.mover.set_metric("wwan0", 1),
    }
    async with (
        endpoints.connect(home.mover, home.peer) as connection,
        heals(connection, within=SEEN) as healing,
    ):
        acts[how]()
    assert healing.direct


@pytest.mark.parametrize("kind", ["open", "moderate", "strict"])
@pytest.mark.parametrize("address", [False, True], ids=["new-port", "new-address"])
async def test_nat_rebound_while_sending_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], kind: str, address: bool
) -> None:
    """The router restarted: nobody is told, and packets come from elsewhere. IPv4 only, so that v6 does not help."""
    router = lab.router("router", nat=kind, ipv6=False)
    mover, peer = lab.host("mover", uplink=router), lab.host("peer", uplink=lab.router("centre", ipv6=False))
    async with endpoints.connect(mover, peer) as connection, heals(connection, within=SEEN) as healing:
        router.nat.rebind(address=address)
    assert healing.direct


async def test_nat_rebound_while_idle_connection_heals_within_the_ping_interval(
    lab: Lab, endpoints: Endpoints
) -> None:
    """Nobody sends: the heartbeat finds out in time for the one who will."""
    router = lab.router("router", nat="moderate", ipv6=False)
    mover, peer = lab.host("mover", uplink=router), lab.host("peer", uplink=lab.router("centre", ipv6=False))
    server = await endpoints.bind_echo(peer)
    async with endpoints.connect(mover, server) as connection:
        moved = asyncio.Event()
        assert await echo(connection, b"before") == b"before"
        server.on_event(lambda event: moved.set() if event.kind == "path" else None)
        router.nat.rebind()
        async with asyncio.timeout(PING_INTERVAL):
            await moved.wait()
        assert await echo(connection, b"after", timeout=SEEN) == b"after"


@BOTH_ROLES
@pytest.mark.parametrize("seconds", [1.0, 4.0])
async def test_link_was_down_data_flows_when_it_is_back(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], moves: str, seconds: float
) -> None:
    """The cable was out; the address is the same."""
    home = build(lab, "plain")
    async with endpoints.connect(*ends(home, moves)) as connection, heals(connection, within=SEEN) as healing:
        home.mover.link.down()
        await asyncio.sleep(seconds)  # the outage is the situation, not a wait
        home.mover.link.up()
    assert healing.direct


async def test_silent_black_hole_data_flows_when_it_ends(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """Packets vanished for a while and no interface said so."""
    home = build(lab, "plain")
    far = lab.routers["centre"].uplink
    async with endpoints.connect(home.mover, home.peer) as connection:
        async with heals(connection, within=SEEN + 0.1) as healing:
            far.condition(loss=1.0, delay=0.01)
            await asyncio.sleep(3.0)  # the outage is the situation, not a wait
            far.condition(loss=0.0, delay=0.01)
    assert healing.direct


async def test_twenty_flaps_connection_survives(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """M20: a loose plug."""
    home = build(lab, "plain")
    async with (
        endpoints.connect(home.mover, home.peer) as connection,
        heals(connection, within=SEEN) as healing,
    ):
        for _ in range(20):
            home.mover.link.down()
            await asyncio.sleep(0.05)  # the rhythm of the flaps
            home.mover.link.up()
            await asyncio.sleep(0.05)
    assert healing.bytes_lost == 0


async def test_ten_megabytes_across_moves_arrive_unaltered(lab: Lab, endpoints: Endpoints) -> None:
    """M5: a transfer both ways goes on across a rebind, a move and an outage, byte for byte."""
    home = build(lab, "home")
    data = bytes(range(256)) * 40_000
    async with endpoints.connect(home.mover, home.peer) as connection:
        transfer = asyncio.create_task(echo(connection, data, timeout=60.0))
        acts: list[Callable[[], object]] = [home.home.nat.rebind, partial(home.mover.replug, home.hotspot)]
        for act in (*acts, home.mover.link.down):
            await asyncio.sleep(0.2)  # let some bytes flow between the moves
            act()
        await asyncio.sleep(0.5)
        home.mover.link.up()
        assert await transfer == data


async def test_peer_gone_for_good_connection_ends_typed(lab: Lab, endpoints: Endpoints) -> None:
    """M17: no hang; the reason is a class and a sentence."""
    home = build(lab, "plain")
    config = EndpointConfig(idle_timeout=3.0)
    async with endpoints.connect(home.mover, home.peer, config=config) as connection:
        lab.routers["centre"].uplink.down()
        async with asyncio.timeout(20.0):
            error = await connection.wait_closed()
    assert isinstance(error, TimedOutError)


async def test_connection_over_ipv6_heals_when_the_prefix_changes(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """The same over IPv6 alone: the peer is dialled by its v6 address."""
    home = build(lab, "plain")
    server = await endpoints.bind_echo(home.peer, bind=[("::", 0)])
    client = await endpoints.bind(home.mover, bind=[("::", 0)])
    addr = NodeAddr(
        server.node_id, direct_addresses=[a for a in server.node_addr.direct_addresses if ":" in a[0]]
    )
    connection: Connection = await client.connect(addr, ECHO_ALPN)
    async with heals(connection, within=SEEN) as healing:
        home.mover.replug(home.hotspot)
    assert ":" in healing.path_after.split(" -> ")[-1]
