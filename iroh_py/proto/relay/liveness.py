"""When is a relay connection dead? A pure decision from what was sent and received (PROTOCOL.md 7.5, 11.5).

Theory of operation. TCP alone notices a half-open connection after minutes, so we ask with pings: at once
after the login, after 15 s of silence, and early when we sent data and nothing at all came back for a few
round trips. A ping without any answer makes the connection *suspect*: the driver then dials a replacement
while this one may still recover, so a slow link costs a dial and never a working connection. Only later is
it *dead*.

*Proof* is any sign that our bytes get through: bytes from the relay, or an acknowledgement by its TCP
(which the driver may know from the kernel). It postpones suspicion, but not without end: a stopped relay
process still has a kernel that acknowledges.
"""

from __future__ import annotations

import enum

#: Silence after which we ask. As iroh 0.35: below common TCP NAT timeouts, above any chatter.
PING_INTERVAL = 15.0
#: Answer time allowed to a ping is clamp(3 * rtt, MIN, MAX), as iroh 1.x (11.5).
MIN_PING_TIMEOUT = 0.5
MAX_PING_TIMEOUT = 5.0
#: Shortest time after unanswered data until we ask: a request/response application hears back within this on
#: nearly every path, and a one-way stream costs 2 pings of 13 bytes per second.
EARLY_PING_DELAY = 0.5
#: A ping without any proof for this long is the end.
DEAD_AFTER = 5.0
#: And without its pong for this long whatever the proof; until then it may sit behind the queue of a slow
#: link.
DEAD_DESPITE_PROOF = 15.0
#: Smoothing of the round-trip time as TCP does it (RFC 6298 section 2).
_ALPHA, _BETA = 1 / 8, 1 / 4


class Verdict(enum.Enum):
    """What the driver has to do now."""

    FINE = "fine"
    PING = "ping"
    SUSPECT = "suspect"
    DEAD = "dead"


class Liveness:
    """The clockwork of one connection; all times in seconds on one monotonic clock.

    ``rtt`` is a first estimate (the time that the upgrade took), so that even the first ping has a sensible
    deadline.
    """

    __slots__ = (
        "_last_received",
        "_ping_data",
        "_ping_due",
        "_ping_sent",
        "_proof",
        "_suspect_at",
        "_unanswered_since",
        "_variation",
        "_within",
        "confirmed",
        "latency",
        "rtt",
    )

    def __init__(self, now: float, rtt: float) -> None:
        self.rtt = rtt
        #: The last measured round trip of a ping in seconds, None before the first.
        self.latency: float | None = None
        #: Everything sent before this time certainly arrived: a later ping was answered.
        self.confirmed = now
        self._variation = rtt / 2
        self._last_received = now
        self._proof = now
        self._unanswered_since: float | None = None
        self._ping_due = now
        self._ping_sent: float | None = None
        self._ping_data = b""
        self._suspect_at = now
        #: Deadline of the next ping when somebody asked for a quick check.
        self._within: float | None = None

    @property
    def ping_timeout(self) -> float:
        """How long a ping may take before the connection is suspect."""
        expected = max(3 * self.rtt, self.rtt + 4 * self._variation)
        return min(max(expected, MIN_PING_TIMEOUT), MAX_PING_TIMEOUT)

    @property
    def last_received(self) -> float:
        """When bytes last arrived from the relay."""
        return self._last_received

    @property
    def waiting_since(self) -> float | None:
        """When the ping that is still unanswered was sent."""
        return self._ping_sent

    def suspect(self, now: float) -> bool:
        """Whether a ping waits for longer than it should."""
        return self._ping_sent is not None and now >= self._suspect_at

    def handle_sent(self, now: float) -> None:
        """Data left for the relay."""
        if self._unanswered_since is None:
            self._unanswered_since = now

    def handle_received(self, now: float) -> None:
        """Bytes came from the relay: it lives, whatever they say."""
        self._last_received = now
        self._ping_due = now + PING_INTERVAL
        self._unanswered_since = None
        self.handle_proof(now)

    def handle_proof(self, at: float) -> None:
        """Our bytes got through at this time, the answer is only late."""
        self._proof = max(self._proof, at)
        self._suspect_at = max(self._suspect_at, at + self.ping_timeout)

    def handle_ping_sent(self, now: float, data: bytes) -> None:
        """The ping that PING asked for was written."""
        self._ping_sent, self._ping_data = now, data
        self._suspect_at = now + (self.ping_timeout if self._within is None else self._within)
        self._within = None

    def handle_pong(self, now: float, data: bytes) -> None:
        """A pong arrived; one that answers no ping of ours is nothing but bytes."""
        if self._ping_sent is None or data != self._ping_data:
            return
        sample = now - self._ping_sent
        if self.latency is None:
            self.rtt, self._variation = sample, sample / 2
        else:
            self._variation += _BETA * (abs(self.rtt - sample) - self._variation)
            self.rtt += _ALPHA * (sample - self.rtt)
        self.latency = sample
        self.confirmed = self._ping_sent
        self._ping_sent = None

    def probe(self, now: float, within: float) -> None:
        """Ask at once; suspicious unless something comes back ``within`` seconds (network change)."""
        if self._ping_sent is None:
            self._ping_due, self._within = now, within
        else:
            self._suspect_at = min(self._suspect_at, now + within)

    def poll(self, now: float) -> Verdict:
        """What to do now; PING stays until ``handle_ping_sent``."""
        if self._ping_sent is None:
            return Verdict.PING if now >= self._next_ping() else Verdict.FINE
        if now >= self._dead_at():
            return Verdict.DEAD
        return Verdict.SUSPECT if now >= self._suspect_at else Verdict.FINE

    def poll_timeout(self, now: float) -> float:
        """When to poll again."""
        if self._ping_sent is None:
            return self._next_ping()
        return self._suspect_at if now < self._suspect_at else self._dead_at()

    def _next_ping(self) -> float:
        if self._unanswered_since is None:
            return self._ping_due
        early = self._unanswered_since + max(3 * self.rtt, EARLY_PING_DELAY)
        return min(self._ping_due, early)

    def _dead_at(self) -> float:
        sent = self._ping_sent
        assert sent is not None
        return min(max(sent, self._proof) + DEAD_AFTER, sent + DEAD_DESPITE_PROOF)
