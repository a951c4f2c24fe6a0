"""The client of one interface as a description, and what its plug needs for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.dhcp.steps import Event, RunDhcpClient, TellDhcpClient

if TYPE_CHECKING:
    from netns_fixtures.ops import Op
    from netns_fixtures.plug import Plug


@dataclass(slots=True, eq=False)
class PluggedClient:
    """How it asks, and how often it was told something: only news of that number are news."""

    settings: DhcpClient
    epoch: int = 0

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
