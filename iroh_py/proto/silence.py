"""What a node still owes us an answer to, and when the absence of it means something.

Silence is judged in steps, all measured from the first unanswered byte. With a relay beside, that is asked whether it
still works: what silences a path (a NAT that restarted) often cuts its TCP too, and dialling again takes a round trip
or two. Then the path in use is doubted. A peer that answers pings but not data is asked ever less often.
"""

from __future__ import annotations

from collections.abc import Callable

#: How long an answer to data or to a heartbeat may take at least, in seconds: a peer may have to think.
DATA_PATIENCE = 0.15
PONG_PATIENCE = 0.25
#: The same where doubt costs little, because payload then takes the relay too, in seconds.
RELAYED_PATIENCE = 0.06
#: An answer that is late by so much shows that a path which was doubted works worse than it should, in seconds.
LATE = 0.05
#: An answer is missed after this at the latest, in seconds: the promise for breaks that nobody reports.
MAX_PATIENCE = 1.0
#: Beyond a round trip, when the relay is asked: below the first doubt, above what a peer may hold its acknowledgement
#: back (25 ms, RFC 9000 section 13.2.1).
CHECK_MARGIN = 0.03
#: A timer that is so many seconds late means that this process stood still, and with it perhaps what it waits for.
STALL = 0.03
#: The relay is asked for that reason at most this often, in seconds.
CHECK_INTERVAL = 1.0


class Silence:
    """The clockwork of one node's silence; times are seconds on the endpoint's clock.

    ``ways()``: the round-trip seconds of the path in use (None before they are known), and whether a relay could carry
    payload instead.
    """

    __slots__ = (
        "_checked_at",
        "_excused",
        "_fruitless",
        "_heard_at",
        "_ways",
        "awaiting",
        "pong_due",
        "unanswered",
    )

    def __init__(self, ways: Callable[[], tuple[float | None, bool]]) -> None:
        self._ways = ways
        #: Since when an answer to data is awaited and nothing came.
        self.awaiting: float | None = None
        #: When the oldest data was sent that is not acknowledged, whatever else came since.
        self.unanswered: float | None = None
        #: When the pong of a heartbeat is missed.
        self.pong_due: float | None = None
        self._fruitless = 0
        self._excused = False
        self._heard_at = 0.0
        self._checked_at: float | None = None

    # --- what happens ---

    def handle_sent(self, now: float, *, wants_answer: bool) -> None:
        """Payload went out."""
        if not wants_answer:
            self.awaiting = self.unanswered = None
            return
        if self.awaiting is None:
            self.awaiting = now
        if self.unanswered is None:
            self.unanswered = now

    def handle_payload(self, now: float) -> None:
        """Payload came in: whatever was awaited, the peer speaks."""
        self.awaiting = None
        self._fruitless = 0
        self._excused = False
        self._heard_at = now

    def handle_heartbeat(self, now: float) -> None:
        """A heartbeat ping went out."""
        if self.pong_due is None:
            self.pong_due = now + self._patience(PONG_PATIENCE)

    def handle_kick(self, now: float) -> int:
        """Everything is sent once more; returns how many times in a row, without an answer between."""
        self._fruitless += 1
        self.begin_anew(now)
        return self._fruitless

    def excuses(self, now: float, due: float) -> bool:
        """Whether we were not there to hear when the answer was due, so that it gets its time once more; only once."""
        if self._excused or now - due < STALL:
            return False
        self._excused = True
        self.begin_anew(now)
        if self.unanswered is not None:
            self.unanswered = now
        if self.pong_due is not None:
            self.pong_due = now + self._patience(PONG_PATIENCE)
        return True

    def begin_anew(self, now: float) -> None:
        """What is awaited was lost for a known reason: the wait for an answer begins now."""
        if self.awaiting is not None:
            self.awaiting = now

    # --- what follows ---

    def deadline(self) -> float | None:
        """When the path in use is to be doubted; None if nothing is awaited."""
        times = []
        if self.awaiting is not None:
            # A peer that answers pings but not data (it still sends to our old address) is asked ever less often.
            slack = 2 ** min(self._fruitless, 3)
            times.append(self.awaiting + min(self._patience(DATA_PATIENCE) * slack, MAX_PATIENCE))
        if self.pong_due is not None:
            times.append(self.pong_due)
        return min(times, default=None)

    def overdue(self, now: float) -> bool:
        """Whether data has been waiting for an answer longer than a working path takes."""
        return self.awaiting is not None and now - self.awaiting > self._patience(LATE)

    def quiet(self, seconds: float) -> bool:
        """Whether a path that said nothing for so long is silent rather than slow."""
        return seconds > self._patience(DATA_PATIENCE)

    def check_at(self) -> float | None:
        """When to ask the relay whether it works, because an answer to data is late; None if there is no reason."""
        latency, relayed = self._ways()
        since = self.unanswered
        if since is None or latency is None or not relayed or self._fruitless:
            return None
        if self._checked_at is not None and since < self._checked_at + CHECK_INTERVAL:
            return None
        # Data that a queue on the way delays is no reason while something still comes.
        return max(since + latency, self._heard_at) + CHECK_MARGIN

    def handle_check(self, now: float) -> None:
        """The relay was asked."""
        self._checked_at = now

    def confirms(self, now: float) -> bool:
        """Whether a relay that breaks now does so for the reason for which answers stay away."""
        asked = self._checked_at
        return asked is not None and self._heard_at < asked and now - asked < CHECK_INTERVAL

    def _patience(self, floor: float) -> float:
        """How long an answer may take before it is missed: a few round trips, within reason."""
        latency, relayed = self._ways()
        if latency is None:
            return floor
        if relayed:
            return min(max(2 * latency + 0.04, min(floor, RELAYED_PATIENCE)), MAX_PATIENCE)
        return min(max(3 * latency + 0.06, floor), MAX_PATIENCE)
