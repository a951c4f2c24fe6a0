"""Upstream's ladder of bad links (LAB 2.10): degrade_{client,server}_0..8, also the rungs upstream does not pass."""

from __future__ import annotations

import pytest
from parity_kit import BOTH_ROLES, meet, moderate_pair, start_relay

from netns_fixtures import Lab
from netns_fixtures.presets import degrade
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays


@BOTH_ROLES
@pytest.mark.parametrize("level", range(9))
async def test_degrade(lab: Lab, relay: Relays, endpoints: Endpoints, side: str, level: int) -> None:
    """One side's link is bad in both directions: still a direct path and a ping, within upstream's own limit."""
    limit = 20.0 + 10.0 * level
    hosts = moderate_pair(lab)
    hosts[side].link.condition(degrade(level))
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay), within=limit)
    await pair.go_direct(limit)
    await pair.ping(limit)
