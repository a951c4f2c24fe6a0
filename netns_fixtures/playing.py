"""One run of a timeline: a thread that waits for each step's time and does it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from netns_fixtures.errors import LabError, TimelineError
from netns_fixtures.events import LabEvent

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab


class Doable(Protocol):
    """A step, as far as a run needs it."""

    @property
    def at(self) -> float: ...
    @property
    def text(self) -> str: ...
    def do(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step that was done: when it was due, began and ended, in seconds from the start of the run."""

    text: str
    due: float
    began: float
    ended: float


class Playing:
    """A run of a timeline, as a context manager, sync or async; or call ``start``, ``finish``, ``cancel``."""

    def __init__(self, lab: Lab, steps: Sequence[Doable]) -> None:
        self._lab = lab
        self._steps = tuple(steps)
        self._done: list[StepDone] = []
        self._error: TimelineError | None = None
        self._changed = threading.Condition()
        self._cancelled = False
        self._ended = threading.Event()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._thread: threading.Thread | None = None
        #: ``time.monotonic()`` at the start of the run; the times of steps count from it.
        self.started = 0.0

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set() else "running" if self._thread else "not started"
        return f"<Playing {state}: {len(self._done)} of {len(self._steps)} steps done>"

    @property
    def done(self) -> tuple[StepDone, ...]:
        """The steps that were done so far."""
        with self._changed:
            return tuple(self._done)

    @property
    def over(self) -> bool:
        """Whether no step will be done any more."""
        return self._ended.is_set()

    def start(self) -> Playing:
        """Build the lab and begin; time counts from here. Raises what building raises; LabError twice."""
        if self._thread is not None:
            raise LabError("this run of a timeline was started already; timeline.running() makes another one")
        self._lab.build()
        self._thread = threading.Thread(target=self._run, name="netns-fixtures-timeline", daemon=True)
        self.started = time.monotonic()
        self._lab.tape.begin(self.started)
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Do no further step. One that is under way is completed; ``finish`` waits for it."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def finish(self) -> tuple[StepDone, ...]:
        """Wait until all steps are done (or cancelled). Raises TimelineError if one failed."""
        self._ended.wait()
        return self._result()

    async def finished(self) -> tuple[StepDone, ...]:
        """The same for async code."""
        await self._wait()
        return self._result()

    def __enter__(self) -> Playing:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
            self._ended.wait()
            return  # the exception of the block is the one to see
        try:
            self.finish()
        except BaseException:
            self.cancel()  # Ctrl-C while waiting
            raise

    async def __aenter__(self) -> Playing:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
            await self._wait()
            return
        try:
            await self.finished()
        except BaseException:
            self.cancel()
            raise

    def _result(self) -> tuple[StepDone, ...]:
        if self._error is not None:
            raise self._error
        return self.done

    async def _wait(self) -> None:
        """Wait for the end without a thread of its own; the run's thread wakes the loop."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._changed:
            if self._ended.is_set():
                return
            self._waiting.add(entry)
        try:
            await entry[1].wait()
        finally:
            with self._changed:
                self._waiting.discard(entry)

    def _run(self) -> None:
        try:
            for number, step in enumerate(self._steps, 1):
                if not self._until(self.started + step.at) or not self._do(number, step):
                    break
        finally:
            with self._changed:
                self._ended.set()
                for loop, event in self._waiting:
                    with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there
                        loop.call_soon_threadsafe(event.set)

    def _until(self, moment: float) -> bool:
        """Wait for a time; False when the run was cancelled."""
        with self._changed:
            while not self._cancelled:
                left = moment - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
            return False

    def _do(self, number: int, step: Doable) -> bool:
        began = time.monotonic()
        heard = _Heard(self._lab)
        try:
            with heard, self._lab.tape.due(self.started + step.at):
                step.do()
        except Exception as error:  # whatever a step raises is reported as the failure of that step
            self._error = TimelineError(number, step.text, step.at, f"{type(error).__name__}: {error}")
            self._error.__cause__ = error
            return False
        if not heard.any:
            # A function that is no verb: the timeline tells it, or nobody would see it in the story.
            self._lab.log_event("step", "", f"step {number}: {step.text}", step=number)
        ended = time.monotonic()
        with self._changed:
            self._done.append(StepDone(step.text, step.at, began - self.started, ended - self.started))
        return True


class _Heard:
    """Whether this thread made an event of a lab meanwhile."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._thread = threading.get_ident()
        self.any = False

    def __enter__(self) -> None:
        self._end = self._lab.on_event(self._hear)

    def __exit__(self, *_: object) -> None:
        self._end()

    def _hear(self, _event: LabEvent) -> None:
        # Listeners are called in the thread that made the event.
        self.any = self.any or threading.get_ident() == self._thread
