"""When to make the next report: at once, but never a storm of them (PROTOCOL.md 5.3, SCENARIOS 3.9)."""

from __future__ import annotations

from collections.abc import Callable

from iroh_py.proto.netcheck.report import Report

#: Seconds from the end of a report to the next one (5.3). Below 30 s, so that NAT mappings stay.
PERIOD = (20.0, 26.0)
#: A full report at least this often (5.2).
FULL_INTERVAL = 300.0
#: Reports that may start at once, and how many per second after that. Each costs a dozen packets.
BURST = 6.0
RATE = 1.0
#: A report to which nobody answered is repeated after so many seconds, then after twice as many, up to PERIOD: on a bad
#: link the question for the relay's name may have been lost, and without our address nobody can punch a hole to us.
REPEAT_AFTER = 1.0
#: Where a relay answers and UDP does not come through, we look again this often: firewalls are lifted, guests log in,
#: and until our address is known all payload takes the relay.
WITHOUT_UDP = 5.0
#: One token, as floats add up.
_ONE = 1.0 - 1e-6


class Schedule:
    """Decides when a run starts and whether it is full; one run at a time.

    ``uniform(a, b)`` spreads the periodic runs. A request during a run is served after it, or at once if it
    makes the run useless (``restart``: the network is another one).
    """

    def __init__(self, now: float, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._tokens = BURST
        self._refilled = now
        self._periodic_at: float | None = now
        self._wanted_at: float | None = None
        self._wanted_full = False
        self._restart = False
        self._last_full: float | None = None
        #: Reports in a row to which nobody answered.
        self._unanswered = 0
        self.running = False
        self.starts = 0

    def request(self, now: float, *, full: bool = False, restart: bool = False) -> None:
        """Somebody wants a report now."""
        if self._wanted_at is None:
            self._wanted_at = now
        self._wanted_full |= full
        self._restart |= restart

    def due(self, now: float) -> float | None:
        """When the next run may start; None while one runs and nothing makes it useless."""
        if self.running and not self._restart:
            return None
        times = [t for t in (self._wanted_at, None if self.running else self._periodic_at) if t is not None]
        if not times:
            return None
        tokens = self._available(now)
        return max(min(times), now + (1.0 - tokens) / RATE if tokens < _ONE else 0.0)

    def start(self, now: float) -> bool:
        """A run starts; whether it is full."""
        self._tokens = max(0.0, self._available(now) - 1.0)
        self._refilled = now
        full = self._wanted_full or self._last_full is None or now - self._last_full >= FULL_INTERVAL
        if full:
            self._last_full = now
        self._wanted_at = self._periodic_at = None
        self._wanted_full = self._restart = False
        self.running = True
        self.starts += 1
        return full

    def handle_report(self, now: float, report: Report) -> None:
        """The run is finished."""
        self.running = False
        self._restart = False
        self._periodic_at = now + self._pause(report)
        if not report.udp and report.captive_portal:
            self._last_full = None  # log-in pages go away: look at everything again

    def _pause(self, report: Report) -> float:
        """Seconds until the next report by itself."""
        pause = self._uniform(*PERIOD)
        self._unanswered = 0 if report.relay_latency else self._unanswered + 1
        if not self._unanswered:
            return pause if report.udp else min(pause, WITHOUT_UDP)
        return min(pause, REPEAT_AFTER * 2.0 ** min(self._unanswered - 1, 5))

    def handle_abandoned(self) -> None:
        """The run under way was given up."""
        self.running = False

    def _available(self, now: float) -> float:
        return min(BURST, self._tokens + (now - self._refilled) * RATE)
