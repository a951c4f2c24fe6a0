"""The client of one interface as the test process knows it: how it asks, and what it was heard to have. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.dhcp.steps import DhcpNews, Event, RunDhcpClient, TellDhcpClient

if TYPE_CHECKING:
    from netns_fixtures.dhcp.lease import Granted
    from netns_fixtures.ops import Op
    from netns_fixtures.plug import Plug

_BOUND = "bound"


@dataclass(slots=True, eq=False)
class PluggedClient:
    """``epoch``: how often it was told something; news of an earlier one are old."""

    settings: DhcpClient
    epoch: int = 0
    state: str = "off"
    lease: Granted | None = None
    #: Its host stands still, and it with the host.
    frozen: bool = False
    _heard: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether a server has granted or confirmed its address since it was told something last."""
        return self.state == _BOUND and self._heard == self.epoch

    def hear(self, news: DhcpNews) -> None:
        """What the agent says of it."""
        self.state, self.lease, self._heard = news.state, news.lease, news.epoch

    def run_ops(self, plug: Plug) -> list[Op]:
        """Begin, or go on with the metric that the plug has now."""
        step = RunDhcpClient(
            plug.node,
            plug.index,
            plug.name,
            plug.mac,
            plug.port_name,
            plug.owner,
            self.settings,
            plug.metric,
        )
        return [step]

    def tell_ops(self, plug: Plug, event: Event) -> list[Op]:
        """Something happens to it."""
        self.epoch += 1
        return [TellDhcpClient(plug.node, plug.index, event, self.epoch)]

    def link_ops(self, plug: Plug) -> list[Op]:
        """Its link is what the plug says; one that is up may be another one."""
        return self.tell_ops(plug, "up" if plug.up and plug.carrier else "down")
