"""netns_fixtures.wire.agenda: which line is due next."""

from __future__ import annotations

from wire_frames import ipv4

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.agenda import Agenda
from netns_fixtures.wire.line import Line


def line(delay: float) -> Line:
    """A line that nobody reads or writes, with a frame of time 0 under way."""
    waiting = Line(-1, -1, LinkCondition(delay=delay), "seed")
    waiting.model.handle_frame(0.0, ipv4(1))
    return waiting


def test_empty_agenda_has_nothing_due() -> None:
    """Without lines there is no time to wake at."""
    assert Agenda().next_due is None
    assert Agenda().pop_due(1e9) is None


def test_lines_come_in_the_order_of_their_frames() -> None:
    """The earliest is first, however they were noted."""
    agenda, slow, fast = Agenda(), line(0.2), line(0.1)
    agenda.note(slow)
    agenda.note(fast)

    assert agenda.next_due == 0.1
    assert agenda.pop_due(0.15) is fast
    assert agenda.pop_due(0.15) is None
    assert agenda.pop_due(0.25) is slow


def test_line_without_frames_is_not_noted() -> None:
    """An idle line never wakes the process."""
    agenda = Agenda()
    agenda.note(Line(-1, -1, LinkCondition(), "seed"))

    assert agenda.next_due is None


def test_line_noted_twice_comes_once() -> None:
    """More frames behind the first add no entry."""
    agenda, waiting = Agenda(), line(0.1)
    agenda.note(waiting)
    waiting.model.handle_frame(0.05, ipv4(2))
    agenda.note(waiting)

    assert agenda.pop_due(1.0) is waiting
    assert agenda.pop_due(1.0) is None


def test_line_with_an_earlier_frame_comes_earlier_and_once() -> None:
    """A frame that is due before those already noted is not late because of them."""
    agenda = Agenda()
    held = Line(-1, -1, LinkCondition(reorder=1), "seed")
    held.model.handle_frame(0.0, ipv4(1))
    agenda.note(held)
    held.model.condition = LinkCondition()
    held.model.handle_frame(0.001, ipv4(2))
    agenda.note(held)

    assert agenda.next_due == 0.001
    assert agenda.pop_due(0.002) is held
    assert agenda.pop_due(1.0) is None
