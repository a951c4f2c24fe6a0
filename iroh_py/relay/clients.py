"""Who is connected to a relay, under which node id, and who has to be told when a node leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iroh_py.relay.session import Session


class Entry:
    """All connections of one node id: the active one, and older parked ones (newest last)."""

    __slots__ = ("active", "parked", "sent_to")

    def __init__(self, active: Session) -> None:
        self.active = active
        self.parked: list[Session] = []
        #: Nodes that this node sent packets to, in order of the first one.
        self.sent_to: dict[bytes, None] = {}


class Clients:
    """The routing table: node id (32 bytes) to entry. ``parked`` and ``gone_notices`` bound each entry."""

    def __init__(self, *, parked: int, gone_notices: int) -> None:
        self._parked = parked
        self._gone_notices = gone_notices
        self.entries: dict[bytes, Entry] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, node_id: bytes, client: Session) -> tuple[Entry, bool]:
        """Make this the active connection of a node; also whether it took the place of another."""
        entry = self.entries.get(node_id)
        if entry is None:
            entry = self.entries[node_id] = Entry(client)
            return entry, False
        old, entry.active = entry.active, client
        if old.parkable:
            entry.parked.append(old)
            old.tell_active(False)
            if len(entry.parked) > self._parked:
                entry.parked.pop(0).close("too many connections of one node")
        else:
            old.close("the node connected again")
        return entry, True

    def remove(self, node_id: bytes, client: Session) -> list[Session]:
        """Forget a connection; the clients to tell when it was the node's last one."""
        entry = self.entries.get(node_id)
        if entry is None:
            return []
        if client is not entry.active:
            if client in entry.parked:
                entry.parked.remove(client)
            return []
        if entry.parked:
            entry.active = entry.parked.pop()
            entry.active.tell_active(True)
            return []
        del self.entries[node_id]
        return [self.entries[other].active for other in entry.sent_to if other in self.entries]

    def note_sent(self, entry: Entry, node_id: bytes) -> None:
        """Remember that a node sent something to another."""
        if len(entry.sent_to) >= self._gone_notices:
            del entry.sent_to[next(iter(entry.sent_to))]
        entry.sent_to[node_id] = None
