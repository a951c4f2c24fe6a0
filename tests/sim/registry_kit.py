"""Two simulated hosts with endpoints, and a registry in a dictionary."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from heal_kit import ALPN, serve

from iroh_py import Endpoint, EndpointConfig, SecretKey
from iroh_py.discovery import (
    DiscoveryService,
    Found,
    Site,
)
from iroh_py.keys import NodeId
from iroh_py.proto.node_info import NodeInfo
from iroh_py.testing import SimHost, SimNet

#: Links of 10 ms each way, so a round trip is 40 ms.
DELAY = 0.01
RTT = 4 * DELAY


CLIENT, SERVER = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)


@dataclass
class Book(DiscoveryService):
    """A discovery that counts its questions and answers what it is told to, after a delay."""

    nodes: dict[NodeId, NodeInfo] = field(default_factory=dict)
    delay: float = 0.0
    error: Exception | None = None
    asked: list[float] = field(default_factory=list)
    published: list[tuple[float, NodeInfo]] = field(default_factory=list)
    closed: bool = False
    provenance = "book"

    async def start(self, site: Site) -> DiscoveryService:
        return self

    def publish(self, info: NodeInfo) -> None:
        self.published.append((asyncio.get_running_loop().time(), info))

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if node_id in self.nodes:
            yield Found(self.nodes[node_id], self.provenance)

    async def close(self) -> None:
        self.closed = True


def hosts(seed: int = 1) -> tuple[SimNet, SimHost, SimHost]:
    net = SimNet(seed=seed)
    client, server = net.host("client", "198.51.100.10"), net.host("server", "198.51.100.20")
    net.link(client, delay=DELAY)
    net.link(server, delay=DELAY)
    return net, client, server


@contextlib.asynccontextmanager
async def bound(
    host: SimHost, secret: SecretKey, *discovery: object, **options: object
) -> AsyncIterator[Endpoint]:
    """An endpoint that echoes, with these discoveries."""
    config = EndpointConfig(discovery=discovery, **options)  # type: ignore[arg-type]
    rng = random.Random(secret.seed[0])
    endpoint = await Endpoint.bind(network=host, secret_key=secret, alpns=[ALPN], config=config, rng=rng)
    service = asyncio.create_task(serve(endpoint))
    try:
        yield endpoint
    finally:
        await endpoint.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
