"""netns_fixtures.wire.loss: rate and bursts of loss."""

from __future__ import annotations

from itertools import groupby
from random import Random
from statistics import mean

import pytest

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.loss import LossProcess

FRAMES = 40_000


def losses(loss: float, burst: float, seed: int = 1) -> list[bool]:
    """The fate of many frames."""
    process, random = LossProcess(LinkCondition(loss=loss, burst=burst)), Random(seed)
    return [process.is_lost(random.random()) for _ in range(FRAMES)]


def burst_lengths(fates: list[bool]) -> list[int]:
    """How many frames each run of lost ones had."""
    return [len(list(run)) for lost, run in groupby(fates) if lost]


@pytest.mark.parametrize("burst", [1, 2, 6, 20])
@pytest.mark.parametrize("loss", [0.02, 0.1, 0.3])
def test_share_of_lost_frames_is_the_loss(loss: float, burst: float) -> None:
    """The share of lost frames is what was asked for, in bursts or not."""
    # Bursts make the frames depend on each other: the deviation grows with the root of 2 * burst.
    deviation = (loss * (1 - loss) * 2 * burst / FRAMES) ** 0.5
    assert mean(losses(loss, burst)) == pytest.approx(loss, abs=4 * deviation)


@pytest.mark.parametrize("burst", [2, 6, 20])
def test_lost_frames_come_in_bursts_of_the_mean_length(burst: float) -> None:
    """The mean run of lost frames is the burst."""
    assert mean(burst_lengths(losses(0.1, burst))) == pytest.approx(burst, rel=0.15)


def test_independent_loss_has_no_bursts() -> None:
    """With burst 1, each frame is drawn on its own: runs are as long as chance makes them."""
    assert mean(burst_lengths(losses(0.1, 1))) == pytest.approx(1 / 0.9, rel=0.03)


@pytest.mark.parametrize("burst", [1, 5])
def test_no_loss_and_total_loss_are_exact(burst: float) -> None:
    """0 loses nothing and 1 loses everything."""
    assert not any(losses(0, burst))
    assert all(losses(1, burst))


def test_more_loss_with_the_same_draws_only_adds_lost_frames() -> None:
    """Raising an independent loss keeps every frame lost that was lost before."""
    few, many = losses(0.05, 1), losses(0.2, 1)

    assert all(more for less, more in zip(few, many, strict=True) if less)


def test_clearing_the_loss_ends_a_burst() -> None:
    """A change to no loss holds from the next frame on."""
    process = LossProcess(LinkCondition(loss=0.5, burst=1000))
    while not process.is_lost(0.0):
        pass

    process.change(LinkCondition())

    assert not process.is_lost(0.0)
