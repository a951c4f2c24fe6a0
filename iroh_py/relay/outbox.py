"""What waits to be written to one client: bounded, packets behind control frames, never blocking anybody."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iroh_py.relay.metrics import Counters

#: Bytes per write: enough to make the system call's cost disappear, little enough that a client that stops
#: reading holds only this much beyond its queue.
_CHUNK = 64 * 1024


class Outbox:
    """Two queues before a transport. ``push`` refuses what does not fit; ``flush`` writes while it may."""

    __slots__ = (
        "_control",
        "_counters",
        "_max_bytes",
        "_max_packets",
        "_packets",
        "paused",
        "queued",
        "transport",
    )

    def __init__(
        self, transport: asyncio.Transport, counters: Counters, *, packets: int, max_bytes: int
    ) -> None:
        self.transport = transport
        self._counters = counters
        self._max_packets = packets
        self._max_bytes = max_bytes
        self._control: deque[bytes] = deque()
        self._packets: deque[bytes] = deque()
        #: Bytes in the packet queue.
        self.queued = 0
        self.paused = False

    def push(self, frame: bytes) -> bool:
        """Queue a packet unless the queue is full."""
        if len(self._packets) >= self._max_packets or self.queued + len(frame) > self._max_bytes:
            return False
        self._packets.append(frame)
        self.queued += len(frame)
        return True

    def push_control(self, frame: bytes) -> bool:
        """Queue a control frame ahead of all packets; refused when 512 of them wait (7.4)."""
        if len(self._control) >= self._max_packets:
            return False
        self._control.append(frame)
        return True

    def flush(self) -> None:
        """Write as long as the transport takes it; the rest waits for ``resume``."""
        if self.paused or self.transport.is_closing():
            return
        if self._control:
            self._write(b"".join(self._control))
            self._control.clear()
        if self.queued <= _CHUNK:
            if self._packets:
                data = b"".join(self._packets)
                self._packets.clear()
                self.queued = 0
                self._write(data)
            return
        while self._packets and not self.paused:
            self._write(self._next_chunk())

    def _next_chunk(self) -> bytes:
        size = 0
        parts = []
        while self._packets and size < _CHUNK:
            frame = self._packets.popleft()
            size += len(frame)
            parts.append(frame)
        self.queued -= size
        return b"".join(parts)

    def _write(self, data: bytes) -> None:
        self._counters.bytes_out += len(data)
        self.transport.write(data)
