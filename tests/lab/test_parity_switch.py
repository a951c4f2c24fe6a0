"""Upstream's uplink switches (LAB 2.10): switch_{client,server}_{v4,v6,dual}_to_{v4,v6,dual}."""

from __future__ import annotations

import pytest
from parity_kit import BOTH_ROLES, STEP, SWITCH, meet, version_of

from iroh_py.events import PathChanged
from netns_fixtures import Lab, Router
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays, RunningRelay

FAMILIES = ["v4", "v6", "dual"]
#: Which addresses of the one that moved its peer may use afterwards.
VERSIONS = {"v4": {4}, "v6": {6}, "dual": {4, 6}}


def uplink(lab: Lab, name: str, family: str) -> Router:
    """A home router; for IPv6 alone upstream's IspV6: no IPv4 at all, and a NAT64."""
    if family == "v6":
        return lab.router(name, nat="moderate", family="v6", nat64=True)
    return lab.router(name, nat="moderate", family=family)


def relay_of_the_old_internet(lab: Lab, relay: Relays) -> RunningRelay:
    """A relay that has IPv4 alone: without a NAT64 nobody on IPv6 reaches it."""
    host = lab.host("relay", uplink=lab.router("relay-dc", family="v4"))
    return relay(host, tls=True, by_name=True)


@BOTH_ROLES
@pytest.mark.parametrize("after", FAMILIES)
@pytest.mark.parametrize("before", FAMILIES)
async def test_switch(
    lab: Lab, relay: Relays, endpoints: Endpoints, side: str, before: str, after: str
) -> None:
    """The peer finds a new direct way to the one that moved, of a family that it has now."""
    mover = lab.host("mover", uplink=uplink(lab, "old", before))
    observer = lab.host("observer", uplink=uplink(lab, "home", "dual"))
    new = uplink(lab, "new", after)
    client, server = (mover, observer) if side == "client" else (observer, mover)
    pair = await meet(endpoints, client, server, relay_of_the_old_internet(lab, relay))
    await pair.go_direct(STEP)
    await pair.ping()
    watcher = pair.other(side)
    known = {way.path for way in watcher.ways}

    def is_new(way: PathChanged) -> bool:
        return way.path not in known and version_of(way) in VERSIONS[after]

    mover.replug(new)
    await watcher.way(is_new, SWITCH, f"new way over {after}")
    await pair.ping()
