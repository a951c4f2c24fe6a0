"""Splicing a wire behind a bridge port: the kernel side of an impaired link."""

from __future__ import annotations

import os
from collections.abc import Iterable

from netns_fixtures.agent.ends import open_end
from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.ops import AddBridge, SetCondition, SetLink, Splice
from netns_fixtures.wire.client import WireProcess

#: Link numbers are unique in a lab; the wire process serves all labs of the agent.
_LINKS_PER_LAB = 1 << 24


class Wires:
    """The wire process of the agent, started when the first link is impaired."""

    def __init__(self) -> None:
        self._process: WireProcess | None = None

    def splice(self, lab: int, fabric: NetworkNamespace, step: Splice) -> None:
        """port - new bridge - end a ~ end b - the bridge that the port was in; ``fabric`` must be entered.

        The port moves last: until the wire carries, the link is what it was. Raises LinkEngineError.
        """
        if self._process is None or not self._process.alive:
            self._process = WireProcess.spawn()
        # Between two ports there is nothing to learn, only wrong things: while both ends stand in the old bridge, a
        # broadcast of the host comes back through the wire.
        fabric.netlink.queue(AddBridge(step.node, step.wire_bridge, f"w{step.link}", learns=False))
        fabric.netlink.flush()
        fds: list[int] = []
        try:
            fds.append(open_end(fabric, f"a{step.link}", step.end_a, step.far_a, step.wire_bridge))
            fds.append(open_end(fabric, f"b{step.link}", step.end_b, step.far_b, step.bridge))
            number = _number(lab, step.link)
            self._process.add_link(number, fds[0], fds[1], step.forward, step.backward, step.seed)
        finally:
            for fd in fds:
                os.close(fd)
            fabric.netlink.collect()
        fabric.netlink.queue(SetLink(step.node, step.port, master=step.wire_bridge))
        fabric.netlink.collect()

    def set_condition(self, lab: int, step: SetCondition) -> None:
        """Change a spliced link. Raises LinkEngineError, also when the wire died: the link is cut then."""
        self._spliced().set_condition(_number(lab, step.link), step.forward, step.backward)

    def stats(self, lab: int, link: int) -> dict[str, object]:
        """Counters of a spliced link."""
        return self._spliced().stats(_number(lab, link))

    def remove(self, lab: int, links: Iterable[int]) -> None:
        """Forget the links of a closed lab."""
        for link in links:
            if self._process is not None and self._process.alive:
                self._process.remove_link(_number(lab, link))

    def close(self) -> None:
        """End the wire process."""
        if self._process is not None:
            self._process.close()

    def _spliced(self) -> WireProcess:
        if self._process is None:
            raise LinkEngineError("no link of this lab has a wire")
        return self._process


def _number(lab: int, link: int) -> int:
    return lab * _LINKS_PER_LAB + link
