"""One timeline out of what the lab did, what the endpoints saw, and what the payload felt.

All three stamp seconds of one clock (``time.monotonic()``, or the virtual clock), so a merge is a sort.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

#: Entries kept per recorder; a test that makes more keeps its newest.
MAX_ENTRIES = 50_000
#: Lines of a story that a terminal shows: the first tell how it began to go wrong, the last how it ended.
STORY_HEAD = 40
STORY_TAIL = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline: when (seconds), which part spoke, whose, and what it said."""

    time: float
    part: str
    who: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    def line(self, zero: float) -> str:
        """The entry as text, its time relative to ``zero``."""
        words = self.text if not self.who or self.text.startswith(self.who) else f"{self.who} {self.text}"
        return f"{self.time - zero:+9.3f}  {self.part:<8} {words}"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a lab did: when the verb began, and when it was done. What happens between is in doubt."""

    lab: Any
    kind: str
    text: str
    began: float
    done: float


def _when(entry: Entry) -> float:
    """The only key: what happened at one time stays in the order in which it was recorded."""
    return entry.time


class EventSource(Protocol):
    """A lab or an endpoint, as far as a recorder needs it."""

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


class SimLike(Protocol):
    """A simulated network, as far as a recorder needs it."""

    def on_change(self, callback: Callable[[Any], None]) -> Callable[[], None]: ...


@dataclass(frozen=True, slots=True)
class SimChange:
    """A change of a simulated network in the form of a lab's event."""

    time: float
    node: str
    text: str
    kind: str = "change"
    data: dict[str, Any] = field(default_factory=dict)


class SimEvents:
    """A simulated network in the form of a lab."""

    name = "sim"
    link_engine = "simulation"

    def __init__(self, net: SimLike, seed: int | None) -> None:
        self._net = net
        self.seed = seed

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        return self._net.on_change(
            lambda change: callback(
                SimChange(change.time, change.node, f"{change.node} {change.fate}".strip())
            )
        )


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


def now() -> float:
    """Seconds on the clock that counts here: the running virtual loop's, else ``time.monotonic()``."""
    clock = sys.modules.get("iroh_py.testing.clock")
    if clock is not None:
        import asyncio  # loaded already where there is a virtual clock; elsewhere it would cost time

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return time.monotonic()
        if isinstance(loop, clock.VirtualClockLoop):
            return float(loop.time())
    return time.monotonic()


def epoch_offset() -> float:
    """What must be added to a time of the timeline for seconds since 1970, as capture files have them."""
    return time.time() - time.monotonic()


def scaled(seconds: float) -> float:
    """A deadline as this run wants it: times the option ``--netns-timeout-scale``, outside of tests as it is."""
    recorder = Recorder.current()
    return seconds * (recorder.timeout_scale if recorder is not None else 1.0)


class Recorder:
    """Collects entries from labs and endpoints until ``stop``. Safe to use from several threads."""

    _stack: ClassVar[list[Recorder]] = []

    def __init__(self, timeout_scale: float = 1.0) -> None:
        #: What ``heals`` multiplies its ``within`` by.
        self.timeout_scale = timeout_scale
        #: The labs that were watched, oldest first.
        self.labs: list[Any] = []
        #: The endpoints that were watched, and the beats (``Beats``) of each ``heals``.
        self.endpoints: list[Any] = []
        self.pulses: list[Any] = []
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._changes: deque[Change] = deque(maxlen=MAX_ENTRIES)
        self._listeners: list[Callable[[Entry], None]] = []
        self._lab_listeners: list[Callable[[Any], None]] = []
        self._ends: list[Callable[[], None]] = []
        self._lock = threading.Lock()

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

    @property
    def entries(self) -> list[Entry]:
        """What was recorded so far, in order of time."""
        with self._lock:
            return sorted(self._entries, key=_when)

    def changes(self, since: float, lab: Any = None) -> list[Change]:
        """What a lab (None: all labs) did since a time, in order of time."""
        with self._lock:
            found = [each for each in self._changes if lab is None or each.lab is lab]
        return sorted((each for each in found if each.began >= since), key=lambda each: each.began)

    def add(self, entry: Entry) -> None:
        """Record an entry and tell the listeners."""
        with self._lock:
            self._entries.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def note(self, part: str, who: str, text: str, **data: Any) -> None:
        """Record something that happens now."""
        self.add(Entry(now(), part, who, text, data))

    def on_entry(self, listener: Callable[[Entry], None]) -> None:
        """Have each further entry reported, in the thread that made it."""
        self._listeners.append(listener)

    def watch_lab(self, lab: EventSource) -> None:
        """Record the events of a lab, or of whatever reports changes of a network in that form."""
        if any(watched is lab for watched in self.labs):
            return
        self.labs.append(lab)

        def record(event: Any) -> None:
            with self._lock:
                if not event.data.get("part_of_verb"):  # then the verb is the change
                    self._changes.append(Change(lab, event.kind, event.text, event.time, now()))
            self.add(Entry(event.time, "lab", event.node, event.text, {"kind": event.kind, **event.data}))

        self._ends.append(lab.on_event(record))
        for listener in list(self._lab_listeners):
            listener(lab)

    def on_lab(self, listener: Callable[[Any], None]) -> None:
        """Have each further lab reported when it is watched."""
        self._lab_listeners.append(listener)

    def watch_sim(self, net: SimLike, seed: int | None = None) -> None:
        """Record the changes of a simulated network, as those of a lab."""
        self.watch_lab(SimEvents(net, seed))

    def watch_endpoint(self, endpoint: EventSource, who: str) -> None:
        """Record the events of an endpoint under a name."""

        def record(event: Any) -> None:
            part = _PARTS.get(event.kind, "path")
            self.add(Entry(event.time, part, who, event.text, {"kind": event.kind, **event.fields()}))

        self._ends.append(endpoint.on_event(record))
        self.endpoints.append(endpoint)

    def stop(self) -> None:
        """End all subscriptions; the entries stay."""
        while self._ends:
            self._ends.pop()()

    def story(self, since: float | None = None, zero: float | None = None) -> str:
        """The entries since a time (default: all) as text."""
        entries = self.entries
        if not entries:
            return ""
        return story(entries, entries[0].time if since is None else since, zero)


def story(entries: Iterable[Entry], since: float, zero: float | None = None) -> str:
    """Entries since a time as lines, without the middle of very many.

    Times are relative to ``zero``, by default ``since``.
    """
    chosen = sorted((entry for entry in entries if entry.time >= since), key=_when)
    lines = [e.line(since if zero is None else zero) for e in chosen]
    left_out = len(lines) - STORY_HEAD - STORY_TAIL
    if left_out > 0:
        lines[STORY_HEAD : STORY_HEAD + left_out] = [f"           ... {left_out} lines left out"]
    return "\n".join(lines)
