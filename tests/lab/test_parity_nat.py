"""Upstream's hole punching tests (LAB 2.10): holepunch_simple, nat_A_x_B, hard_nat_to_holepunchable."""

from __future__ import annotations

import pytest
from parity_kit import (
    BOTH_ROLES,
    HOLD,
    HOLEPUNCH,
    STEP,
    meet,
    moderate_pair,
    nat_pair,
    start_relay,
    start_relays,
)

from netns_fixtures import Lab
from pytest_iroh import Endpoints
from pytest_iroh.grid.cells import GridCell
from pytest_iroh.relays import Relays

KINDS = ["none", "open", "moderate", "strict"]
#: What cannot be punched without guessing ports; the last one not even with it.
PREDICTION = [("moderate", "strict"), ("strict", "moderate")]
HARD = [*PREDICTION, ("strict", "strict")]
#: The whole matrix is one grid of --netns-grid, out of three tests.
GRID = "NAT by NAT, no guesses between strict and moderate"


async def test_holepunch_simple(lab: Lab, relay: Relays, endpoints: Endpoints) -> None:
    """Moderate by moderate starts relayed and goes direct."""
    hosts = moderate_pair(lab)
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    await pair.go_direct(HOLEPUNCH)
    await pair.ping()


@pytest.mark.netns_grid("client", "server", name=GRID)
@pytest.mark.parametrize(
    ("client", "server"),
    [(a, b) for a in KINDS for b in KINDS if (a, b) not in HARD],
    ids=lambda kind: str(kind),
)
async def test_nat_by_nat_goes_direct(
    lab: Lab, relay: Relays, endpoints: Endpoints, grid_cell: GridCell, client: str, server: str
) -> None:
    """nat_A_x_B: the client's NAT by the server's, so every unequal pair comes in both roles."""
    hosts = nat_pair(lab, client, server)
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    await pair.go_direct(STEP)
    grid_cell.record("direct", pair.since_dial())
    await pair.ping()


@pytest.mark.netns_grid("client", "server", name=GRID)
@pytest.mark.parametrize(("client", "server"), PREDICTION)
async def test_nat_by_strict_nat_without_port_prediction_stays_relayed(
    lab: Lab, relay: Relays, endpoints: Endpoints, grid_cell: GridCell, client: str, server: str
) -> None:
    """A strict NAT's next port can only be guessed: who may not guess stays relayed, and data flows."""
    hosts = nat_pair(lab, client, server)
    relays = start_relays(lab, relay)
    pair = await meet(endpoints, hosts["client"], hosts["server"], *relays, port_prediction=False)
    await pair.ping()
    await pair.stay_relayed()
    grid_cell.record("relayed")
    await pair.ping()
    for side, nat in ((pair.client, client), (pair.server, server)):
        assert side.reports[-1].mapping_varies == (nat == "strict")


@pytest.mark.netns_grid("client", "server", name=GRID, at=("strict", "strict"))
async def test_strict_by_strict_stays_relayed_and_says_so(
    lab: Lab, relay: Relays, endpoints: Endpoints, grid_cell: GridCell
) -> None:
    """No guess finds a port on both sides at once: data flows over the relay, and both know why."""
    hosts = nat_pair(lab, "strict", "strict")
    pair = await meet(endpoints, hosts["client"], hosts["server"], *start_relays(lab, relay))
    await pair.ping()
    await pair.stay_relayed()
    grid_cell.record("relayed")
    await pair.ping()
    assert pair.client.reports[-1].mapping_varies
    assert pair.server.reports[-1].mapping_varies


@BOTH_ROLES
async def test_hard_nat_to_holepunchable(lab: Lab, relay: Relays, endpoints: Endpoints, side: str) -> None:
    """Relayed behind a strict NAT, direct once the host is behind a moderate one."""
    nats = {"client": "moderate", "server": "moderate", side: "strict"}
    hosts = nat_pair(lab, nats["client"], nats["server"])
    easy = lab.router("easy", nat="moderate", ipv6=False)
    # Without guesses, which could find a way before the move.
    pair = await meet(
        endpoints, hosts["client"], hosts["server"], start_relay(lab, relay), port_prediction=False
    )
    await pair.ping()
    await pair.stay_relayed(HOLD)
    hosts[side].replug(easy)
    await pair.go_direct(STEP)
    await pair.ping()
