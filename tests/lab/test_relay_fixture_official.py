"""What a downstream project does: its own program (here: the official bindings) around our lab and relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import EndpointConfig, NodeAddr, NodeId
from netns_fixtures import Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.official import OfficialAddr, OfficialPeer
from pytest_iroh.relays import Relays

#: Official 1.2.0 needs some seconds to see that its relay is back; what counts here is that it does.
OFFICIAL_HEALS = 20.0


@pytest.mark.timeout(120)
def test_official_nodes_heal_when_their_relay_was_restarted(
    lab: Lab, relay: Relays, official_iroh: Callable[..., OfficialPeer], heals: Callable[..., Any]
) -> None:
    """Two nodes of iroh 1.2.0 behind strict NATs, a relay that is killed and comes back, and no asyncio at all."""
    server = relay(lab.host("relay", uplink=lab.router("dc")))
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    client, peer = (
        official_iroh("1.2.0", host=lab.host(name, uplink=uplink), relay_url=server.url)
        for name, uplink in (("laptop", home), ("desktop", office))
    )
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=20.0)
    with heals(lambda: client.echo(connection, b"still there?").ok, within=OFFICIAL_HEALS) as healing:
        server.restart()
    assert healing.cause.endswith("listens")


@pytest.mark.parametrize("version", ["0.35.0", "0.28.1"])
async def test_our_endpoint_reaches_an_official_node_through_the_relay(
    lab: Lab,
    relay: Relays,
    endpoints: Endpoints,
    official_iroh: Callable[..., OfficialPeer],
    version: str,
) -> None:
    """Its id and the relay's URL are enough, and nothing but the relay could have carried it."""
    server = relay(lab.host("relay", uplink=lab.router("dc")))
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    desktop, laptop = lab.host("desktop", uplink=office), lab.host("laptop", uplink=home)
    peer = await asyncio.to_thread(official_iroh, version, host=desktop, relay_url=server.url)
    await peer.aio.listen()
    options: EndpointConfig = server.config(
        portmap=False, tls_auth="x509" if version == "0.28.1" else "raw-public-key"
    )
    client = await endpoints.bind(laptop, config=options)
    await client.online()
    address = NodeAddr(NodeId.parse(peer.node_id), server.url)
    connection = await client.connect(address, ECHO_ALPN)
    assert await echo(connection, b"across generations" * 1000) == b"across generations" * 1000
    assert connection.path.relayed
