"""The fixture ``relay``: endpoints in lab hosts meet through it, and survive what happens to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import ClosedError, EndpointConfig
from iroh_py.events import Event, RelayStateChanged
from iroh_py.io.system import SocketNetwork
from netns_fixtures import Host, Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo, stays_relayed
from pytest_iroh.relays import Relays, RunningRelay

#: A restarted relay is used again within a second and some round trips, which are short here (DESIGN 2).
RESTARTED = 1.5
#: What a busy machine may add to a login and a first report.
ONLINE = 10.0


def strict_pair(lab: Lab) -> tuple[Host, Host, Host]:
    """Two hosts that can only meet through a relay, and a host for the relay."""
    home, office = (lab.router(name, nat="strict", ipv6=False) for name in ("home", "office"))
    relay_host = lab.host("relay", uplink=lab.router("dc"))
    return lab.host("laptop", uplink=home), lab.host("desktop", uplink=office), relay_host


def relayed_only(server: RunningRelay, **options: Any) -> EndpointConfig:
    """A configuration without port prediction, which might find a direct path after all."""
    return server.config(portmap=False, port_prediction=False, **options)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
async def test_two_hosts_behind_strict_nats_talk_through_the_relay(
    lab: Lab, relay: Relays, endpoints: Endpoints, tls: bool
) -> None:
    """The relay's config is all that endpoints need, with TLS too; the path is said to be relayed."""
    laptop, desktop, relay_host = strict_pair(lab)
    server = relay(relay_host, tls=tls)
    assert server.url.startswith("https" if tls else "http")
    async with endpoints.connect(laptop, desktop, config=relayed_only(server)) as connection:
        assert await echo(connection, b"x" * 20_000) == b"x" * 20_000
        await stays_relayed(connection, during=0.5)
        assert connection.path.relayed
        assert server.stats().nodes == 2
        assert server.stats()["packets_out"] > 0


async def test_relay_killed_and_started_again_connection_heals(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """Both sides find the relay again at the same URL, and not a byte is lost."""
    laptop, desktop, relay_host = strict_pair(lab)
    server = relay(relay_host)
    async with endpoints.connect(laptop, desktop, config=relayed_only(server)) as connection:
        async with heals(connection, within=RESTARTED) as healing:
            server.restart()
    assert healing.cause.endswith("listens")
    assert healing.bytes_lost == 0


def test_relay_in_a_plain_test_connection_heals_over_a_restart(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """The same without any asyncio in the test."""
    laptop, desktop, relay_host = strict_pair(lab)
    server = relay(relay_host)
    with endpoints.connect(laptop, desktop, config=relayed_only(server)) as connection:
        with heals(connection, within=RESTARTED):
            server.restart()
        assert connection.path.relayed


async def test_relay_with_token_only_its_holder_is_online(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """The config brings the token along; without it the relay refuses."""
    host, _, relay_host = strict_pair(lab)
    server = relay(relay_host, token="sesame")
    member = await endpoints.bind(host, config=server.config(portmap=False))
    assert (await member.online(ONLINE)).relay_url == server.url
    stranger = await endpoints.bind(host, config=server.config(portmap=False, relay_token="guess"))
    refused: asyncio.Future[RelayStateChanged] = asyncio.get_running_loop().create_future()

    def look(event: Event) -> None:
        if isinstance(event, RelayStateChanged) and not event.connected and not refused.done():
            refused.set_result(event)

    stranger.on_event(look)
    async with asyncio.timeout(ONLINE):
        await refused
    assert stranger.node_addr.relay_url is None
    assert server.stats()["login_failures"] > 0


async def test_relay_by_name_is_dialled_over_both_families(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """A host that has lost IPv4 reaches the relay by its name over IPv6, with a certificate for that name."""
    host = lab.host("laptop", uplink=lab.router("plain"))
    server = relay(lab.host("relay", uplink=lab.router("dc")), tls=True, by_name=True)
    assert server.url == "https://relay.:3443/"
    host.remove_address(host.ip)
    member = await endpoints.bind(host, config=server.config(portmap=False))
    assert (await member.online(ONLINE)).relay_url == server.url


async def test_two_relays_share_their_authority(lab: Lab, relay: Relays, endpoints: Endpoints) -> None:
    """One configuration names both; a node at one reaches a node at the other."""
    laptop, desktop, relay_host = strict_pair(lab)
    one, two = (
        relay(relay_host, tls=True),
        relay(relay_host, tls=True, port=4443, stun_port=None, quic_port=None),
    )
    server = await endpoints.bind_echo(desktop, config=relayed_only(two))
    client = await endpoints.bind(laptop, config=relayed_only(one, relays=(one.node, two.node)))
    addr = await server.online(ONLINE)
    assert addr.relay_url == two.url
    connection = await client.connect(addr, ECHO_ALPN)
    assert await echo(connection, b"across") == b"across"


async def test_stranger_does_not_trust_the_relays_authority(lab: Lab, relay: Relays) -> None:
    """Only who got the context trusts it; the system's authorities do not vouch for a lab."""
    host, _, relay_host = strict_pair(lab)
    server = relay(relay_host, tls=True)
    network = SocketNetwork(host)

    async def dial(context: ssl.SSLContext) -> None:
        _, writer = await network.connect_tcp(
            server.url.host, server.url.port, ssl=context, server_hostname=server.url.host
        )
        writer.close()
        await writer.wait_closed()

    assert server.ssl_context is not None
    await dial(server.ssl_context)
    with pytest.raises(ssl.SSLCertVerificationError):
        await dial(ssl.create_default_context())


def test_relay_on_loopback_keeps_its_ports_and_answers_stun(relay: Relays) -> None:
    """Without a lab: free ports, which a restart keeps; a stopped relay has no numbers."""
    server = relay()
    url, stun = server.url, server.stun_addr
    assert stun is not None
    with socket.create_connection((url.host, url.port), timeout=5.0) as plain:
        plain.sendall(b"GET /ping HTTP/1.1\r\nHost: relay\r\n\r\n")
        assert plain.recv(1000).startswith(b"HTTP/1.1 200")
    server.restart()
    assert (server.url, server.stun_addr) == (url, stun)
    assert server.stats().nodes == 0
    server.stop()
    assert not server.running
    with pytest.raises(ClosedError, match="stopped"):
        server.stats()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.host, url.port), timeout=5.0)


def test_restart_of_a_relay_is_on_the_timeline(lab: Lab, relay: Relays) -> None:
    """The story of a failed test tells when the relay went and came."""
    server = relay(lab.host("relay", uplink=lab.router("dc")))
    server.kill()
    server.start()
    told = [event.text for event in lab.events if event.kind.startswith("relay_")]
    assert told == [f"relay {server.url} {what}" for what in ("listens", "was killed", "listens")]
