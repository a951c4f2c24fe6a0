"""``heals``: the assertion that something keeps working across a change of the network.

::

    async with heals(connection, within=PING_INTERVAL) as healing:
        laptop.replug(hotspot)
    assert healing.direct and healing.bytes_lost == 0

Inside the block a pulse beats. At the end of the block the first answer after the last thing the lab did must come
within the time given; then every message must have come back. Otherwise ``DidNotHeal`` tells the story.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from iroh_py import PING_INTERVAL, Connection

from pytest_iroh.pulse import BEAT_INTERVAL, CallPulse, ConnectionPulse
from pytest_iroh.timeline import Entry, Recorder, story

if TYPE_CHECKING:
    from pytest_iroh.sync import SyncConnection

#: What ``heals`` can watch over.
Subject = "Connection | SyncConnection | Callable[[], Any]"
#: Story lines before the change that are shown with a failure, in seconds.
STORY_BEFORE = 1.0


class DidNotHeal(AssertionError):
    """The subject did not answer in time, or not with the right bytes; the text is the story."""


@dataclass(slots=True)
class Healing:
    """What happened: filled in when the block of ``heals`` ends. Times in seconds."""

    within: float
    #: The last change, as a sentence, and when it happened (monotonic).
    cause: str = ""
    changed_at: float = 0.0
    healed: bool = False
    #: From the last change to the first answer.
    seconds: float | None = None
    #: The longest time without an answer around the change.
    gap: float | None = None
    path_before: str = ""
    path_after: str = ""
    direct: bool = False
    bytes_sent: int = 0
    bytes_lost: int = 0
    messages: int = 0
    link_engine: str = ""
    seed: int | None = None
    timeline: list[Entry] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values, times in milliseconds."""
        return {
            "healed": self.healed,
            "heal_ms": None if self.seconds is None else round(self.seconds * 1000, 1),
            "gap_ms": None if self.gap is None else round(self.gap * 1000, 1),
            "within_ms": round(self.within * 1000, 1),
            "cause": self.cause,
            "bytes_sent": self.bytes_sent,
            "bytes_lost": self.bytes_lost,
            "path_before": self.path_before,
            "path_after": self.path_after,
            "direct": self.direct,
            "link_engine": self.link_engine,
            "seed": self.seed,
        }

    def story(self) -> str:
        """The merged timeline around the change, times relative to it."""
        return story(self.timeline, self.changed_at - STORY_BEFORE, self.changed_at)


class heals:  # noqa: N801 - reads as a verb where it is used
    """Watch over a connection, or over a callable that answers, while the network changes.

    ``within``: seconds from the last change in the block to the first answer. ``interval``: seconds between messages.
    ``lab``: whose events count as changes (default: the labs of the running test; without any, the end of the block
    is the change). Use it with ``async with`` in async code and ``with`` in plain code.
    """

    def __init__(
        self,
        subject: Connection | SyncConnection | Callable[[], Any],
        within: float = PING_INTERVAL,
        *,
        interval: float = BEAT_INTERVAL,
        lab: Any = None,
        recorder: Recorder | None = None,
    ) -> None:
        if not within > 0:
            raise ValueError(f"within is a positive number of seconds, not {within}")
        self._subject = subject
        self._interval = interval
        self._healing = Healing(within)
        self._own_recorder = recorder is None and Recorder.current() is None
        self._recorder = recorder or Recorder.current() or Recorder()
        self._lab = lab
        self._pulse: ConnectionPulse | CallPulse | None = None
        self._entered = 0.0
        self._events_before = 0

    # --- async with ---

    async def __aenter__(self) -> Healing:
        self._begin()
        if isinstance(self._subject, Connection):
            pulse = ConnectionPulse(self._subject, self._interval)
            self._pulse = pulse
            await pulse.start()
            self._raise_if_dead(pulse)
            self._healing.path_before = str(self._subject.path)
        elif callable(self._subject):
            self._pulse = CallPulse(self._subject, self._interval)
            if inspect.iscoroutinefunction(self._subject) or inspect.iscoroutinefunction(
                getattr(self._subject, "__call__", None)  # noqa: B004 - objects with an async __call__
            ):
                self._pulse.start_task()
            else:
                self._pulse.start_thread()
            await self._pulse.wait_answer(0.0, self._healing.within)
            self._raise_if_dead(self._pulse)
        else:
            raise TypeError(f"heals() wants a Connection or a callable, not {type(self._subject).__name__}")
        return self._healing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pulse = self._pulse
        assert pulse is not None
        try:
            if kind is None:
                self._find_cause()
                left = self._healing.changed_at + self._healing.within - time.monotonic()
                answer = await pulse.wait_answer(self._healing.changed_at, max(left, 0.0))
                self._conclude(answer)
                if isinstance(pulse, ConnectionPulse) and answer is not None:
                    await pulse.finish()
        finally:
            if isinstance(pulse, ConnectionPulse):
                pulse.cancel()
            else:
                pulse.stop()
        if kind is None:
            self._finish()

    # --- with ---

    def __enter__(self) -> Healing:
        from pytest_iroh.sync import SyncConnection

        if isinstance(self._subject, SyncConnection):
            connection = self._subject
            self._portal = connection.portal
            self._inner = heals(
                connection.connection,
                self._healing.within,
                interval=self._interval,
                lab=self._lab,
                recorder=None if self._own_recorder else self._recorder,
            )
            return self._portal.run(self._inner.__aenter__())
        if isinstance(self._subject, Connection) or not callable(self._subject):
            raise TypeError("a Connection lives in an event loop: use 'async with heals(...)' around it")
        self._begin()
        pulse = self._pulse = CallPulse(self._subject, self._interval)
        pulse.start_thread()
        pulse.wait(0.0, self._healing.within)
        self._raise_if_dead(pulse)
        return self._healing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if hasattr(self, "_inner"):
            self._portal.run(self._inner.__aexit__(kind, error, traceback))
            return
        pulse = self._pulse
        assert isinstance(pulse, CallPulse)
        try:
            if kind is None:
                self._find_cause()
                left = self._healing.changed_at + self._healing.within - time.monotonic()
                self._conclude(pulse.wait(self._healing.changed_at, max(left, 0.0)))
        finally:
            pulse.stop()
        if kind is None:
            self._finish()

    # --- the verdict ---

    def _begin(self) -> None:
        if self._lab is not None and self._own_recorder:
            self._recorder.watch_lab(self._lab)
        self._entered = time.monotonic()

    def _raise_if_dead(self, pulse: ConnectionPulse | CallPulse) -> None:
        """The subject must work before the network changes, else the test would prove nothing."""
        if pulse.first_answer(0.0) is not None:
            return
        reason = pulse.error or getattr(pulse, "last_failure", None) or "no answer came"
        if isinstance(pulse, CallPulse):
            pulse.stop()
        else:
            pulse.cancel()
        raise DidNotHeal(f"heals: it does not even work before the change: {reason}")

    def _find_cause(self) -> None:
        """The last thing the lab did in the block is the change; without a lab, the end of the block is."""
        done = [e for e in self._recorder.lab_events if e.time >= self._entered]
        healing = self._healing
        if done:
            healing.cause, healing.changed_at = done[-1].text, done[-1].time
        else:
            healing.cause, healing.changed_at = "the end of the block", time.monotonic()
        lab = self._lab
        if lab is not None:
            healing.link_engine, healing.seed = lab.link_engine, lab.seed

    def _conclude(self, answer: float | None) -> None:
        healing, pulse = self._healing, self._pulse
        assert pulse is not None
        if answer is not None:
            healing.seconds = answer - healing.changed_at
            before = pulse.last_answer(healing.changed_at)
            healing.gap = None if before is None else answer - before
            healing.healed = healing.seconds <= healing.within
        self._recorder.note("payload", "", "first answer" if answer is not None else "no answer in time")

    def _finish(self) -> None:
        healing, pulse = self._healing, self._pulse
        assert pulse is not None
        healing.messages = pulse.received
        if isinstance(pulse, ConnectionPulse):
            healing.path_after = str(pulse.connection.path)
            healing.direct = pulse.connection.path.direct
            healing.bytes_sent, healing.bytes_lost = pulse.bytes_sent, pulse.bytes_lost
        healing.timeline = list(self._recorder.entries)
        if self._own_recorder:
            self._recorder.stop()
        if healing.healed and pulse.error is None and healing.bytes_lost == 0:
            return
        raise DidNotHeal(self._failure(pulse))

    def _failure(self, pulse: ConnectionPulse | CallPulse) -> str:
        healing = self._healing
        where = f"   ({healing.link_engine} engine, seed {healing.seed})" if healing.link_engine else ""
        if pulse.error is not None:
            head = f"heals: the connection ended: {pulse.error}"
        elif not healing.healed:
            head = f"heals: no byte within {healing.within:g} s after {healing.cause}{where}"
        else:
            head = f"heals: {healing.bytes_lost} bytes were lost across {healing.cause}{where}"
        failure = getattr(pulse, "last_failure", None)
        if failure is not None and not healing.healed:
            head += f"\nthe last call failed with {type(failure).__name__}: {failure}"
        return head + "\n" + healing.story()


async def wait_direct(connection: Connection, within: float = 10.0) -> None:
    """Wait until payload takes a direct path. Raises AssertionError with the present path after ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            await connection.watch_path().wait_until(lambda path: path.direct)
    except TimeoutError:
        raise AssertionError(f"no direct path within {within:g} s; payload goes over {connection.path}") from None


async def stays_relayed(connection: Connection, during: float) -> None:
    """Check that payload does not take a direct path for ``during`` seconds. Raises AssertionError if it does."""
    try:
        async with asyncio.timeout(during):
            path = await connection.watch_path().wait_until(lambda path: path.direct)
    except TimeoutError:
        return
    raise AssertionError(f"payload went direct over {path} although it should stay relayed")
