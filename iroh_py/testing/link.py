"""One simulated link: what a packet suffers between an interface or a NAT and the next segment."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from typing import Literal

from iroh_py.testing.errors import TopologyError

#: One-way seconds of a link that nothing was said about: two links and back make the 20 ms of a good wired
#: line.
DEFAULT_DELAY = 0.005

#: Seconds that TCP waits at least before it sends again (Linux: TCP_RTO_MIN).
_TCP_MIN_RTO = 0.2

#: A TCP chunk that is lost this often in a row is handed over late rather than never: the path itself still
#: stands.
_TCP_TRIES = 15

#: Congestion experienced (RFC 3168 section 5).
_CE = 3

#: Payload bytes of one TCP segment, to turn the loss of packets into the loss of a chunk.
_TCP_SEGMENT = 1400


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCondition:
    """What one direction of a link does to packets.

    ``delay`` one way and ``jitter`` (uniform, added) in seconds; ``loss`` a share from 0 to 1; ``mtu`` in
    bytes with IP headers: larger datagrams vanish, or on the sender's own link with ``oversize="error"``
    raise EMSGSIZE; ``rate`` in bytes per second with ``queue`` seconds of buffer; ``reorder`` lets jitter
    swap packets (otherwise it delays those behind, as a real queue does); ``udp=False`` is a firewall that
    only lets TCP and ICMP pass. ``mark``: the share of ECN-capable packets that get CE; ``bleach`` clears the field.
    """

    delay: float = DEFAULT_DELAY
    jitter: float = 0.0
    loss: float = 0.0
    mtu: int = 1500
    oversize: Literal["drop", "error"] = "drop"
    rate: float | None = None
    queue: float = 0.2
    reorder: bool = False
    udp: bool = True
    mark: float = 0.0
    bleach: bool = False

    def __post_init__(self) -> None:
        if (
            self.delay < 0
            or self.jitter < 0
            or self.queue < 0
            or not 0 <= self.loss <= 1
            or not 0 <= self.mark <= 1
        ):
            raise TopologyError(
                f"a link cannot have {self}: times are not negative, loss and mark are shares from 0 to 1"
            )
        if self.mtu <= 0 or (self.rate is not None and self.rate <= 0):
            raise TopologyError(f"a link cannot have {self}: mtu and rate are above 0")


class Direction(enum.Enum):
    """Seen from the node that owns the link."""

    UP = "up"
    DOWN = "down"


class Lane:
    """One direction of a link: its condition, and what is on it."""

    def __init__(self, rng: random.Random) -> None:
        self.condition = LinkCondition()
        self._rng = rng
        self._busy_until = 0.0
        self._last_arrival = 0.0

    def carry(self, now: float, size: int) -> float | str:
        """When a UDP packet of ``size`` bytes (with headers) arrives, or in a word why it does not."""
        condition = self.condition
        if not condition.udp:
            return "udp-blocked"
        if size > condition.mtu:
            return "too-big"
        if condition.loss and self._rng.random() < condition.loss:
            return "lost"
        if condition.rate is not None and self._busy_until - now > condition.queue:
            return "queue-full"
        return self._arrival(now, size)

    def mark(self, ecn: int) -> int:
        """The ECN field (not 0) of a packet that the lane carries."""
        condition = self.condition
        if condition.bleach:
            return 0
        return _CE if condition.mark and self._rng.random() < condition.mark else ecn

    def carry_stream(self, now: float, size: int) -> float:
        """When ``size`` bytes of a TCP stream arrive, its retransmissions included."""
        loss = self.condition.loss
        wait = 0.0
        if loss:
            share = 1 - (1 - loss) ** (1 + size // _TCP_SEGMENT)
            tries = 1
            while tries < _TCP_TRIES and self._rng.random() < share:
                wait += max(_TCP_MIN_RTO, 4 * self.condition.delay)
                tries += 1
        return self._arrival(now + wait, size)

    def _arrival(self, now: float, size: int) -> float:
        condition = self.condition
        arrival = now + condition.delay
        if condition.rate is not None:
            self._busy_until = max(now, self._busy_until) + size / condition.rate
            arrival = self._busy_until + condition.delay
        if condition.jitter:
            arrival += self._rng.random() * condition.jitter
            if not condition.reorder:
                arrival = max(arrival, self._last_arrival)
            self._last_arrival = arrival
        return arrival


class Link:
    """Both directions of one link."""

    def __init__(self, rng: random.Random) -> None:
        self.up = Lane(rng)
        self.down = Lane(rng)

    def lane(self, direction: Direction) -> Lane:
        """One direction of it."""
        return self.up if direction is Direction.UP else self.down
