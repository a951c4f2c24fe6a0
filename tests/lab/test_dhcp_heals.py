"""Connections whose host gets its addresses by DHCP: what a lease does to them, without a relay."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import PING_INTERVAL
from netns_fixtures import DhcpClient, DhcpConfig, Host, Lab, LabEvent, Router
from pytest_iroh import Endpoints

#: Seconds: renewal is at half of it.
SHORT = 2
#: What a change that is seen may cost at most, in seconds: the ceiling of DESIGN 2.
SEEN = 1.0
PATIENCE = 15.0


class World:
    """A laptop that leases its address for a short time, and a peer in a data centre, 20 ms away."""

    def __init__(self, lab: Lab, nat: str) -> None:
        self.home: Router = lab.router("home", nat=nat, dhcp=DhcpConfig(lease=SHORT))
        self.cafe: Router = lab.router("cafe", nat="moderate")
        self.laptop: Host = lab.host("laptop", uplink=self.home, dhcp=DhcpClient(retry_interval=0.1))
        self.peer: Host = lab.host("peer", uplink=lab.router("centre", delay=0.01))
        self.leased = threading.Event()
        lab.on_event(self._see)

    def _see(self, event: LabEvent) -> None:
        if event.kind == "dhcp_leased" and event.node == "laptop":
            self.leased.set()


@pytest.mark.parametrize("old", ["routed", "dead"])
@pytest.mark.parametrize("nat", ["moderate", "none"])
async def test_renumbered_by_dhcp_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], nat: str, old: str
) -> None:
    """The next renewal is refused, and the address changes under the connection; with a dead subnet after silence."""
    world = World(lab, nat)
    async with endpoints.connect(world.laptop, world.peer) as connection:
        world.leased.clear()
        before = world.laptop.ip
        # Until the lease is renewed nothing works where the old subnet is dead.
        async with heals(connection, within=SHORT + PING_INTERVAL) as healing:
            world.home.dhcp.renumber(old=old)  # type: ignore[arg-type]
            assert await asyncio.to_thread(world.leased.wait, PATIENCE)
    assert world.laptop.ip != before
    assert healing.cause.startswith("laptop eth0 leased")
    assert healing.direct
    assert healing.bytes_lost == 0


async def test_replugged_with_dhcp_connection_heals(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """As a real laptop moves: the old address is there until another network refuses it."""
    world = World(lab, "moderate")
    async with (
        endpoints.connect(world.laptop, world.peer) as connection,
        heals(connection, within=SEEN) as healing,
    ):
        world.laptop.replug(world.cafe)
    assert healing.cause == "laptop eth0 replugged home -> cafe"  # with the time of DHCP
    assert healing.direct
    assert healing.bytes_lost == 0


async def test_lease_that_is_renewed_disturbs_no_connection(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """A renewal is no change of the network: nothing is interrupted."""
    world = World(lab, "moderate")
    async with (
        endpoints.connect(world.laptop, world.peer) as connection,
        heals(connection, within=SEEN) as healing,
    ):
        world.laptop.dhcp.renew()
    assert healing.direct
