"""Splicing a wire behind a bridge port: the kernel side of an impaired link."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.errors import LinkEngineError, MissingCapability
from netns_fixtures.ops import AddBridge, SetCondition, SetLink, Splice
from netns_fixtures.wire.client import WireProcess
from netns_fixtures.wire.tap import TUN_DEVICE, open_tap

#: Link ids are unique in a lab; the wire process serves all labs of the agent.
_LINKS_PER_LAB = 1 << 24


class Wires:
    """The wire process of the agent, started when the first link is impaired."""

    def __init__(self) -> None:
        self._process: WireProcess | None = None

    def splice(self, lab: int, fabric: NetworkNamespace, step: Splice) -> None:
        """port - bridge - TAP a ~ TAP b - the bridge that the port was in; ``fabric`` must be entered.

        Raises LinkEngineError or MissingCapability, with the port where it was.
        """
        with contextlib.ExitStack() as stack:
            tap_a = stack.enter_context(_tap(f"a{step.link}", step.tap_a))
            tap_b = stack.enter_context(_tap(f"b{step.link}", step.tap_b))
            self._running().add_link(
                _id(lab, step.link), tap_a, tap_b, step.forward, step.backward, step.seed
            )
        node = step.node
        for op in (
            AddBridge(node, step.wire_bridge, f"w{step.link}"),
            SetLink(node, step.tap_a, up=True, master=step.wire_bridge),
            SetLink(node, step.tap_b, up=True, master=step.bridge),
            SetLink(node, step.port, master=step.wire_bridge),
        ):
            fabric.netlink.queue(op)
        fabric.netlink.collect()

    def set_condition(self, lab: int, step: SetCondition) -> None:
        """Change a spliced link."""
        self._running().set_condition(_id(lab, step.link), step.forward, step.backward)

    def stats(self, lab: int, link: int) -> object:
        """Counters of a spliced link."""
        return self._running().stats(_id(lab, link))

    def remove(self, lab: int, links: Iterator[int] | tuple[int, ...]) -> None:
        """Forget the links of a closed lab."""
        for link in links:
            if self._process is not None and self._process.alive:
                self._process.remove_link(_id(lab, link))

    def close(self) -> None:
        """End the wire process."""
        if self._process is not None:
            self._process.close()

    def _running(self) -> WireProcess:
        if self._process is None or not self._process.alive:
            self._process = WireProcess.spawn()
        return self._process


def _id(lab: int, link: int) -> int:
    return lab * _LINKS_PER_LAB + link


@contextlib.contextmanager
def _tap(name: str, index: int) -> Iterator[int]:
    try:
        fd = open_tap(name, index)
    except FileNotFoundError:
        raise MissingCapability(
            f"{TUN_DEVICE} does not exist, and impairing a link needs it", "run: sudo modprobe tun"
        ) from None
    except PermissionError:
        raise MissingCapability(
            f"{TUN_DEVICE} may not be opened, and impairing a link needs it",
            f"run: sudo chmod 666 {TUN_DEVICE}",
        ) from None
    except OSError as error:
        raise LinkEngineError(f"cannot make a TAP for the wire: {error}") from None
    try:
        yield fd
    finally:
        os.close(fd)
