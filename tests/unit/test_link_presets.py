"""netns_fixtures.presets: named link conditions."""

from __future__ import annotations

import pytest

from netns_fixtures import presets
from netns_fixtures.errors import TopologyError
from netns_fixtures.link import LinkCondition


def test_mobile_4g_has_the_numbers_of_its_source() -> None:
    """A preset is its row of the source's table, in seconds, bit/s and probabilities."""
    assert presets.link("mobile-4g") == LinkCondition(
        rate=40e6, delay=0.025, jitter=0.010, loss=0.003, burst=6, queue=0.1
    )


def test_condition_finds_presets_by_name() -> None:
    """LinkCondition.preset is the same registry."""
    assert LinkCondition.preset("wifi") == presets.link("wifi")


def test_unknown_name_lists_the_known_ones() -> None:
    """A misspelt preset is an error that names those there are."""
    with pytest.raises(TopologyError, match=r"no link preset 'wify'; there are lan, wifi, "):
        presets.link("wify")


def test_every_preset_impairs_and_names_its_source() -> None:
    """No preset is empty or without the place its numbers come from."""
    assert len(presets.LINKS) == 16
    for name, preset in presets.LINKS.items():
        assert preset.name == name
        assert preset.source
        assert not preset.condition.is_clear


def test_degrade_level_halves_the_round_trip() -> None:
    """The ladder's rungs are given as round trips; a condition is one way."""
    absurd = presets.degrade(8)

    assert (absurd.rate, absurd.delay, absurd.loss, absurd.burst) == (256_000, 0.4, 0.25, 40)


def test_degrade_levels_get_worse() -> None:
    """The ladder goes down in loss, except for the satellite, which is far away instead."""
    losses = [presets.degrade(level).loss for level in (0, 1, 2, 3, 4, 5, 7, 8)]

    assert losses == sorted(losses)


@pytest.mark.parametrize("level", [-1, 9])
def test_unknown_degrade_level_raises(level: int) -> None:
    """There are nine levels, from 0."""
    with pytest.raises(TopologyError, match="0 to 8"):
        presets.degrade(level)
