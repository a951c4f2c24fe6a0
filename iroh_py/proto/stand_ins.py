"""Where to meet a node whose relay does not answer.

The relay protocol has no answer to this: a node whose home relay dies is found again only once discovery tells its
new one. But nodes that know the same relays can agree without a word: those that come first in the map stand in.
Datagrams are copied there, and a node whose own home relay is dead waits there.
"""

from __future__ import annotations

from collections.abc import Sequence

from iroh_py.relay_url import RelayUrl

#: A relay does not answer for so long before others stand in for it, in seconds. A restart takes less.
STAND_IN_AFTER = 1.0
#: So many stand in for one; each costs a copy of everything.
MAX_STAND_INS = 2
#: Failing relays remembered; peers name their relays, so the number needs an end.
MAX_FAILING = 64


class StandIns:
    """Which relays stand in for which. ``common``: those that everybody knows, in the order that all agree on."""

    def __init__(self, common: Sequence[RelayUrl]) -> None:
        self._common = tuple(common)
        self._since: dict[RelayUrl, float] = {}

    @property
    def failing(self) -> tuple[RelayUrl, ...]:
        """Relays that are needed and do not answer."""
        return tuple(self._since)

    def handle_works(self, url: RelayUrl) -> None:
        """A relay answers."""
        self._since.pop(url, None)

    def handle_fails(self, now: float, url: RelayUrl) -> None:
        """A relay is needed now and does not answer."""
        if url not in self._since:
            while len(self._since) >= MAX_FAILING:
                del self._since[next(iter(self._since))]
            self._since[url] = now

    def meeting_points(self, url: RelayUrl) -> list[RelayUrl]:
        """Where nodes wait whose home relay is this one."""
        return [other for other in self._common if other != url][:MAX_STAND_INS]

    def instead_of(self, now: float, url: RelayUrl, home: RelayUrl | None) -> list[RelayUrl]:
        """Where copies go: to ``home``, our own relay if it works; after a second also to the meeting points."""
        found = [] if home is None or home == url else [home]
        if now - self._since.get(url, now) >= STAND_IN_AFTER:
            found += self.meeting_points(url)
        return list(dict.fromkeys(found))[:MAX_STAND_INS]
