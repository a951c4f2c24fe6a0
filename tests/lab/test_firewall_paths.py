"""Firewalls that come and go under a connection: payload takes the relay, and goes straight again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from parity_kit import BOTH_ROLES, Pair, meet, moderate_pair
from transfer_kit import Transfer

from netns_fixtures import Firewall, Host, Lab, Router
from netns_fixtures.firewall import Direction
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays, RunningRelay

#: Seconds until payload flows again after a change that nobody is told of, and until it goes straight again
#: once it can: generous, as rounds of pings get rare while the relay carries everything, and machines are busy.
HEALED, UPGRADED = 20.0, 40.0
#: Bytes that have to come back.
SOME = 50_000


def start_relay(lab: Lab, relay: Relays) -> RunningRelay:
    """With TLS on port 443: what gets through when hardly anything does."""
    return relay(lab.host("relay", uplink=lab.router("relay-dc")), tls=True, by_name=True, port=443)


async def connected(lab: Lab, relay: Relays, endpoints: Endpoints, firewalls: dict[str, str]) -> Pair:
    """A pair behind moderate NATs, whose routers have these firewalls from the start."""
    hosts: dict[str, Host] = moderate_pair(lab)
    for role, firewall in firewalls.items():
        lab.routers[f"{role}-nat"].firewall.set(firewall)
    return await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay), within=HEALED)


@BOTH_ROLES
async def test_udp_blocked_mid_transfer_data_takes_the_relay_and_comes_back(
    lab: Lab, relay: Relays, endpoints: Endpoints, side: str
) -> None:
    """A direct transfer goes on over TCP while UDP is blocked, and straight again afterwards; no byte is lost."""
    pair = await connected(lab, relay, endpoints, {})
    await pair.go_direct(HEALED)
    router: Router = lab.routers[f"{side}-nat"]
    async with Transfer(pair.connection) as transfer:
        await transfer.more(SOME, HEALED)
        router.firewall.set("udp-blocked")
        await transfer.more(SOME, HEALED)
        await pair.client.until(lambda end: pair.connection.path.relayed, HEALED, "relayed path")
        router.firewall.clear()
        await transfer.until(lambda: pair.connection.path.direct, UPGRADED, "not direct again")
        await transfer.more(SOME, HEALED)


@BOTH_ROLES
async def test_only_https_data_takes_the_relay(
    lab: Lab, relay: Relays, endpoints: Endpoints, side: str
) -> None:
    """Behind a firewall with port 443 alone a node is online, and reached; the other side has all it wants."""
    pair = await connected(lab, relay, endpoints, {side: "https-only"})
    async with Transfer(pair.connection) as transfer:
        await transfer.more(SOME, HEALED)
    await pair.stay_relayed(0.5)


async def test_firewall_that_rejects_is_as_good_as_a_silent_one(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """ICMP "prohibited" for every datagram ends nothing: payload takes the relay."""
    pair = await connected(lab, relay, endpoints, {})
    await pair.go_direct(HEALED)
    async with Transfer(pair.connection) as transfer:
        await transfer.more(SOME, HEALED)
        lab.routers["client-nat"].firewall.set("udp-blocked", reject=True)
        await transfer.more(SOME, HEALED)
        await pair.client.until(lambda end: pair.connection.path.relayed, HEALED, "relayed path")


async def relay_carries_while(pair: Pair, block: Callable[[], None], unblock: Callable[[], None]) -> None:
    """A direct transfer goes on through the relay while something blocks it, and straight again afterwards."""
    await pair.go_direct(HEALED)
    async with Transfer(pair.connection) as transfer:
        await transfer.more(SOME, HEALED)
        block()
        await transfer.more(SOME, HEALED)
        await pair.client.until(lambda end: pair.connection.path.relayed, HEALED, "relayed path")
        unblock()
        await transfer.until(lambda: pair.connection.path.direct, UPGRADED, "not direct again")


async def test_hosts_own_firewall_blocks_udp_data_takes_the_relay(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Sending fails with EPERM then, as Linux has it: no reason to give up."""
    pair = await connected(lab, relay, endpoints, {})
    firewall = lab.hosts["client"].firewall
    await relay_carries_while(pair, lambda: firewall.set("no-udp"), firewall.clear)


async def test_block_between_two_nodes_data_takes_the_relay(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """They lose each other, both ways, and keep the rest of the internet."""
    pair = await connected(lab, relay, endpoints, {})
    firewall, peer = lab.routers["client-nat"].firewall, lab.hosts["server"]
    await relay_carries_while(pair, lambda: firewall.block(destination=peer), firewall.unblock)


async def test_block_of_one_direction_data_takes_the_relay(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """What the peer sends vanishes and what it is sent arrives: a path that works one way is no path."""
    pair = await connected(lab, relay, endpoints, {})
    firewall, peer = lab.routers["client-nat"].firewall, lab.hosts["server"]
    await relay_carries_while(pair, lambda: firewall.block(source=peer, one_way=True), firewall.unblock)


@pytest.mark.parametrize("direction", ["out", "in"])
async def test_large_packets_blocked_from_the_start_data_flows_directly(
    lab: Lab, relay: Relays, endpoints: Endpoints, direction: Direction
) -> None:
    """A path that carries 1260 bytes and no more is still a direct path."""
    hosts = moderate_pair(lab)
    lab.routers["client-nat"].firewall.set(Firewall.longer_than(1260, direction, protocol="udp"))
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay), within=HEALED)
    await pair.go_direct(HEALED)
    async with Transfer(pair.connection) as transfer:
        await transfer.more(SOME, HEALED)
    assert pair.connection.path.direct
