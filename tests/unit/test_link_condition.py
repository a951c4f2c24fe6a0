"""netns_fixtures.link: what a link condition accepts and says."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from netns_fixtures.errors import LabError, TopologyError
from netns_fixtures.link import LinkCondition


def test_default_condition_is_clear() -> None:
    """A condition without fields does nothing and says so."""
    assert LinkCondition().is_clear
    assert str(LinkCondition()) == "clear"


@pytest.mark.parametrize("field", ["delay", "jitter", "loss", "rate", "reorder", "duplicate", "corrupt"])
def test_any_effect_alone_is_not_clear(field: str) -> None:
    """Each field that touches frames needs an engine."""
    assert not LinkCondition().with_(**{field: 1}).is_clear


@pytest.mark.parametrize("field", ["queue", "burst"])
def test_field_without_effect_alone_is_clear(field: str) -> None:
    """A queue without a rate and a burst without loss do nothing."""
    assert LinkCondition().with_(**{field: 3}).is_clear


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"delay": -0.001}, "delay is seconds"),
        ({"delay": 25}, "delay is seconds"),
        ({"delay": "25ms"}, "delay is a number"),
        ({"delay": math.nan}, "delay is seconds"),
        ({"delay": None}, "delay is a number"),
        ({"jitter": math.inf}, "jitter is seconds"),
        ({"queue": -1}, "queue is seconds"),
        ({"loss": 2}, "loss is a probability"),
        ({"loss": True}, "loss is a number"),
        ({"reorder": -0.1}, "reorder is a probability"),
        ({"duplicate": math.nan}, "duplicate is a probability"),
        ({"corrupt": 1.01}, "corrupt is a probability"),
        ({"burst": 0.5}, "burst is a mean number"),
        ({"burst": math.inf}, "burst is a mean number"),
        ({"rate": 0}, "rate is bit/s"),
        ({"rate": math.nan}, "rate is bit/s"),
        ({"rate": "1M"}, "rate is a number"),
        ({"loss": 0.9, "burst": 2}, "at most burst / "),
    ],
)
def test_wrong_value_raises_and_names_the_unit(fields: dict[str, Any], complaint: str) -> None:
    """A value out of range is refused at once, with the field and its unit in the sentence."""
    with pytest.raises(TopologyError, match=complaint) as caught:
        LinkCondition(**fields)
    assert isinstance(caught.value, LabError)
    assert isinstance(caught.value, ValueError)


def test_total_loss_goes_with_any_burst() -> None:
    """Loss of one is a dead link whatever the burst."""
    assert LinkCondition(loss=1, burst=5).loss == 1


def test_with_changes_one_field_and_keeps_the_rest() -> None:
    """with_ gives a changed copy and leaves the original alone."""
    slow = LinkCondition(delay=0.1, loss=0.01)

    assert slow.with_(loss=0.02) == LinkCondition(delay=0.1, loss=0.02)
    assert slow.loss == 0.01


def test_with_unknown_field_names_the_known_ones() -> None:
    """A misspelt field is an error that lists what there is."""
    with pytest.raises(TopologyError, match=r"no 'latency'; it has delay, jitter"):
        LinkCondition().with_(latency=1)


def test_with_checks_values() -> None:
    """with_ refuses what the constructor refuses."""
    with pytest.raises(TopologyError, match="loss is a probability"):
        LinkCondition().with_(loss=5)


def test_condition_survives_json() -> None:
    """as_dict is plain data, and the constructor takes it back."""
    condition = LinkCondition(delay=0.1, rate=1e6, burst=3, loss=0.2)

    assert LinkCondition(**json.loads(json.dumps(condition.as_dict()))) == condition


def test_text_tells_every_effect() -> None:
    """The text form is what a person reads in the timeline."""
    condition = LinkCondition(
        delay=0.025,
        jitter=0.01,
        loss=0.003,
        burst=6,
        rate=40e6,
        queue=0.1,
        reorder=0.1,
        duplicate=0.2,
        corrupt=0.3,
    )

    assert str(condition) == (
        "25 ms ± 10 ms, 0.003 lost in bursts of 6, 40 Mbit/s with a queue of 100 ms, "
        "0.1 reordered, 0.2 duplicated, 0.3 corrupted"
    )
