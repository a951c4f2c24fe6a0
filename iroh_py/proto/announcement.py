"""What watchers were told of the path that payload to one node takes first. Sans-IO."""

from __future__ import annotations

from iroh_py.events import PathChanged
from iroh_py.keys import NodeId
from iroh_py.proto.paths import Path, RelayPath
from iroh_py.proto.surroundings import Surroundings


class Announcement:
    """Tells a change once, however often it is looked at."""

    __slots__ = ("_node_id", "_shared", "_told")

    def __init__(self, node_id: NodeId, shared: Surroundings) -> None:
        self._node_id = node_id
        self._shared = shared
        self._told: Path | None = None

    def tell(self, now: float, path: Path | None, latency: float | None) -> None:
        """Payload takes this path now (None: none is known), of so many seconds there and back."""
        if path == self._told:
            return
        before, self._told = self._told, path
        change = PathChanged(
            now,
            self._node_id,
            "" if path is None else str(path),
            "" if before is None else str(before),
            relayed=isinstance(path, RelayPath),
            latency=latency,
        )
        self._shared.events.append(change)
