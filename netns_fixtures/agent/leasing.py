"""DHCP in the agent: nothing until a lab asks for it, not even its modules."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.dhcp.steps import DhcpLease, DhcpStep

if TYPE_CHECKING:
    from netns_fixtures.dhcp.loop import DhcpLoop


class Leasing:
    """All DHCP servers and clients of all labs."""

    def __init__(self) -> None:
        self._loop: DhcpLoop | None = None

    def register(self, poll: select.poll) -> None:
        """Let a poll of the agent's loop hear of packets."""
        if self._loop is not None:
            poll.register(self._loop, select.POLLIN)

    def wait_ms(self) -> int | None:
        """Milliseconds until something is due; None: nothing is."""
        return self._loop.wait_ms() if self._loop is not None else None

    def serve(self, ready: set[int]) -> None:
        """Do what is to be done; its own descriptor is taken out of ``ready``."""
        if self._loop is not None:
            self._loop.serve()
            ready.discard(self._loop.fileno())

    def change(self, lab: int, node: NetworkNamespace, fabric: NetworkNamespace, step: DhcpStep) -> None:
        """Carry a step out. Raises OSError, LabError."""
        if self._loop is None:
            from netns_fixtures.dhcp.loop import DhcpLoop  # few sessions have any

            self._loop = DhcpLoop()
        node.enter()
        self._loop.change(lab, node, fabric, step)

    def listen(self, lab: int, fd: int) -> None:
        """Tell the news of a lab to this socket."""
        if self._loop is not None:
            self._loop.listen(lab, fd)

    def leases(self, lab: int, index: int) -> list[DhcpLease]:
        """What the server at an interface has granted."""
        return self._loop.leases(lab, index) if self._loop is not None else []

    def freeze(self, lab: int, node: int, *, frozen: bool) -> None:
        """The clients of a host stand still, or go on."""
        if self._loop is not None:
            self._loop.freeze(lab, node, frozen=frozen)

    def remove(self, lab: int) -> None:
        """Forget a lab that is closed."""
        if self._loop is not None:
            self._loop.remove(lab)
