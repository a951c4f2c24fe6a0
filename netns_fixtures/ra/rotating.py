"""New temporary addresses (RFC 8981) on demand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netns_fixtures.errors import LabError, TopologyError
from netns_fixtures.ra.kernel import Address6, await_change, deprecate, read_addresses
from netns_fixtures.ra.waiting import CONFIGURED_WITHIN, watching

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.plug import Plug


def rotate(lab: Lab, plug: Plug) -> tuple[list[str], list[str]]:
    """Deprecate the temporary addresses, wait for as many new ones; returns both. Raises LabError."""
    deadline = time.monotonic() + CONFIGURED_WITHIN * lab.timeout_scale
    with watching(lab, plug) as sock:
        before = _temporary(read_addresses(sock, plug.index))
        if not before:
            raise TopologyError(
                f"{plug.owner} {plug.name} has no temporary address to rotate; is its link up?"
            )
        for address in before:
            deprecate(sock, plug.index, address)
        while True:
            after = _temporary(read_addresses(sock, plug.index))
            if len(after) >= len(before):
                return [a.ip for a in before], [a.ip for a in after]
            if not await_change(sock, deadline):
                raise LabError(f"the kernel made no new temporary address on {plug.owner} {plug.name}")


def _temporary(found: list[Address6]) -> list[Address6]:
    return [a for a in found if a.temporary and not a.deprecated and not a.tentative]
