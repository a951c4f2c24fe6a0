"""One timeline out of what the lab did, what the endpoints saw, and what the payload felt.

All three stamp ``time.monotonic()`` seconds, so a merge is a sort.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Entries kept per recorder; a test that makes more keeps its newest.
MAX_ENTRIES = 50_000


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One line of a timeline: when (seconds, monotonic), which part spoke, whose, and what it said."""

    time: float
    part: str
    who: str
    text: str
    data: dict[str, Any] = field(default_factory=dict, compare=False)

    def line(self, zero: float) -> str:
        """The entry as text, its time relative to ``zero``."""
        return f"{self.time - zero:+9.3f}  {self.part:<8} {self.who:<10} {self.text}"


class LabLike(Protocol):
    """A lab, as far as a recorder needs it."""

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


class EndpointLike(Protocol):
    """An endpoint, as far as a recorder needs it."""

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


#: Which part of the story an endpoint's event belongs to, by the event's kind.
_PARTS = {
    "netmon": "netmon",
    "addresses": "netmon",
    "rebind": "netmon",
    "relay": "relay",
    "relay.home_changed": "relay",
    "call-me-maybe.sent": "disco",
    "call-me-maybe.recv": "disco",
    "ping.sent": "disco",
    "pong.recv": "disco",
}


class Recorder:
    """Collects entries from labs and endpoints; ``stop`` ends all subscriptions."""

    _stack: list[Recorder] = []

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self.lab_events: deque[Any] = deque(maxlen=MAX_ENTRIES)
        self._listeners: list[Callable[[Entry], None]] = []
        self._ends: list[Callable[[], None]] = []

    @classmethod
    def current(cls) -> Recorder | None:
        """The recorder of the test that runs now, if the plugin made one."""
        return cls._stack[-1] if cls._stack else None

    def __enter__(self) -> Recorder:
        self._stack.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.remove(self)
        self.stop()

    def add(self, entry: Entry) -> None:
        """Record an entry and tell the listeners."""
        self.entries.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def note(self, part: str, who: str, text: str, **data: Any) -> None:
        """Record something that happens now."""
        self.add(Entry(time.monotonic(), part, who, text, data))

    def on_entry(self, listener: Callable[[Entry], None]) -> None:
        """Have each further entry reported."""
        self._listeners.append(listener)

    def watch_lab(self, lab: LabLike) -> None:
        """Record the events of a lab."""

        def record(event: Any) -> None:
            self.lab_events.append(event)
            self.add(Entry(event.time, "lab", event.node, event.text, {"kind": event.kind, **event.data}))

        self._ends.append(lab.on_event(record))

    def watch_endpoint(self, endpoint: EndpointLike, who: str) -> None:
        """Record the events of an endpoint under a name."""

        def record(event: Any) -> None:
            part = _PARTS.get(event.kind, "path")
            self.add(Entry(event.time, part, who, event.text, {"kind": event.kind, **event.fields()}))

        self._ends.append(endpoint.on_event(record))

    def stop(self) -> None:
        """End all subscriptions; the entries stay."""
        while self._ends:
            self._ends.pop()()

    def story(self, since: float, zero: float | None = None, *, limit: int = 60) -> str:
        """The entries since a time as text, the newest ``limit`` of them."""
        return story(self.entries, since, zero, limit=limit)


def story(entries: Iterable[Entry], since: float, zero: float | None = None, *, limit: int = 60) -> str:
    """Entries since a time as lines; times are relative to ``zero`` (default: ``since``)."""
    chosen = sorted(e for e in entries if e.time >= since)
    left_out = len(chosen) - limit
    lines = [f"           ... {left_out} earlier lines left out"] if left_out > 0 else []
    lines += [e.line(since if zero is None else zero) for e in chosen[-limit:]]
    return "\n".join(lines)
