"""The newest signed packet of each node that published one (PROTOCOL 9.4)."""

from __future__ import annotations

from iroh_py.keys import NodeId
from iroh_py.proto.pkarr import SignedPacket

#: Packets kept: some 12 MB. Anybody can make keys and publish, so the number needs an end.
MAX_PACKETS = 10_000


class PacketStore:
    """Signed packets by node. When it is full, the one that was published longest ago makes room."""

    def __init__(self, limit: int = MAX_PACKETS) -> None:
        self._limit = limit
        self._packets: dict[NodeId, SignedPacket] = {}

    def __len__(self) -> int:
        return len(self._packets)

    def get(self, node_id: NodeId) -> SignedPacket | None:
        """The packet of a node."""
        return self._packets.get(node_id)

    def put(self, packet: SignedPacket) -> bool:
        """Keep a packet; False if a newer one is there already. The same one again is fine."""
        known = self._packets.pop(packet.node_id, None)
        outdated = known is not None and known != packet and not packet.is_newer_than(known)
        self._packets[packet.node_id] = known if outdated and known is not None else packet
        if len(self._packets) > self._limit:
            del self._packets[next(iter(self._packets))]
        return not outdated
