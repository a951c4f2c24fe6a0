"""Upstream's link tests (LAB 2.10): add_faster_link, link_outage_recovery, holepunch_many_addrs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from parity_kit import BOTH_ROLES, OUTAGE, STEP, meet, moderate_pair, start_relay

from iroh_py.events import PathChanged
from netns_fixtures import Host, Lab, LinkCondition
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays


@BOTH_ROLES
async def test_add_faster_link(lab: Lab, relay: Relays, endpoints: Endpoints, side: str) -> None:
    """A host on a phone's network comes into its peer's LAN, too: it changes to the LAN."""
    home, mobile = (lab.router(name, nat="moderate", ipv6=False) for name in ("home", "mobile"))
    mover = lab.host("mover", uplink={"eth0": mobile, "eth1": home})
    peer = lab.host("peer", uplink=home)
    mover.interface("eth0").condition(LinkCondition.preset("mobile-4g"))
    mover.interface("eth1").down()
    client, server = (mover, peer) if side == "client" else (peer, mover)
    pair = await meet(endpoints, client, server, start_relay(lab, relay))
    await pair.go_direct(STEP)
    await pair.ping()
    mover.interface("eth1").up()
    await pair.side(side).way(to(peer.ip), STEP, "way to the peer in the LAN")
    await pair.ping()
    # The peer may stay with the old path, which works, until payload comes by the new one.


def to(ip: str | None) -> Callable[[PathChanged], bool]:
    """Whether a way leads to an address."""
    return lambda way: way.path.startswith(f"{ip}:")


@BOTH_ROLES
async def test_link_outage_recovery(lab: Lab, relay: Relays, endpoints: Endpoints, side: str) -> None:
    """A link is down for five seconds; when it is back, data flows, and directly."""
    hosts = moderate_pair(lab)
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    await pair.go_direct(STEP)
    await pair.ping()
    hosts[side].link.down()
    await asyncio.sleep(OUTAGE)  # the outage is the situation, not a wait
    hosts[side].link.up()
    await pair.ping(STEP)
    await pair.go_direct(STEP)
    await pair.ping()


def add_addresses(host: Host, count: int) -> None:
    """Many addresses of a network that nobody else can reach. On eth0: this kernel has no dummy interfaces."""
    for number in range(count):
        host.add_address(f"172.16.0.{10 + number}/24")


@BOTH_ROLES
@pytest.mark.parametrize("count", [8, 16, 32])
async def test_holepunch_many_addrs(
    lab: Lab, relay: Relays, endpoints: Endpoints, side: str, count: int
) -> None:
    """Dozens of addresses that lead nowhere do not keep the one that does from being found."""
    hosts = moderate_pair(lab)
    add_addresses(hosts[side], count)
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    own = [ip for ip, _ in pair.side(side).endpoint.node_addr.direct_addresses]
    assert sum(ip.startswith("172.16.0.") for ip in own) == count
    await pair.go_direct(STEP)
    await pair.ping()
