"""What happened in a lab: numbered, timestamped, in one sentence each."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

#: More than any test makes; a soak run that flaps links for hours keeps the newest.
MAX_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class LabEvent:
    """One change of the lab. ``time`` is ``time.monotonic()`` seconds, ``node`` a host's or router's name."""

    number: int
    time: float
    kind: str
    node: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


class EventLog:
    """The events of one lab, in order; listeners are called in the thread that made the event."""

    def __init__(self) -> None:
        self._events: deque[LabEvent] = deque(maxlen=MAX_EVENTS)
        self._listeners: list[Callable[[LabEvent], None]] = []
        self._lock = threading.RLock()
        self._count = 0

    def emit(self, kind: str, node: str, text: str, **data: Any) -> LabEvent:
        """Append an event stamped now and tell the listeners."""
        with self._lock:
            self._count += 1
            event = LabEvent(self._count, time.monotonic(), kind, node, text, MappingProxyType(data))
            self._events.append(event)
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(event)
        return event

    def subscribe(self, callback: Callable[[LabEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with each later event; the returned function ends that."""
        with self._lock:
            self._listeners.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._listeners:
                    self._listeners.remove(callback)

        return unsubscribe

    def snapshot(self) -> tuple[LabEvent, ...]:
        """All events so far."""
        with self._lock:
            return tuple(self._events)
