"""The links between regions: a cable for each pair, and the routes over them. Pure.

A region is a router without NAT at the exchange, on whose LAN the routers of the region have their uplinks. For two
regions with a latency between them there is a cable from one's router to the other's, and each routes the other's
networks over it, so that a wire in that cable delays exactly this pair's packets::

    home --- [ eu ] ===== 40 ms ===== [ us ] --- office
                |  \\                //  |
                |   120 ms [ asia ] 95 ms  |
                +-------- exchange --------+        regions without a latency, and everybody else, meet here
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from netns_fixtures.errors import TopologyError
from netns_fixtures.link import LinkCondition
from netns_fixtures.plug import Plug

CLEAR = LinkCondition()
#: A way to a network: the interface that leads there, the network, the next hop.
Route = tuple[Plug, str, str]


@dataclass(slots=True, eq=False)
class RegionLink:
    """The cable between two regions. ``detour``: while it is cut, other links carry its packets."""

    plugs: dict[str, Plug]
    condition: LinkCondition = CLEAR
    cut: bool = False
    detour: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        """The names of both regions."""
        first, second = self.plugs
        return first, second

    def far(self, region: str) -> str:
        """The region at the other end."""
        first, second = self.ends
        return second if region == first else first


@dataclass(slots=True)
class Backbone:
    """All links between regions."""

    _links: dict[frozenset[str], RegionLink] = field(default_factory=dict)

    def add(self, a: Plug, b: Plug) -> RegionLink:
        """A new link; its ends are the owners of the interfaces."""
        link = RegionLink({a.owner: a, b.owner: b})
        self._links[frozenset(link.plugs)] = link
        return link

    def link(self, a: str, b: str) -> RegionLink | None:
        """The link of two regions, None where there is none."""
        return self._links.get(frozenset((a, b)))

    def plugs(self) -> Iterator[Plug]:
        """Every interface of every link."""
        for link in self._links.values():
            yield from link.plugs.values()

    def routes(self, networks: Mapping[str, Iterable[str]]) -> Iterator[Route]:
        """The routes of all regions; ``networks`` are those that each region holds."""
        for link in self._links.values():
            for here in link.ends:
                there = link.far(here)
                hop = self.detour(here, there) if link.cut and link.detour else link
                for network in networks.get(there, ()):
                    gateway = hop.plugs[hop.far(here)].ip(6 if ":" in network else 4)
                    if gateway is not None:
                        yield hop.plugs[here], network, gateway

    def detour(self, source: str, target: str) -> RegionLink:
        """The first link of the fastest way over links that are not cut. Raises TopologyError where there is none."""
        waiting: list[tuple[float, int, str, RegionLink | None]] = [(0.0, 0, source, None)]
        seen: set[str] = set()
        pushed = 0
        while waiting:
            delay, _number, region, first = heappop(waiting)
            if region == target and first is not None:
                return first
            if region in seen:
                continue
            seen.add(region)
            for link in self._links.values():
                if region in link.plugs and not link.cut:
                    pushed += 1
                    heappush(waiting, (delay + link.condition.delay, pushed, link.far(region), first or link))
        raise TopologyError(f"there is no way from {source} to {target} that is not cut")


def networks_of(
    regions: Iterable[str], routes: Iterable[Route], gateways: Callable[[str], Iterable[str]]
) -> dict[str, list[str]]:
    """What the exchange would send to each region: the networks in it."""
    owner = {gateway: region for region in regions for gateway in gateways(region)}
    found: dict[str, list[str]] = {}
    for _plug, network, gateway in routes:
        if gateway in owner:
            found.setdefault(owner[gateway], []).append(network)
    return found
