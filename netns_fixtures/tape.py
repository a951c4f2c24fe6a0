"""The tape of a lab: each verb that was done to it, when, and with which arguments."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: As many as events are kept; a soak run that flaps links for hours keeps the newest.
MAX_CALLS = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """A verb that was done: ``time.monotonic()`` when it began, on which handle, and how it was called."""

    time: float
    target: Any
    verb: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    #: Whether the lab was built by then; else the verb only described.
    built: bool


class Tape:
    """The verbs of one lab, in the order in which they were done. Safe to use from several threads."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._count = 0
        #: When time begins: when the lab was built, or when its first timeline began, if nothing had changed.
        self.zero: float | None = None
        self._changed = False

    @property
    def calls(self) -> tuple[Call, ...]:
        """What was done so far; a verb that was refused or failed is not here."""
        with self._lock:
            return tuple(self._calls)

    @property
    def complete(self) -> bool:
        """Whether nothing was forgotten."""
        return self._count <= MAX_CALLS

    def begin(self, moment: float) -> None:
        """Times count from this moment, unless something was done already since the lab was built."""
        if self.zero is None or not self._changed:
            self.zero = moment

    @contextlib.contextmanager
    def due(self, moment: float) -> Iterator[None]:
        """What this thread does inside was due at a time, and is recorded with that."""
        self._inside.due = moment
        try:
            yield
        finally:
            self._inside.due = None

    @contextlib.contextmanager
    def recording(
        self, target: Any, verb: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Iterator[None]:
        """Record the verb that is done inside, unless it is a part of another one."""
        outer: bool = getattr(self._inside, "verb", False)
        due: float | None = getattr(self._inside, "due", None)
        began = time.monotonic() if due is None else due
        self._inside.verb = True
        try:
            yield
        finally:
            self._inside.verb = outer
        if not outer:
            with self._lock:
                built = self.zero is not None
                self._calls.append(Call(began, target, verb, args, kwargs, built))
                self._count += 1
                self._changed = self._changed or built
