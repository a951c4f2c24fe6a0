"""How often addresses are offered to a node over its relay (CallMeMaybe), and how often its offers are acted on."""

from __future__ import annotations

from iroh_py.network import Addr

#: Our offers while nothing new happened: just below the rhythm of the rounds of pings, so that each may carry one.
OFFER_INTERVAL = 0.85
#: Offers of a peer are acted on at most this often (each makes us ping strangers' addresses), in seconds ...
ACCEPT_INTERVAL = 0.5
#: ... beyond so many at once: after a move the first offer may be older than the addresses, and the second follows.
ACCEPT_BURST = 5.0
#: An offer is answered with ours while no direct path is known, at most this often: ours may have been lost when the
#: peer's relay connection was down, and its offer proves that it is up again. In all so many replies at once, and
#: then one in so many seconds, or two nodes that cannot be punched would answer each other for ever.
REPLY_INTERVAL = 0.25
REPLY_BURST = 4.0
REPLY_REFILL = 10.0


class Offers:
    """The times of offers to and from one node."""

    __slots__ = ("_accepted_at", "_last", "_left", "_replied_at", "_replies", "_sent_at")

    def __init__(self, now: float) -> None:
        self._sent_at: float | None = None
        self._replied_at = now - REPLY_INTERVAL
        self._replies = REPLY_BURST
        self._accepted_at = now
        self._left = ACCEPT_BURST
        self._last: frozenset[Addr] = frozenset()

    def is_news(self, addresses: list[Addr]) -> bool:
        """Whether an offer that arrived names other addresses than the one before; remembers it."""
        before, self._last = self._last, frozenset(addresses)
        return before != self._last

    def forget_sent(self) -> None:
        """Our addresses are others now: the next offer need not wait."""
        self._sent_at = None

    def may_send(self, now: float) -> bool:
        """Whether an offer of ours is due again."""
        return self._sent_at is None or now - self._sent_at >= OFFER_INTERVAL

    def handle_sent(self, now: float) -> None:
        """An offer of ours goes out."""
        self._sent_at = now

    def accept(self, now: float) -> bool:
        """Whether an offer that arrived is acted on."""
        self._left = min(ACCEPT_BURST, self._left + (now - self._accepted_at) / ACCEPT_INTERVAL)
        self._accepted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def may_reply(self, now: float) -> bool:
        """Whether an offer that arrived is answered with ours; if so, that is noted."""
        passed = now - self._replied_at
        left = min(REPLY_BURST, self._replies + passed / REPLY_REFILL)
        if passed < REPLY_INTERVAL or left < 1:
            return False
        self._replies = left - 1
        self._replied_at = self._sent_at = now
        return True
