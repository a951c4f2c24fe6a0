"""Which relay is our home: the nearest, kept while it is near enough, left when it is dead (PROTOCOL.md 5.6).

Differences to the original: hysteresis always applies (there, every full report may move the home relay); a
change of network forgets all older latencies (trap 13); a relay whose latency is fine but that takes no TCP
connections is left for another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from iroh_py.proto.netcheck.report import Report
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

#: Reports of the last 5 minutes count (5.6); at 20 s each, and some more after changes.
HISTORY_SECONDS = 300.0
MAX_REPORTS = 64
#: A new home relay must be this much nearer than the current one (5.6).
SWITCH_RATIO = 2 / 3
#: The home relay is unreachable for so long before others are asked. A restart takes less.
FAILOVER_AFTER = 3.0
#: While it stays unreachable and no other takes connections, they are asked again this often.
RECHECK_INTERVAL = 5.0
#: A relay that was left is not chosen again for this long, doubled each time it happens again.
BARRED_SECONDS = 60.0
MAX_BARRED_SECONDS = 600.0


class HomeRelay:
    """The choice. All times in seconds; ``relays`` in the order of their URLs."""

    def __init__(self, now: float, relays: Sequence[RelayNode]) -> None:
        self._eligible = tuple(relay.url for relay in relays if not relay.stun_only)
        self._history: deque[Report] = deque(maxlen=MAX_REPORTS)
        self._barred: dict[RelayUrl, tuple[float, float]] = {}
        self._down_since: float | None = now
        self._checked_at: float | None = None
        #: The relay chosen, None while there is no reason for any. With one relay there is nothing to choose.
        self.current: RelayUrl | None = self._eligible[0] if len(self._eligible) == 1 else None

    # --- what happens ---

    def handle_answer(self, now: float, url: RelayUrl) -> bool:
        """A relay answered a probe. Whether it became our home: the first one that answers is the nearest."""
        if self.current is not None or url not in self._eligible:
            return False
        self._switch(now, url)
        return True

    def handle_report(self, now: float, report: Report) -> bool:
        """A report is finished. Whether the home relay is another one now."""
        self._history.append(report)
        while self._history and now - self._history[0].finished > HISTORY_SECONDS:
            self._history.popleft()
        dead = self.unreachable(now) and self.current not in report.https_ok
        winner = self._winner(now, report, dead=dead)
        if winner is None:
            if self.current is None and self._eligible:
                self._switch(now, self._eligible[0])
                return True
            return False
        if winner == self.current:
            return False
        if dead and self.current is not None:
            self._bar(now, self.current)
        self._switch(now, winner)
        return True

    def handle_connection(self, now: float, url: RelayUrl, *, healthy: bool) -> None:
        """The home relay's connection works, or does not (any more)."""
        if url != self.current:
            return
        if healthy:
            self._down_since = self._checked_at = None
            self._barred.pop(url, None)
        elif self._down_since is None:
            self._down_since = now

    def handle_network_change(self, now: float) -> None:
        """We are somewhere else: older latencies and failures say nothing."""
        self._history.clear()
        self._barred.clear()
        self._checked_at = None
        if self._down_since is not None:
            self._down_since = now

    # --- what others ask ---

    def unreachable(self, now: float) -> bool:
        """Whether the home relay has taken no connection for so long that another one would be better."""
        return self._down_since is not None and now - self._down_since >= FAILOVER_AFTER - 1e-6

    @property
    def down_since(self) -> float | None:
        """Since when the home relay takes no connection; None while it does."""
        return self._down_since

    def next_check(self) -> float | None:
        """When to ask all relays whether they take connections; None while the home relay does."""
        if self._down_since is None or self.current is None or len(self._eligible) < 2:
            return None
        first = self._down_since + FAILOVER_AFTER
        return first if self._checked_at is None else max(first, self._checked_at + RECHECK_INTERVAL)

    def handle_check(self, now: float) -> None:
        """The relays are being asked."""
        self._checked_at = now

    # --- choosing ---

    def _winner(self, now: float, report: Report, *, dead: bool) -> RelayUrl | None:
        usable = [url for url in self._eligible if url in report.relay_latency]
        if dead:
            # STUN says nothing about TCP, which is what is wanted here.
            usable = [url for url in usable if url != self.current and url in report.https_ok]
        usable = [url for url in usable if not self._is_barred(now, url)] or (usable if dead else [])
        if not usable:
            return None
        best = min(usable, key=lambda url: (self._recent(url), url))
        current = self.current
        if dead or current is None or best == current:
            return best
        latency = report.relay_latency.get(current)
        if latency is None:
            # Probes get lost, UDP gets blocked, relays restart. If it stays away, it is dead.
            return current
        return current if self._recent(best) > latency * SWITCH_RATIO else best

    def _recent(self, url: RelayUrl) -> float:
        """The least latency of the last five minutes."""
        return min(
            (r.relay_latency[url] for r in self._history if url in r.relay_latency), default=float("inf")
        )

    def _switch(self, now: float, url: RelayUrl) -> None:
        self.current = url
        self._down_since = now
        self._checked_at = None

    def _bar(self, now: float, url: RelayUrl) -> None:
        _, last = self._barred.get(url, (0.0, 0.0))
        length = min(2 * last or BARRED_SECONDS, MAX_BARRED_SECONDS)
        self._barred[url] = (now + length, length)

    def _is_barred(self, now: float, url: RelayUrl) -> bool:
        return self._barred.get(url, (0.0, 0.0))[0] > now
