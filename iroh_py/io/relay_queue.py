"""Datagrams on their way to a relay: bounded, oldest dropped first, remembered for a while when sent."""

from __future__ import annotations

from collections import deque

from iroh_py.proto.disco import MAGIC as DISCO_MAGIC

#: Room for a burst of a full congestion window; more would only be older when it arrives.
MAX_DATAGRAMS = 1024
MAX_BYTES = 1 << 20
#: A datagram that waited longer than this for a connection is worth nothing to QUIC: it was sent again (7.5).
MAX_AGE = 3.0
#: What is kept of the past: enough for a handshake, a burst of disco pings and some probes.
_RECENT_BATCHES = 64
_RECENT_BYTES = 128 * 1024

#: Destination node id and datagrams.
Batch = tuple[bytes, list[bytes]]


class DatagramQueue:
    """Outgoing datagrams of one relay, in order, across reconnects. ``dropped`` counts what was lost here.

    What was sent is remembered for a moment: TCP may have taken it without ever delivering it, and both QUIC
    and disco tolerate a datagram twice. ``requeue`` puts that back for the next connection.
    """

    __slots__ = ("_bytes", "_count", "_queue", "_recent", "_recent_bytes", "dropped")

    def __init__(self) -> None:
        self._queue: deque[tuple[float, bytes, list[bytes], int]] = deque()
        self._recent: deque[tuple[float, bytes, list[bytes], int]] = deque()
        self._recent_bytes = 0
        self._count = 0
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    def put(self, now: float, node_id: bytes, datagrams: list[bytes]) -> None:
        """Append datagrams for a node; the oldest of all make room."""
        size = sum(map(len, datagrams))
        self._queue.append((now, node_id, datagrams, size))
        self._count += len(datagrams)
        self._bytes += size
        while self._queue and (self._count > MAX_DATAGRAMS or self._bytes > MAX_BYTES):
            self.dropped += self._pop()

    def take(self, now: float, max_bytes: int) -> list[Batch]:
        """The next datagrams, at least one batch if any, neighbours for one node joined; sent now."""
        batches: list[Batch] = []
        taken = 0
        while self._queue and taken < max_bytes:
            _, node_id, datagrams, size = self._queue[0]
            self._pop()
            self._remember(now, node_id, datagrams, size)
            taken += size
            if batches and batches[-1][0] == node_id:
                batches[-1] = (node_id, batches[-1][1] + datagrams)
            else:
                batches.append((node_id, datagrams))
        return batches

    def requeue(self, now: float, since: float) -> None:
        """Queue again what was sent after ``since``, before what is waiting; forget what is too old."""
        self.drop_old(now)
        for sent, node_id, datagrams, size in reversed(self._recent):
            if sent < max(since, now - MAX_AGE):
                break
            if self._count + len(datagrams) > MAX_DATAGRAMS or self._bytes + size > MAX_BYTES:
                break
            self._queue.appendleft((now, node_id, datagrams, size))
            self._count += len(datagrams)
            self._bytes += size
        self._recent.clear()
        self._recent_bytes = 0

    def drop_old(self, now: float) -> None:
        """Drop what waited too long for a connection."""
        while self._queue and self._queue[0][0] < now - MAX_AGE:
            self.dropped += self._pop()

    def forget_disco(self) -> None:
        """The network changed: disco messages in here speak of addresses that are gone."""
        for queue in (self._queue, self._recent):
            kept = [entry for entry in map(_without_disco, queue) if entry[2]]
            queue.clear()
            queue.extend(kept)
        self._count = sum(len(entry[2]) for entry in self._queue)
        self._bytes = sum(entry[3] for entry in self._queue)
        self._recent_bytes = sum(entry[3] for entry in self._recent)

    def _pop(self) -> int:
        _, _, datagrams, size = self._queue.popleft()
        self._count -= len(datagrams)
        self._bytes -= size
        return len(datagrams)

    def _remember(self, now: float, node_id: bytes, datagrams: list[bytes], size: int) -> None:
        self._recent.append((now, node_id, datagrams, size))
        self._recent_bytes += size
        while len(self._recent) > _RECENT_BATCHES or self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= self._recent.popleft()[3]


def _without_disco(entry: tuple[float, bytes, list[bytes], int]) -> tuple[float, bytes, list[bytes], int]:
    at, node_id, datagrams, _ = entry
    kept = [datagram for datagram in datagrams if not datagram.startswith(DISCO_MAGIC)]
    return at, node_id, kept, sum(map(len, kept))
