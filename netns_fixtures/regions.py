"""Regions of the internet: where routers are, how far it is from one to the other, and what cuts them off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from netns_fixtures.errors import TopologyError
from netns_fixtures.interface import Interface
from netns_fixtures.link import LinkCondition
from netns_fixtures.router import Router
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.backbone import RegionLink
    from netns_fixtures.lab import Lab


_CUT = LinkCondition(loss=1.0)


@dataclass(frozen=True, slots=True)
class RegionPreset:
    """Seconds one way between regions, and where the numbers come from."""

    delays: Mapping[tuple[str, str], float]
    source: str

    @property
    def regions(self) -> tuple[str, ...]:
        """Their names, in the order in which they come up."""
        return tuple(dict.fromkeys(name for pair in self.delays for name in pair))


#: Sets of regions by name.
REGIONS: Mapping[str, RegionPreset] = MappingProxyType(
    {
        "patchbay": RegionPreset(
            MappingProxyType({("us", "eu"): 0.040, ("us", "asia"): 0.095, ("eu", "asia"): 0.120}),
            "patchbay's default regions, ms one way (LAB 2.5)",
        )
    }
)


def preset(name: str) -> RegionPreset:
    """Regions by name. Raises TopologyError naming those that exist."""
    try:
        return REGIONS[name]
    except KeyError:
        raise TopologyError(f"no regions {name!r}; there are {', '.join(REGIONS)}") from None


@handle()
class Region(Router):
    """A region; made by ``lab.region()``. It is a router of the backbone: what is in the region is behind it."""

    def __repr__(self) -> str:
        return f"<Region {self.name} {self.lan}>"


class RegionLinks:
    """The links between the regions of a lab, for its verbs."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._interfaces: dict[RegionLink, Interface] = {}

    def set_latency(self, a: str, b: str, condition: LinkCondition, *, running: bool) -> None:
        """What happens to packets between two regions, each way. Raises TopologyError."""
        self._check(a, b)
        topology = self._lab.topology
        link = topology.backbone.link(a, b)
        if link is not None:
            link.condition = condition
            if not link.cut:
                self._interfaces[link].apply_condition(condition, condition)
            return
        link = topology.add_region_link(self._lab.routers[a].plan, self._lab.routers[b].plan)
        interface = Interface(self._lab, link.plugs[a])
        self._lab.routers[a].interfaces[link.plugs[a].name] = interface
        self._lab.routers[b].interfaces[link.plugs[b].name] = Interface(self._lab, link.plugs[b])
        self._interfaces[link] = interface
        link.condition = condition
        if not condition.is_clear:
            topology.pending += interface.describe_condition(condition)
        if running:
            self._lab.apply([])

    def set_cut(self, a: str, b: str, *, cut: bool, detour: bool = False) -> None:
        """Lose all that is sent over the cable, or join it again. Raises TopologyError."""
        self._check(a, b)
        link = self._lab.topology.backbone.link(a, b)
        if link is None:
            raise TopologyError(f"{a} and {b} have no link to cut: give them a latency, 0 perhaps")
        before = link.cut, link.detour
        link.cut, link.detour = cut, detour
        try:
            routes = self._lab.topology.sync_routes()
        except TopologyError:
            link.cut, link.detour = before
            raise
        # Not by its carrier: packets would wait for a neighbour's answer, and arrive after the cut.
        condition = _CUT if cut else link.condition
        self._interfaces[link].apply_condition(condition, condition)
        self._lab.apply(routes)

    def _check(self, a: str, b: str) -> None:
        for name in (a, b):
            if name not in self._lab.regions:
                known = ", ".join(self._lab.regions) or "none, make one with lab.region(name)"
                raise TopologyError(f"no region {name!r}; there are {known}")
        if a == b:
            raise TopologyError(f"{a!r} twice: a latency is between two regions")


@handle(also=("region",))
class RegionVerbs:
    """What a lab can do with regions. A part of Lab."""

    routers: dict[str, Router]
    regions: dict[str, Region]
    _region_links: RegionLinks

    def region(self, name: str, latency: Mapping[str, float] | None = None) -> Region:
        """A region, in which routers are placed with ``lab.router(..., region=name)``.

        ``latency``: seconds one way to other regions, by their names. Regions without a latency between them meet at
        the exchange at once. Raises TopologyError.
        """
        lab = self._lab
        with lab.describing():
            made = Region(lab, lab.topology.add_region(name))
            self.routers[name] = self.regions[name] = made
            for other, delay in (latency or {}).items():
                self._region_links.set_latency(other, name, LinkCondition(delay=delay), running=False)
            return made

    def region_preset(self, name: str) -> dict[str, Region]:
        """All regions of a preset with the latencies between them, by name. Raises TopologyError."""
        wanted = preset(name)
        for region in wanted.regions:
            pairs = wanted.delays.items()
            near = {a if b == region else b: delay for (a, b), delay in pairs if region in (a, b)}
            self.region(region, {other: delay for other, delay in near.items() if other in self.regions})
        return {region: self.regions[region] for region in wanted.regions}

    def latency(
        self, a: str | Region, b: str | Region, delay: float, jitter: float = 0.0, loss: float = 0.0
    ) -> None:
        """How long packets take between two regions, seconds one way; ``jitter`` and ``loss`` as of any link.

        Also while the lab runs. Raises TopologyError, MissingCapability, LinkEngineError.
        """
        condition = LinkCondition(delay=delay, jitter=jitter, loss=loss)
        here, there = name_of(a), name_of(b)
        with self._lab.changing():
            self._region_links.set_latency(here, there, condition, running=self._lab.is_built)
            text = f"{here} - {there} is now {condition}"
            self._lab.log_event("region_latency", here, text, far=there, condition=condition.as_dict())

    def cut(self, a: str | Region, b: str | Region, detour: bool = False) -> None:
        """Cut the link between two regions: what they send each other is lost, and nobody is told.

        ``detour``: it goes through other regions instead, by the fastest way that is left. Raises TopologyError where
        they have no link, or there is no such way.
        """
        here, there = name_of(a), name_of(b)
        with self._lab.changing():
            self._region_links.set_cut(here, there, cut=True, detour=detour)
            text = f"{here} - {there} is cut" + (", and goes another way" if detour else "")
            self._lab.log_event("region_cut", here, text, far=there, detour=detour)

    def restore(self, a: str | Region, b: str | Region) -> None:
        """Join the link between two regions again."""
        here, there = name_of(a), name_of(b)
        with self._lab.changing():
            self._region_links.set_cut(here, there, cut=False)
            self._lab.log_event("region_restored", here, f"{here} - {there} is restored", far=there)

    @property
    def _lab(self) -> Lab:
        return cast("Lab", self)

    def _place(self, region: str | Region, upstream: Router | None) -> Router:
        """The router of the region that another one is put in. Raises TopologyError."""
        if upstream is not None:
            raise TopologyError("a router has an upstream or a region; the upstream is in one already")
        name = name_of(region)
        if name not in self.regions:
            known = ", ".join(self.regions) or "none, make one with lab.region(name)"
            raise TopologyError(f"no region {name!r}; there are {known}")
        return self.regions[name]


def name_of(region: str | Region) -> str:
    """A region by its handle or name."""
    return region if isinstance(region, str) else region.name
