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
