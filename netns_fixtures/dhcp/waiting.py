"""A verb that gives a host another network is done when its DHCP client has an address there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from netns_fixtures.errors import LabError

if TYPE_CHECKING:
    from netns_fixtures.plug import Plug
    from netns_fixtures.running_lab import RunningLab

#: Milliseconds are usual; a lossy link takes retries of 0.25, 0.5, 1, 2 s.
LEASED_WITHIN = 15.0


def await_leases(lab: RunningLab, plugs: Iterable[Plug]) -> None:
    """Wait until these interfaces have what a server there grants; one that no server answers is not waited for.

    The lab's lock is held. Raises LabError.
    """
    deadline = time.monotonic() + LEASED_WITHIN * lab.timeout_scale
    for plug in plugs:
        client = plug.dhcp
        assert client is not None
        while _is_expected(lab, plug) and not client.is_settled:
            if not lab.leasing.read(deadline):
                raise LabError(
                    f"{plug.owner} {plug.name} got no address by DHCP within {LEASED_WITHIN:g} s: it is"
                    f" {client.state}, the server is {plug.segment.name}; is its link lossy, or slower than that?"
                )


def _is_expected(lab: RunningLab, plug: Plug) -> bool:
    if not plug.awaits_lease or plug.dhcp is None or plug.dhcp.frozen:
        return False
    routers = (router.lan for router in lab.topology.routers.values() if router.lan.segment is plug.segment)
    return all(lan.up and lan.carrier for lan in routers)
