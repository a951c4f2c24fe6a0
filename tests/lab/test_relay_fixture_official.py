"""What a downstream project does: its own program (here: the official bindings) around our lab and relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from netns_fixtures import Lab
from pytest_iroh.official import OfficialAddr, OfficialPeer
from pytest_iroh.relays import Relays

#: Official 1.2.0 needs some seconds to see that its relay is back; what counts here is that it does.
OFFICIAL_HEALS = 20.0


@pytest.mark.timeout(120)
def test_official_nodes_find_a_relay_by_its_name(
    lab: Lab, relay: Relays, official_iroh: Callable[..., OfficialPeer]
) -> None:
    """Nodes of iroh 1.2.0 ask the lab's name server, with packets of their hosts, as far as names have a dot."""
    server = relay(lab.host("relay.example", uplink=lab.router("dc")), by_name=True)
    home = lab.router("home", nat="moderate", ipv6=False)
    client, peer = (
        official_iroh("1.2.0", host=lab.host(name, uplink=home), relay=server)
        for name in ("laptop", "desktop")
    )
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=20.0)
    assert client.echo(connection, b"by name").ok
    assert "relay.example" in {query.name for query in lab.dns.queries if query.result == "NOERROR"}


@pytest.mark.timeout(120)
def test_official_nodes_heal_when_their_relay_was_restarted(
    lab: Lab, relay: Relays, official_iroh: Callable[..., OfficialPeer], heals: Callable[..., Any]
) -> None:
    """Two nodes of iroh 1.2.0 behind strict NATs, a relay that is killed and comes back, and no asyncio at all."""
    server = relay(lab.host("relay", uplink=lab.router("dc")))
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    client, peer = (
        official_iroh("1.2.0", host=lab.host(name, uplink=uplink), relay=server)
        for name, uplink in (("laptop", home), ("desktop", office))
    )
    peer.listen()
    connection = client.dial(OfficialAddr(peer.node_id, server.url), within=20.0)
    with heals(lambda: client.echo(connection, b"still there?").ok, within=OFFICIAL_HEALS) as healing:
        server.restart()
    assert healing.cause.endswith("listens")
