"""When discovery is asked again about nodes that we talk to and cannot reach any more, sans IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iroh_py.keys import NodeId
from iroh_py.proto.node_state import NodeState

#: Seconds without a way after which the first question is asked (as upstream before it resolves known
#: addresses), and from each question to the next. The last one repeats: a node that is gone costs a question
#: each half minute until its connection ends.
FIRST_ASK = 0.5
ASK_INTERVALS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
#: How long a connected relay vouches for a node that was heard through it: beyond the heartbeat (5 s) and its
#: repetition.
RELAY_PATIENCE = 10.0
#: Nodes about which questions are open; further ones wait for their turn.
MAX_OPEN = 64
#: How often nodes without a way are looked at, in seconds.
LOOK_INTERVAL = 0.25


@dataclass(slots=True)
class _Search:
    """One node without a way."""

    due: float
    asked: int = 0


class AskAgain:
    """Decides about whom to ask. ``now`` is seconds on the endpoint's clock."""

    def __init__(self) -> None:
        self._searches: dict[NodeId, _Search] = {}

    def due(self, now: float, nodes: Iterable[NodeState]) -> list[NodeId]:
        """The nodes to ask about now; it forgets those that were found."""
        # A dict and not a set: its order, and so a simulated run, is the same each time.
        lost = dict.fromkeys(node.node_id for node in nodes if is_lost(now, node))
        for node_id in [one for one in self._searches if one not in lost]:
            del self._searches[node_id]
        out = []
        for node_id in lost:
            search = self._searches.get(node_id)
            if search is None:
                if len(self._searches) < MAX_OPEN:
                    self._searches[node_id] = _Search(now + FIRST_ASK)
            elif now >= search.due:
                search.due = now + ASK_INTERVALS[min(search.asked, len(ASK_INTERVALS) - 1)]
                search.asked += 1
                out.append(node_id)
        return out

    def is_searched(self, node_id: NodeId) -> bool:
        """Whether a node has no way at the moment."""
        return node_id in self._searches

    def hasten(self, now: float) -> None:
        """Our network is another one: what discovery could not answer there it may answer here."""
        for search in self._searches.values():
            search.due = min(search.due, now + FIRST_ASK)
            search.asked = 0


def is_troubled(node: NodeState) -> bool:
    """Whether a node with connections has no undoubted direct path."""
    return node.sessions > 0 and not node.steady


def is_lost(now: float, node: NodeState) -> bool:
    """Whether a node with connections is reachable neither directly nor through its relay, for all we know."""
    if node.sessions == 0 or (node.best is not None and node.suspect_since is None):
        return False
    relay = node.relay
    if relay is None or not node.shared.relay_connected(relay.path.url):  # type: ignore[union-attr]
        return True
    return relay.quiet_for(now) > RELAY_PATIENCE
