"""What the flags of a link mean in view of its past: whether packets pass, and how often it came up.

Source: linux/if.h, Documentation/networking/operstates.rst, net/core/link_watch.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from iroh_py.io.rtnetlink import IFF_DORMANT, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, Link

#: Links remembered at most beyond their end, for their generations.
MAX_REMEMBERED = 1024


@dataclass(slots=True)
class _Past:
    flags: int = 0
    #: The carrier was lost while up: the queue drops everything until the kernel announces its return.
    shut: bool = False
    usable: bool = False
    #: What the last look said.
    seen_usable: bool = False
    came_up: bool = False
    carrier_ups: int = 0
    generation: int = 0


class LinkHistory:
    """Follows the links of one network through events and looks.

    IFF_LOWER_UP falls at once when the carrier is lost, and rises at once when it is back. The kernel
    announces both up to a second later (its link watch may run once a second), and only with the
    announcement, which sets IFF_RUNNING, it opens the queue again. So a loss counts by the first flag, a
    return by the second; but a link that was administratively down has an open queue as soon as it is up.
    """

    def __init__(self) -> None:
        self._links: dict[int, _Past] = {}

    @property
    def remembered(self) -> int:
        """How many links are remembered, present or gone."""
        return len(self._links)

    def event(self, index: int, flags: int) -> None:
        """A link has these flags (0 when it is gone)."""
        past = self._links.setdefault(index, _Past())
        up, carrier = flags & IFF_UP, flags & IFF_LOWER_UP
        if not up or flags & IFF_RUNNING:
            past.shut = False
        if up and not carrier:
            past.shut = True
        usable = bool(up and carrier and not past.shut and not flags & IFF_DORMANT)
        if usable and not past.usable:
            past.came_up = True
        past.flags, past.usable = flags, usable

    def look(self, links: list[Link]) -> None:
        """A look at all tables found these links."""
        present = {link.index for link in links}
        for index in self._links.keys() - present:
            self.event(index, 0)
        for link in links:
            self.event(link.index, link.flags)
            past = self._links[link.index]
            if past.carrier_ups and link.carrier_ups > past.carrier_ups:
                past.came_up = True
            past.carrier_ups = link.carrier_ups
        for past in self._links.values():
            past.generation += past.came_up
            past.came_up = False
            past.seen_usable = past.usable
        gone = list(self._links.keys() - present)
        for index in gone[: max(0, len(self._links) - MAX_REMEMBERED)]:
            del self._links[index]

    def running(self, index: int) -> bool:
        """Whether packets pass, as far as the carrier goes: an administratively down link may say yes."""
        past = self._links[index]
        return past.usable or bool(past.flags & IFF_LOWER_UP and not past.flags & IFF_UP)

    def generation(self, index: int) -> int:
        """How often the link became usable, even if it was down too shortly to be seen down."""
        return self._links[index].generation

    def glance(self, flags: list[tuple[int, int]]) -> bool:
        """The known links have these flags now; whether one lost or found its carrier since the last look."""
        for index, now in flags:
            if index in self._links:
                self.event(index, now)
        return any(past.usable != past.seen_usable or past.came_up for past in self._links.values())
