"""What a discovery is: a way to publish where we are and to find out where others are (PROTOCOL 9.1).

A :class:`Discovery` stands in ``EndpointConfig.discovery`` and may be given to several endpoints; each
endpoint starts it once and gets a :class:`DiscoveryService` of its own. One class can be both::

    class Book(DiscoveryService):
        provenance = "book"

        async def start(self, site: Site) -> DiscoveryService:
            return self

        async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
            yield Found(NodeInfo(node_id, direct_addresses=frozenset({("192.0.2.1", 4433)})), "book")
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Network, NetworkState
from iroh_py.proto.node_info import NodeInfo


@dataclass(frozen=True, slots=True)
class Found:
    """What a service found out about a node; ``provenance`` is the service's name."""

    info: NodeInfo
    provenance: str


@dataclass(frozen=True, slots=True)
class Site:
    """The endpoint that a service works for.

    ``heard`` takes what a service learns about nodes without having been asked.
    """

    network: Network
    secret_key: SecretKey
    rng: random.Random
    heard: Callable[[Found], None]


@dataclass(slots=True)
class DiscoveryCounters:
    """What a service did so far. Bytes from the network that break a rule are counted, never raised."""

    asked: int = 0
    found: int = 0
    #: Questions that came to nothing because of the network, or of an answer that was no good.
    failed: int = 0
    #: Datagrams and answers that did not parse, did not verify, or were not what was asked for.
    malformed: int = 0
    published: int = 0
    publish_failed: int = 0


class DiscoveryService:
    """A discovery at work for one endpoint. What a subclass does not override does nothing."""

    #: Named beside everything that this service finds.
    provenance: str = ""

    def publish(self, info: NodeInfo) -> None:
        """Our own addresses are these from now on. Returns at once; the newest call counts."""

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        """Yield what is found about a node, as it comes; end when no more will come.

        Raises DiscoveryError for an answer that breaks a rule, OSError (TimeoutError) if there was none.
        """
        return
        yield

    def handle_network_change(self, state: NetworkState) -> None:
        """Our network is another one: what failed before may work now."""

    async def close(self) -> None:
        """Stop; returns when tasks and sockets are gone."""


@runtime_checkable
class Discovery(Protocol):
    """What stands in ``EndpointConfig.discovery``."""

    async def start(self, site: Site) -> DiscoveryService:
        """Begin to work for an endpoint. Raises LocalProtocolError, OSError if that is impossible there."""
        ...
