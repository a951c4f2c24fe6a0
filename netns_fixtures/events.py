"""What happened in a lab: numbered, timestamped, in one sentence each."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: More than any test makes; a soak run that flaps links for hours keeps the newest.
MAX_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class LabEvent:
    """One change of the lab; ``node`` is a host's or router's name.

    ``time`` is ``time.monotonic()`` seconds when the verb began, before the kernel's work: healing times
    measured from it include that work.
    """

    number: int
    time: float
    kind: str
    node: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


class EventLog:
    """The events of one lab, in order; listeners are called in the thread that made the event."""

    def __init__(self) -> None:
        self._events: deque[LabEvent] = deque(maxlen=MAX_EVENTS)
        self._listeners: list[Callable[[LabEvent], None]] = []
        self._lock = threading.RLock()
        self._count = 0

    def emit(self, kind: str, node: str, text: str, *, at: float | None = None, **data: Any) -> LabEvent:
        """Append an event stamped ``at`` (default: now) and tell the listeners."""
        with self._lock:
            self._count += 1
            stamp = time.monotonic() if at is None else at
            event = LabEvent(self._count, stamp, kind, node, text, data)
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
