"""The merged timeline."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from iroh_py.testing import run_virtual
from pytest_iroh.timeline import STORY_HEAD, STORY_TAIL, Entry, Recorder, now, story


class Source:
    """A lab that says what it is told to."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """As a lab's."""
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def say(self, time: float, text: str) -> None:
        """Report an event."""
        event = SimpleNamespace(time=time, node="laptop", kind="link_up", text=text, data={"a": 1})
        for callback in self.callbacks:
            callback(event)


def test_story_is_sorted_by_time_and_nothing_else() -> None:
    """Entries of one time keep the order in which they were recorded."""
    entries = [
        Entry(2.0, "lab", "b", "b second"),
        Entry(1.0, "path", "z", "first"),
        Entry(2.0, "disco", "a", "third"),
    ]

    assert story(entries, 0.0, 1.0).splitlines() == [
        "   +0.000  path     z first",
        "   +1.000  lab      b second",
        "   +1.000  disco    a third",
    ]


def test_story_leaves_out_the_middle() -> None:
    """Of a very long story the beginning and the end are told, and how much lies between."""
    lines = story([Entry(float(i), "lab", "", f"event {i}") for i in range(100)], 0.0).splitlines()

    assert len(lines) == STORY_HEAD + STORY_TAIL + 1
    assert lines[0].endswith("event 0")
    assert lines[STORY_HEAD].strip() == f"... {100 - STORY_HEAD - STORY_TAIL} lines left out"
    assert lines[-1].endswith("event 99")


def test_lab_events_become_entries_and_changes() -> None:
    """A watched lab's events are on the timeline, and can be asked for as changes since a time."""
    recorder, lab, other = Recorder(), Source(), Source()
    recorder.watch_lab(lab)
    recorder.watch_lab(lab)
    recorder.watch_lab(other)
    lab.say(2.0, "laptop eth0 went up")
    lab.say(1.0, "laptop eth0 went down")
    other.say(3.0, "another lab")

    assert [entry.text for entry in recorder.entries] == [
        "laptop eth0 went down",
        "laptop eth0 went up",
        "another lab",
    ]
    assert recorder.entries[0].data == {"kind": "link_up", "a": 1}
    assert [change.text for change in recorder.changes(1.5, lab)] == ["laptop eth0 went up"]
    assert [change.text for change in recorder.changes(1.5)] == ["laptop eth0 went up", "another lab"]


def test_stopped_recorder_hears_nothing_more() -> None:
    """After stop no subscription is left."""
    lab = Source()
    with Recorder() as recorder:
        recorder.watch_lab(lab)
        assert Recorder.current() is recorder

    assert lab.callbacks == []


def test_listener_hears_each_entry() -> None:
    """A live view is told of every entry."""
    recorder = Recorder()
    heard: list[Entry] = []
    recorder.on_entry(heard.append)

    recorder.note("payload", "", "something")

    assert heard == recorder.entries


def test_now_is_virtual_in_a_virtual_loop() -> None:
    """Notes taken under virtual time carry that time."""

    async def clock() -> float:
        return now()

    assert run_virtual(clock) == pytest.approx(1000.0)
    assert now() != pytest.approx(1000.0)
