"""What happened in a simulated network: one frozen line per packet and per change."""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from iroh_py.network import Addr

#: The newest events that a trace keeps; a minute of a busy test is about 50 000.
TRACE_LIMIT = 200_000


class TraceEvent(NamedTuple):
    """One packet's end, or one change of the network.

    A named tuple, not a dataclass: there is one per packet, and it is made three times as fast. ``kind`` is
    "udp", "tcp" or "change"; ``node`` the host that sent, or the node that changed; ``src`` and ``dst`` the
    addresses as the sender wrote them; ``size`` the payload in bytes; ``fate`` "delivered", or in a word why
    not, or the change.
    """

    time: float
    kind: str
    node: str
    src: Addr | None
    dst: Addr | None
    size: int
    fate: str


class Trace:
    """The newest events and a count of all."""

    def __init__(self, limit: int = TRACE_LIMIT) -> None:
        self.events: deque[TraceEvent] = deque(maxlen=limit)
        #: How often each (kind, fate) happened, from the start.
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(
        self, time: float, kind: str, node: str, src: Addr | None, dst: Addr | None, size: int, fate: str
    ) -> None:
        """Record one event."""
        self.events.append(TraceEvent(time, kind, node, src, dst, size, fate))
        self.counts[kind, fate] += 1
