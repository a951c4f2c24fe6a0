"""QUIC of endpoints with ECN on real sockets: marked, bleached, eaten, and tested anew after a move."""

from __future__ import annotations

import asyncio

import pytest

from iroh_py import Connection
from netns_fixtures import Ecn, Host, Lab, Router
from pytest_iroh import Endpoints, echo

#: Enough for a window to grow and shrink, and little for a busy machine.
DATA = bytes(1_000_000)
#: Seconds for what takes a fraction of one, on a busy machine.
SOON = 30.0


def world(lab: Lab, **family: bool) -> tuple[Host, Host, Router]:
    """A laptop at home, a server elsewhere with 10 ms of way, and a hotspot to move to."""
    home, hotspot = (lab.router(name, nat="moderate", **family) for name in ("home", "hotspot"))  # type: ignore[arg-type]
    centre = lab.router("centre", delay=0.005, **family)  # type: ignore[arg-type]
    return lab.host("laptop", uplink=home), lab.host("server", uplink=centre), hotspot


async def until(connection: Connection, state: str) -> None:
    """Send until the path is known to be like that."""
    async with asyncio.timeout(SOON):
        while connection.stats().ecn != state:
            assert await echo(connection, b"x" * 3000) == b"x" * 3000


@pytest.mark.parametrize("ipv6", [True, False])
async def test_marked_link_slows_a_transfer_without_losing_a_packet(
    lab: Lab, endpoints: Endpoints, ipv6: bool
) -> None:
    """The window shrinks for marks as for losses, and every packet arrives; in both families."""
    laptop, server, _hotspot = world(lab, ipv6=ipv6)
    async with endpoints.connect(laptop, server) as connection:
        await until(connection, "capable")
        assert await echo(connection, DATA, timeout=SOON) == DATA
        free = connection.stats().congestion_window
        laptop.link.condition(ecn=Ecn(mark=0.05), direction="egress")
        assert await echo(connection, DATA, timeout=SOON) == DATA
        counters = laptop.link.counters("egress")
        assert counters.marked > 10
        assert counters.lost == counters.queue_dropped == counters.ecn_dropped == 0
        # One reduction is to 70 %; how many there are depends on how often the transfer goes round.
        assert connection.stats().congestion_window < free * 0.8
        assert connection.stats().ecn == "capable"


async def test_bleached_link_ends_marking_until_the_path_is_another(lab: Lab, endpoints: Endpoints) -> None:
    """Data flows on without; after a move to a network that leaves the field alone, marks are used again."""
    laptop, server, hotspot = world(lab, ipv6=False)
    laptop.link.condition(ecn="bleach")
    async with endpoints.connect(laptop, server) as connection:
        await until(connection, "failed")
        laptop.link.condition(None)
        assert await echo(connection, DATA, timeout=SOON) == DATA
        assert connection.stats().ecn == "failed"
        laptop.replug(hotspot)
        # The server's address is the same, and so is the path to it from here: the server tests the new one.
        await until(connection, "failed")


async def test_link_that_eats_ecn_is_survived(lab: Lab, endpoints: Endpoints) -> None:
    """A black hole for ECN costs one probe timeout, and disco, which has no marks, never noticed it."""
    laptop, server, _hotspot = world(lab, ipv6=False)
    laptop.link.condition(ecn="drop-ect")
    async with endpoints.connect(laptop, server) as connection:
        assert await echo(connection, DATA, timeout=SOON) == DATA
        assert connection.stats().ecn == "failed"
        assert laptop.link.counters("egress").ecn_dropped > 0
