"""Addresses from a map in memory, for what the application knows by other means (PROTOCOL 9.7)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from iroh_py.addr import NodeAddr, NodeTicket
from iroh_py.discovery.base import DiscoveryService, Found, Site
from iroh_py.keys import NodeId
from iroh_py.proto.node_info import NodeInfo

PROVENANCE = "static_discovery"


class StaticDiscovery:
    """A map from node id to addresses; changes count from the next question on.

    ``shared``: endpoints that are given this object enter themselves, which makes it a meeting place for
    endpoints of one process.
    """

    def __init__(
        self, nodes: Iterable[NodeInfo | NodeAddr | NodeTicket] = (), *, shared: bool = False
    ) -> None:
        self._nodes: dict[NodeId, NodeInfo] = {}
        self._shared = shared
        for node in nodes:
            self.set(node)

    def set(self, node: NodeInfo | NodeAddr | NodeTicket) -> None:
        """Enter a node, in place of what was known of it."""
        info = _info(node)
        self._nodes[info.node_id] = info

    def remove(self, node_id: NodeId) -> None:
        """Forget a node; one that is not there is fine."""
        self._nodes.pop(node_id, None)

    def find(self, node_id: NodeId) -> NodeInfo | None:
        """What is known of a node."""
        return self._nodes.get(node_id)

    async def start(self, site: Site) -> DiscoveryService:
        """Begin to work for an endpoint."""
        return _StaticService(self, shared=self._shared)


class _StaticService(DiscoveryService):
    provenance = PROVENANCE

    def __init__(self, source: StaticDiscovery, *, shared: bool) -> None:
        self._source = source
        self._shared = shared

    def publish(self, info: NodeInfo) -> None:
        if self._shared:
            self._source.set(info)

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        info = self._source.find(node_id)
        if info is not None:
            yield Found(info, self.provenance)


def _info(node: NodeInfo | NodeAddr | NodeTicket) -> NodeInfo:
    if isinstance(node, NodeInfo):
        return node
    addr = node.addr if isinstance(node, NodeTicket) else node
    return NodeInfo(addr.node_id, addr.relay_url, addr.direct_addresses)
