"""``router.ra``: what a router tells the hosts of its LAN."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from netns_fixtures.errors import TopologyError
from netns_fixtures.ra.config import Ra, RaFields
from netns_fixtures.ra.plan import State
from netns_fixtures.ra.waiting import await_segment
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.topology import RouterPlan


@handle()
class RouterAdvertisements:
    """Begins with the first host that has ``slaac``. Each verb returns when the hosts have acted on it."""

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        assert plan.lan.segment.ra is not None
        self._lab = lab
        self._router = plan.name
        self._segment = plan.lan.segment
        self._plan = plan.lan.segment.ra

    def __repr__(self) -> str:
        return f"<RouterAdvertisements of {self._router} {self.state}: {' '.join(self.prefixes)}>"

    @property
    def config(self) -> Ra:
        """What is said besides the prefixes."""
        return self._plan.config

    @property
    def state(self) -> State:
        """off (not begun), on, withdrawn, silent."""
        return self._plan.state

    @property
    def prefixes(self) -> list[str]:
        """The prefixes that hosts make addresses of."""
        return [str(network) for network in self._segment.prefixes]

    def change(self, **fields: Unpack[RaFields]) -> None:
        """Say something else from now on; fields as of :class:`Ra`. Raises TopologyError."""
        unknown = fields.keys() - RaFields.__annotations__.keys()
        if unknown:
            known = ", ".join(RaFields.__annotations__)
            raise TopologyError(f"an advertisement has no {', '.join(sorted(unknown))}; it has {known}")
        config = replace(self._plan.config, **fields)
        said = ", ".join(f"{name}={value}" for name, value in fields.items())
        with self._lab.changing():
            self._plan.config = config
            self._say("ra_changed", f"advertises {said} now", **fields)

    def send(self) -> None:
        """Advertise now, unasked. After ``silence`` or ``withdraw`` nothing is sent: ``resume`` first."""
        with self._lab.changing():
            self._plan.begin(self._segment.prefixes)
            self._say("ra_sent", "sent an advertisement")

    def withdraw(self) -> None:
        """A router that shuts down in order: one advertisement with router lifetime 0, then no more.

        Hosts drop the default route at once and keep their addresses.
        """
        with self._lab.changing():
            self._plan.state = "withdrawn"
            self._say("ra_withdrawn", "is no default router any more")

    def silence(self) -> None:
        """A router that crashes: no more advertisements, also when solicited. Hosts notice when lifetimes end."""
        with self._lab.changing():
            self._plan.state = "silent"
            self._say("ra_silenced", "advertises nothing any more")

    def resume(self) -> None:
        """Advertise again, beginning now."""
        with self._lab.changing():
            self._plan.state = "on"
            self._say("ra_resumed", "advertises again")

    def _say(self, kind: str, what: str, **data: object) -> None:
        ops = self._segment.ra_ops()
        if ops:
            self._lab.apply(ops)
        self._lab.log_event(kind, self._router, f"{self._router} {what}", **data)
        await_segment(self._lab, self._segment)
