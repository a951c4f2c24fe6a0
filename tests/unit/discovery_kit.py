"""What tests of discovery share: keys, a site on loopback, and results as a list."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

from iroh_py.discovery import DiscoveryService, Found, Site
from iroh_py.io.system import SystemNetwork
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Addr, Network
from iroh_py.proto.node_info import NodeInfo
from iroh_py.relay_url import RelayUrl

#: Nothing on loopback takes this long unless it is broken.
PATIENCE = 5.0
RELAY = RelayUrl("http://relay.example:3340/a=b=c")


def key(number: int) -> SecretKey:
    """A fixed key per number."""
    return SecretKey(bytes([number]) * 32)


def info(
    number: int, *addresses: Addr, relay: RelayUrl | None = None, user_data: str | None = None
) -> NodeInfo:
    """What the node of that key publishes."""
    return NodeInfo(key(number).node_id, relay, frozenset(addresses), user_data)


def site(number: int = 1, network: Network | None = None, heard: list[Found] | None = None) -> Site:
    """An endpoint's surroundings, with the key of that number."""
    found = [] if heard is None else heard
    return Site(network or SystemNetwork(), key(number), random.Random(number), found.append)


async def ask(service: DiscoveryService, node_id: NodeId) -> list[Found]:
    """Everything that a service finds."""
    async with asyncio.timeout(PATIENCE), aclosing(service.resolve(node_id)) as results:
        return [found async for found in results]


async def until(condition: object, within: float = PATIENCE) -> None:
    """Wait for a condition, a function without arguments, with a deadline."""
    assert callable(condition)
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # counters and stores have no event to wait for
            await asyncio.sleep(0.005)
