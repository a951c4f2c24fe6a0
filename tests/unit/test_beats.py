"""The record of messages and answers."""

from __future__ import annotations

import pytest

from pytest_iroh.beats import Beats


def _beats(*pairs: tuple[float, float]) -> Beats:
    beats = Beats()
    for sent, answered in pairs:
        beats.note_bytes(answered)
        beats.note_answer(sent, answered)
    return beats


def test_answer_that_was_under_way_is_not_counted() -> None:
    """An echo of a message sent before the change proves nothing, when ever it arrives."""
    beats = _beats((0.90, 0.95), (0.98, 1.03), (1.00, 1.05), (1.02, 1.07), (1.04, 1.09))

    assert beats.first_byte(1.0) == 1.03
    assert beats.first_answer(1.0) == 1.07


def test_no_answer_yet() -> None:
    """Without an answer to a later message there is none."""
    beats = _beats((0.9, 1.1))

    assert beats.first_answer(1.0) is None
    assert beats.first_byte(1.1) is None
    assert Beats().first_answer(0.0) is None


@pytest.mark.parametrize(
    ("around", "until", "silence"),
    [(1.0, 4.0, 2.5), (2.0, 4.2, 2.5), (0.5, 1.5, 0.5), (0.4, 4.0, None)],
    ids=["outage before the change", "outage after the change", "none", "no bytes before"],
)
def test_longest_silence(around: float, until: float, silence: float | None) -> None:
    """The silence is measured from the last bytes before the change to the answer that ends it."""
    beats = _beats((0.4, 0.5), (0.9, 1.0), (1.4, 1.5), (3.9, 4.0), (4.1, 4.2))

    assert beats.longest_silence(around, until) == (None if silence is None else pytest.approx(silence))
