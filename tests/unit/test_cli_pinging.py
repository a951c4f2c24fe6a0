"""The numbers of ``connect --ping``, and what they look like."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from iroh_py import SecretKey
from iroh_py.cli.ping_display import LiveDisplay, PlainDisplay
from iroh_py.cli.pinging import MAX_OUTSTANDING, Pinging


def test_answers_give_times() -> None:
    """Least, mean and most, in milliseconds."""
    pinging = Pinging()
    for began, seconds in ((1.0, 0.010), (2.0, 0.030), (3.0, 0.020)):
        number = pinging.handle_sent(began)
        assert pinging.handle_answer(began + seconds, number) == pytest.approx(seconds)
    assert pinging.summary() == "3 sent, 3 answered, rtt min/avg/max 10.00/20.00/30.00 ms"


def test_silence_is_the_age_of_the_oldest_message_without_an_answer() -> None:
    """And none once all are answered."""
    pinging = Pinging()
    assert pinging.silence(5.0) == 0
    first, second = pinging.handle_sent(1.0), pinging.handle_sent(2.0)
    assert pinging.silence(4.0) == 3.0
    pinging.handle_answer(4.0, first)
    assert pinging.silence(4.0) == 2.0
    pinging.handle_answer(4.0, second)
    assert pinging.silence(9.0) == 0
    assert pinging.summary().startswith("2 sent, 2 answered")


def test_number_that_nobody_waits_for_counts_nothing() -> None:
    """A peer may send back anything."""
    pinging = Pinging()
    number = pinging.handle_sent(1.0)
    assert pinging.handle_answer(2.0, number + 1) is None
    assert pinging.handle_answer(2.0, number) == 1.0
    assert pinging.handle_answer(3.0, number) is None
    assert pinging.answered == 1


def test_long_silence_stops_sending() -> None:
    """What waits for an answer is bounded."""
    pinging = Pinging()
    for _ in range(MAX_OUTSTANDING):
        assert not pinging.full
        pinging.handle_sent(1.0)
    assert pinging.full
    assert pinging.summary() == f"{MAX_OUTSTANDING} sent, none answered"


def test_plain_lines_tell_each_change_of_path_once(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per event, for a log."""
    pinging = Pinging()
    with PlainDisplay(pinging) as display:
        display.path_changed("relayed by http://relay/")
        display.path_changed("relayed by http://relay/")
        pinging.handle_answer(1.25, pinging.handle_sent(1.0))
        display.answered(1, 0.25, "relayed by http://relay/")
        display.silent(2.0)
        display.over()
    assert capsys.readouterr().out.splitlines() == [
        "path: relayed by http://relay/",
        "1: 250.00 ms, relayed by http://relay/",
        "no answer for 2.0 s",
        "1 sent, 1 answered, rtt min/avg/max 250.00/250.00/250.00 ms",
    ]


def test_live_display_shows_path_time_and_history() -> None:
    """In a terminal the last picture stays, with the paths that were used."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=100)
    pinging, node_id = Pinging(), SecretKey(bytes(32)).node_id
    with LiveDisplay(node_id, pinging, console) as display:
        display.path_changed("relayed by http://relay/")
        display.silent(3.0)
        pinging.handle_answer(1.25, pinging.handle_sent(1.0))
        display.answered(1, 0.25, "relayed by http://relay/")
        display.path_changed("direct to 192.0.2.7:4711")
        display.over()
    shown = screen.getvalue()
    assert "silent for 3.0 s" in shown
    picture = shown[shown.rindex("node") :]
    for text in (
        str(node_id),
        "direct to 192.0.2.7:4711",
        "relayed by http://relay/",
        "250.00 ms",
        "1 answered",
    ):
        assert text in picture
