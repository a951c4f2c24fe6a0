"""``heals``: the assertion that something keeps working across a change of the network.

::

    async with heals(connection, within=PING_INTERVAL) as healing:
        laptop.replug(hotspot)
    assert healing.direct and healing.bytes_lost == 0

Inside the block a pulse beats. At the end of the block, a message that was sent after the last thing the lab
did must be answered within the time given; then every message must have come back. Otherwise ``DidNotHeal``
tells the story.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

from iroh_py import PING_INTERVAL, Connection, Endpoint
from pytest_iroh.beats import BEAT_INTERVAL
from pytest_iroh.call_pulse import CallPulse
from pytest_iroh.healing import DidNotHeal, Healing
from pytest_iroh.pulse import FINISH_TIMEOUT, ConnectionPulse
from pytest_iroh.sync import Portal, SyncConnection
from pytest_iroh.timeline import Recorder, now

#: What ``heals`` can watch over.
Subject = Connection | SyncConnection | Callable[[], Any]

#: Seconds for the first answer, before anything changes: a service that was started just now may still be
#: starting.
START_TIMEOUT = 10.0
#: Events of a lab that change nothing about the network.
NO_CHANGES = frozenset(
    {
        "lab_built",
        "lab_closed",
        "process_started",
        "process_ended",
        "dns_query",
        "configured",
        "dhcp_renewed",
        "dhcp_rebinding",
        "dhcp_nak",
        "dhcp_declined",
        "dhcp_exhausted",
    }
)


def _is_verdict(info: Any) -> bool:
    """Whether pytest shall hide our frames: the story says all, and the caller's line is what matters."""
    return issubclass(info.type, DidNotHeal | TypeError | ValueError)


class heals:
    """Watch over a connection, or over a callable that answers, while the network changes.

    ``within``: seconds from the last change in the block to the answer to a message sent after it (times the
    option ``--netns-timeout-scale``). ``interval``: seconds between messages. ``lab``: whose events count as
    changes (default: all labs of the running test; without any event, the end of the block is the change).
    ``recorder``: where they are recorded (default: that of the running test). Use it with ``async with`` in
    async code and ``with`` in plain code; both give a Healing and raise DidNotHeal. Raises TypeError and
    ValueError for what it cannot watch over.
    """

    def __init__(
        self,
        subject: Subject,
        within: float = PING_INTERVAL,
        *,
        interval: float = BEAT_INTERVAL,
        lab: Any = None,
        recorder: Recorder | None = None,
    ) -> None:
        __tracebackhide__ = _is_verdict
        _check_subject(subject)
        _check_seconds("within", within)
        _check_seconds("interval", interval)
        found = recorder or Recorder.current()
        self._own_recorder = found is None
        self._recorder = found or Recorder()
        self._subject = subject
        self._interval = interval
        self._lab = lab
        self._healing = Healing(within * self._recorder.timeout_scale)
        self._pulse: ConnectionPulse | CallPulse | None = None
        self._inner: tuple[Portal, heals] | None = None
        self._entered = 0.0
        #: Messages sent before that may have gone the old way, though the healing time counts from the verb's
        #: begin.
        self._sent_after = 0.0
        #: Why there was no answer; asked while the pulse still beats.
        self._trouble = ""

    # --- async with ---

    async def __aenter__(self) -> Healing:
        __tracebackhide__ = _is_verdict
        if isinstance(self._subject, SyncConnection):
            raise TypeError("this connection belongs to a plain test: write 'with heals(...)', without async")
        self._begin()
        healing, start_timeout = self._healing, self._start_timeout
        if isinstance(self._subject, Connection):
            pulse = ConnectionPulse(self._subject, self._interval)
            self._pulse = pulse
            self._recorder.pulses.append(pulse.beats)
            await pulse.start(start_timeout)
            healing.path_before = str(self._subject.path)
        else:
            calls = self._pulse = CallPulse(self._subject, self._interval)
            self._recorder.pulses.append(calls.beats)
            calls.start_task() if CallPulse.is_async(self._subject) else calls.start()
            await calls.wait_answer(0.0, start_timeout)
        if not self._pulse.beats.count:
            story = self._dead()
            await self._stop()
            raise DidNotHeal(story)
        return healing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = _is_verdict
        pulse = self._pulse
        assert pulse is not None
        try:
            if kind is None:
                self._find_cause()
                answer = await pulse.wait_answer(self._sent_after, self._time_left())
                self._conclude(answer)
                if isinstance(pulse, ConnectionPulse) and answer is not None:
                    await pulse.finish()
        finally:
            await self._stop()
        if kind is None:
            self._finish()

    async def _stop(self) -> None:
        if isinstance(self._pulse, ConnectionPulse):
            await self._pulse.stop()
        elif self._pulse is not None:
            self._pulse.stop()

    # --- with ---

    def __enter__(self) -> Healing:
        __tracebackhide__ = _is_verdict
        subject = self._subject
        if isinstance(subject, SyncConnection):
            return self._enter_portal(subject)
        if isinstance(subject, Connection):
            raise TypeError("a Connection lives in an event loop: write 'async with heals(...)' around it")
        if CallPulse.is_async(subject):
            raise TypeError("an async callable needs an event loop: write 'async with heals(...)' around it")
        self._begin()
        pulse = self._pulse = CallPulse(subject, self._interval)
        self._recorder.pulses.append(pulse.beats)
        pulse.start()
        if pulse.wait(0.0, self._start_timeout) is None:
            story = self._dead()
            pulse.stop()
            raise DidNotHeal(story)
        return self._healing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = _is_verdict
        if self._inner is not None:
            self._exit_portal(kind, error, traceback)
            return
        pulse = self._pulse
        assert isinstance(pulse, CallPulse)
        try:
            if kind is None:
                self._find_cause()
                self._conclude(pulse.wait(self._sent_after, self._time_left()))
        finally:
            pulse.stop()
        if kind is None:
            self._finish()

    def _enter_portal(self, subject: SyncConnection) -> Healing:
        inner = heals(
            subject.connection,
            self._healing.within / self._recorder.timeout_scale,
            interval=self._interval,
            lab=self._lab,
            recorder=self._recorder,
        )
        self._inner = (subject.portal, inner)
        healing: Healing = self._in_portal(subject.portal, inner.__aenter__())
        return healing

    def _exit_portal(self, *failure: Any) -> None:
        __tracebackhide__ = True
        assert self._inner is not None
        portal, inner = self._inner
        self._in_portal(portal, inner.__aexit__(*failure))

    def _in_portal(self, portal: Portal, step: Any) -> Any:
        __tracebackhide__ = True
        try:
            return portal.run(step, self._healing.within + self._start_timeout + FINISH_TIMEOUT)
        except DidNotHeal as failure:
            raise failure.with_traceback(
                None
            ) from None  # the frames between two threads tell nobody anything

    # --- the verdict ---

    def _begin(self) -> None:
        if self._pulse is not None:
            raise TypeError("one heals(...) watches over one block: write a new one for each")
        if self._lab is not None:
            self._recorder.watch_lab(self._lab)
        self._entered = now()

    @property
    def _start_timeout(self) -> float:
        return START_TIMEOUT * self._recorder.timeout_scale

    def _dead(self) -> str:
        """The subject must work before the network changes, else the test would prove nothing."""
        assert self._pulse is not None
        why = self._pulse.trouble() or f"no answer within {_seconds(self._start_timeout)}"
        if self._own_recorder:
            self._recorder.stop()
        return f"heals: it does not even work before the change: {why}\n" + self._recorder.story()

    def _find_cause(self) -> None:
        """The last thing the lab did in the block is the change; without a lab, the end of the block is."""
        healing, recorder = self._healing, self._recorder
        changes = [e for e in recorder.changes(self._entered, self._lab) if e.kind not in NO_CHANGES]
        if changes:
            last = changes[-1]
            healing.cause, healing.changed_at, self._sent_after = last.text, last.began, last.done
        else:
            healing.cause, healing.changed_at = "the end of the block", now()
            self._sent_after = healing.changed_at
        lab = self._lab or (recorder.labs[-1] if recorder.labs else None)
        healing.link_engine, healing.seed = getattr(lab, "link_engine", ""), getattr(lab, "seed", None)

    def _time_left(self) -> float:
        return max(self._healing.changed_at + self._healing.within - now(), 0.0)

    def _conclude(self, answer: float | None) -> None:
        healing = self._healing
        assert self._pulse is not None
        beats, changed_at = self._pulse.beats, healing.changed_at
        first_byte = beats.first_byte(changed_at)
        healing.first_byte = None if first_byte is None else first_byte - changed_at
        if answer is None:
            self._trouble = self._pulse.trouble()
            beats.given_up = now()
            self._recorder.note("payload", "", f"no answer within {_seconds(healing.within)}")
            return
        healing.seconds = answer - changed_at
        healing.gap = beats.longest_silence(changed_at, answer)
        healing.healed = healing.seconds <= healing.within
        self._recorder.note("payload", "", f"first answer after {healing.seconds * 1000:.1f} ms")

    def _finish(self) -> None:
        __tracebackhide__ = _is_verdict
        healing, pulse = self._healing, self._pulse
        assert pulse is not None
        healing.messages = pulse.received
        if isinstance(pulse, ConnectionPulse):
            healing.path_after = str(pulse.connection.path)
            healing.direct = pulse.connection.path.direct
            healing.bytes_sent, healing.bytes_lost = pulse.bytes_sent, pulse.bytes_lost
        if self._own_recorder:
            self._recorder.stop()
        healing.timeline = self._recorder.entries
        if not healing.healed or pulse.error is not None or healing.bytes_lost:
            raise DidNotHeal(self._failure(pulse))

    def _failure(self, pulse: ConnectionPulse | CallPulse) -> str:
        healing = self._healing
        where = f"   ({healing.link_engine} engine, seed {healing.seed})" if healing.link_engine else ""
        after = f"after {healing.cause}{where}"
        within = _seconds(healing.within)
        if isinstance(pulse, ConnectionPulse) and pulse.error is not None:
            head = f"{pulse.trouble()}, {after}"
        elif healing.healed:
            head = f"{healing.bytes_lost} bytes were lost {after}"
        elif healing.seconds is not None:
            head = f"{_seconds(healing.seconds)} until the first answer, more than {within}, {after}"
        elif healing.first_byte is not None:
            head = f"no round trip within {within} {after}\n"
            head += f"(only bytes under way before came in, {_seconds(healing.first_byte)} after the change)"
        else:
            head = f"no byte within {within} {after}"
        return "\n".join(filter(None, [f"heals: {head}", self._trouble, healing.story()]))


class BoundHeals:
    """``heals`` for one test: what the fixture gives."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, subject: Subject, within: float = PING_INTERVAL, **options: Any) -> heals:
        """Watch over a subject; parameters and errors are those of ``pytest_iroh.heals``."""
        __tracebackhide__ = _is_verdict
        return heals(subject, within, **{"recorder": self._recorder, **options})

    def __repr__(self) -> str:
        return "<heals>"


def _seconds(value: float) -> str:
    """Seconds for people: "5.0 s", "0.05 s"."""
    return f"{round(value, 3)} s"


def _check_subject(subject: Any) -> None:
    if isinstance(subject, Endpoint):
        raise TypeError(
            "heals() watches over a connection, not an endpoint: give it what endpoint.connect() returns"
        )
    if not isinstance(subject, Connection | SyncConnection) and not callable(subject):
        raise TypeError(
            f"heals() wants a Connection or a callable without arguments, not {type(subject).__name__}"
            + ("; give it the function itself, without calling it" if hasattr(subject, "__await__") else "")
        )


def _check_seconds(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is a positive number of seconds, not {value}")
