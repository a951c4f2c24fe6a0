"""Upstream's uplink switches (LAB 2.10): switch_{client,server}_{v4,v6,dual}_to_{v4,v6,dual}."""

from __future__ import annotations

import pytest
from parity_kit import BOTH_ROLES, STEP, SWITCH, meet, start_relay, version_of

from iroh_py.events import PathChanged
from netns_fixtures import Host, Lab, Router
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays

FAMILIES = ["v4", "v6", "dual"]
#: Which addresses of the one that moved its peer may use afterwards.
VERSIONS = {"v4": {4}, "v6": {6}, "dual": {4, 6}}


def uplink(lab: Lab, name: str, family: str) -> Router:
    """A home router of a family."""
    return lab.router(name, nat="moderate", ipv6=family != "v4")


def keep_family(host: Host, family: str) -> None:
    """IPv6 alone: by taking the IPv4 address away, as upstream's IPv6-only provider with NAT64 waits for issue C."""
    if family == "v6":
        host.remove_address(host.ip)


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
    keep_family(mover, before)
    client, server = (mover, observer) if side == "client" else (observer, mover)
    pair = await meet(endpoints, client, server, start_relay(lab, relay))
    await pair.go_direct(STEP)
    await pair.ping()
    watcher = pair.other(side)
    known = {way.path for way in watcher.ways}

    def is_new(way: PathChanged) -> bool:
        return way.path not in known and version_of(way) in VERSIONS[after]

    mover.replug(new)
    keep_family(mover, after)
    await watcher.way(is_new, SWITCH, f"new way over {after}")
    await pair.ping()
