"""The pings to one node that wait for their pong, and the rhythm in which rounds of pings are repeated."""

from __future__ import annotations

from typing import NamedTuple

from iroh_py.proto.paths import Path

#: A pong later than this is no answer any more (PROTOCOL 3.1, "ping timeout"), in seconds.
PING_TIMEOUT = 5.0
#: Pings that may be open towards one node: 64 paths in four overlapping rounds.
MAX_OPEN_PINGS = 256
#: Transaction ids remembered per node, so that a replayed ping is recognised.
MAX_SEEN_PINGS = 256


class OpenPing(NamedTuple):
    """A ping that was sent: where to, when, and the size of its datagram in bytes."""

    path: Path
    at: float
    size: int


class OpenPings:
    """Pings in flight, by transaction id; bounded, oldest out first."""

    def __init__(self) -> None:
        self._open: dict[bytes, OpenPing] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, tx_id: bytes, ping: OpenPing) -> None:
        """Remember a ping that goes out now."""
        while len(self._open) >= MAX_OPEN_PINGS:
            del self._open[next(iter(self._open))]
        self._open[tx_id] = ping

    def answer(self, now: float, tx_id: bytes) -> OpenPing | None:
        """The ping that a pong answers, if it is open and not too old; it is closed by this."""
        ping = self._open.pop(tx_id, None)
        return ping if ping is not None and now - ping.at <= PING_TIMEOUT else None

    def expire(self, now: float) -> list[OpenPing]:
        """Remove and return the pings that nobody answered in time (insertion order is time order)."""
        lost = []
        for tx_id, ping in list(self._open.items()):
            if now - ping.at <= PING_TIMEOUT:
                break
            del self._open[tx_id]
            lost.append(ping)
        return lost

    def next_expiry(self) -> float | None:
        """When the oldest open ping expires."""
        first = next(iter(self._open.values()), None)
        return None if first is None else first.at + PING_TIMEOUT + 0.001


class SeenPings:
    """Transaction ids of pings that were received; a second use is a replay."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}

    def is_new(self, tx_id: bytes) -> bool:
        """Whether this id is seen for the first time; remembers it."""
        if tx_id in self._seen:
            return False
        while len(self._seen) >= MAX_SEEN_PINGS:
            del self._seen[next(iter(self._seen))]
        self._seen[tx_id] = None
        return True


#: Seconds after the cause at which rounds of pings go out. Dense at first, because a link that just came up loses
#: the first packets (neighbour resolution, a bridge port that still learns), and the promise is 1 RTT + 50 ms.
ROUND_OFFSETS = (0.0, 0.015, 0.035, 0.07, 0.12, 0.2, 0.35, 0.6, 1.0)
#: Then one round in this many seconds while data waits: below the promise of 1 s for a break that ends silently.
ROUND_INTERVAL = 0.9
#: Rounds while nothing waits: the ping interval is the promise then.
IDLE_ROUND_INTERVAL = 4.5
#: Bytes around the padding of a ping: 78 of disco, 46 of the message.
PING_OVERHEAD = 124
#: A pong with an IPv4 or IPv6 address: 78 of disco, 33 of the message.
PONG_SIZE = 111
#: Seconds of rounds without success after which a pair whose data the relay carries asks at the idle rhythm only.
CALM_AFTER = 10.0
#: A new cause restarts the dense rounds at most this often, so that a storm of changes makes no storm of pings.
RESTART_INTERVAL = 0.05


class ProbeRhythm:
    """When the next round of pings is due while a path is wanted."""

    __slots__ = ("_started", "_step", "due", "why")

    def __init__(self) -> None:
        self.due: float | None = None
        self.why = ""
        self._started: float | None = None
        self._step = 0

    @property
    def running(self) -> bool:
        """Whether rounds are going on."""
        return self.due is not None

    @property
    def is_first_round(self) -> bool:
        """Whether the round that is due is the first one since its cause."""
        return self._step == 0

    def age(self, now: float) -> float:
        """Seconds since the last cause."""
        return 0.0 if self._started is None else now - self._started

    def start(self, now: float, why: str) -> None:
        """Begin dense rounds, for a reason that is worth telling."""
        self.why = why
        if self._started is not None and now - self._started < RESTART_INTERVAL and self.running:
            return
        self._started = now
        self._step = 0
        self.due = now

    def advance(self, now: float, *, urgent: bool) -> None:
        """A round was sent: set the time of the next one."""
        self._step += 1
        if self._started is not None and self._step < len(ROUND_OFFSETS):
            self.due = max(now, self._started + ROUND_OFFSETS[self._step])
        else:
            self.due = now + (ROUND_INTERVAL if urgent else IDLE_ROUND_INTERVAL)

    def hasten(self, now: float) -> None:
        """Data began to wait while rounds were slow: bring the next one near."""
        if self.due is not None:
            self.due = min(self.due, now + ROUND_INTERVAL)

    def stop(self) -> None:
        """No more rounds."""
        self.due = None
        self._step = 0
