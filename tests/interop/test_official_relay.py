"""The official bindings as users of our relay: all three generations of its protocol on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from iroh_py.relay import RelayConfig, RelayServer
from pytest_iroh.official import OfficialAddr, OfficialPeer

if TYPE_CHECKING:
    from netns_fixtures import Host, Lab

pytest_plugins = ["pytest_iroh.official.fixture"]

RELAYED = ("relay", "mixed")
"""0.x says "mixed" while it also tries addresses that do not answer: payload goes over the relay."""


def relay_in(host: Host) -> RelayServer:
    """A relay server in a lab host, plain HTTP, with STUN."""
    config = RelayConfig(bind=((host.ip, 3340),), stun_bind=((host.ip, 3478),))
    return RelayServer(config, open_socket=host.socket)


@pytest.mark.parametrize("version", ["0.28.1", "0.35.0", "1.2.0"])
async def test_two_official_nodes_meet_over_our_relay_behind_strict_nats(
    lab: Lab, official_iroh: Callable[..., OfficialPeer], version: str
) -> None:
    """A node id and the relay's URL are enough; 200 kB come back, and no direct path is claimed."""
    relay_host = lab.host("relay", uplink=lab.router("dc"))
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    laptop, desktop = lab.host("laptop", uplink=home), lab.host("desktop", uplink=office)
    async with relay_in(relay_host) as relay:
        url = f"http://{relay_host.ip}:3340/"
        client, server = await asyncio.gather(
            *(asyncio.to_thread(official_iroh, version, host=h, relay_url=url) for h in (laptop, desktop))
        )
        assert (await server.aio.listen()).node_id == server.node_id
        conn = await client.aio.dial(OfficialAddr(server.node_id, url), within=20.0)
        assert (await client.aio.bulk(conn, 200_000)).ok
        assert (await client.aio.path(conn)).kind in RELAYED
        assert relay.stats().nodes >= 2
        # Clients leave before their relay, as on a good day; how a relay goes is a matter of its own tests.
        await asyncio.gather(client.aio.close(), server.aio.close())
