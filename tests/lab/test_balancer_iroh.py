"""iroh behind load balancers: what a rebound client meets there, and two relays at one address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iroh_py import ConnectTimeoutError, NodeAddr, RelayUrl
from netns_fixtures import Balancer, Host, Lab
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.relays import Relays

VIP, PORT = "203.0.113.50", 7000
#: What a change that is seen may cost at most, in seconds: the ceiling of DESIGN 2.
SEEN = 1.0
#: In which a way that exists is found on a busy machine, and a way that does not exist is looked for.
FOUND, SOUGHT = 15.0, 1.5


class Centre:
    """Two servers behind a balancer and a NAT, and a laptop behind another: the only way is the balancer's."""

    def __init__(self, lab: Lab) -> None:
        front = lab.router("front", nat="strict", ipv6=False)
        self.home = lab.router("home", nat="moderate", ipv6=False)
        self.first, self.second = (lab.host(name, uplink=front) for name in ("first", "second"))
        self.laptop = lab.host("laptop", uplink=self.home)
        self.www: Balancer = lab.balancer("www", front, [self.first], PORT, address=VIP)

    async def serve(self, endpoints: Endpoints) -> NodeAddr:
        """An endpoint in the first server; its only address is the balancer's."""
        server = await endpoints.bind_echo(self.first, bind=[("0.0.0.0", PORT)])
        return NodeAddr(server.node_id, direct_addresses=[(VIP, PORT)])


async def test_rebound_client_meets_the_same_server_where_the_source_decides(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """By source the port does not matter: a NAT that restarts is healed from, though it is a new flow."""
    centre = Centre(lab)
    addr = await centre.serve(endpoints)
    client = await endpoints.bind(centre.laptop)
    connection = await client.connect(addr, ECHO_ALPN)
    async with heals(connection, within=SEEN) as healing:
        centre.home.nat.rebind()
    assert healing.bytes_lost == 0
    assert {flow.backend for flow in centre.www.flows()} == {"first"}


async def test_rebound_client_meets_another_server_while_its_own_drains(
    lab: Lab, endpoints: Endpoints
) -> None:
    """A known flow stays with the server that drains; after a rebind it is a new one, and nobody knows it there."""
    centre = Centre(lab)
    addr = await centre.serve(endpoints)
    client = await endpoints.bind(centre.laptop)
    connection = await client.connect(addr, ECHO_ALPN)
    centre.www.add(centre.second)
    centre.www.take_out(centre.first)
    assert await echo(connection, b"drained") == b"drained"

    centre.home.nat.rebind()
    with pytest.raises(TimeoutError):
        await echo(connection, b"who?", timeout=SOUGHT)
    assert {flow.backend for flow in centre.www.flows()} >= {"second"}

    centre.www.add(centre.first)
    centre.www.take_out(centre.second, flows="move")
    assert await echo(connection, b"back", timeout=FOUND) == b"back"


async def test_two_relays_behind_one_address_are_two_worlds(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Relays do not know of each other: nodes at one URL meet only if the balancer leads them to one server."""
    dc = lab.router("dc")
    hosts: list[Host] = [lab.host(name, uplink=dc) for name in ("relay-a", "relay-b")]
    url = RelayUrl.parse(f"http://{VIP}:3340")
    a, b = (relay(host, public_url=url, quic_port=None) for host in hosts)
    balanced = lab.balancer("relays", dc, hosts[:1], [3340, 3478], address=VIP, protocol="both")
    homes = [lab.router(name, nat="strict", ipv6=False) for name in ("home", "office")]
    laptop, desktop = (lab.host(f"at-{router.name}", uplink=router) for router in homes)
    config = a.config(portmap=False, port_prediction=False)

    server = await endpoints.bind_echo(laptop, config=config)
    await server.online(FOUND)
    balanced.add(hosts[1])
    balanced.take_out(hosts[0])
    client = await endpoints.bind(desktop, config=config)
    await client.online(FOUND)
    assert (a.stats().nodes, b.stats().nodes) == (1, 1)
    assert client.node_addr.relay_url == server.node_addr.relay_url == url
    addr = NodeAddr(server.node_id, relay_url=url)
    with pytest.raises(ConnectTimeoutError):
        await client.connect(addr, ECHO_ALPN, timeout=SOUGHT)

    # The second relay is taken away: its connections are reset at the first one, and made again there.
    balanced.add(hosts[0])
    balanced.take_out(hosts[1], flows="move")
    async with asyncio.timeout(FOUND):
        connection = await client.connect(addr, ECHO_ALPN, timeout=FOUND)
    assert await echo(connection, b"met") == b"met"
    assert a.stats().nodes == 2
