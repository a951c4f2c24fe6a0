"""The pulse of something that answers: a callable, plain or async, asked again and again."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from typing import Any

from pytest_iroh.beats import BEAT_INTERVAL, Beats
from pytest_iroh.timeline import now

#: Seconds for a call under way to end when the pulse stops; one that takes longer stays in its daemon thread.
STOP_TIMEOUT = 1.0


class CallPulse:
    """Asks a callable at a steady rate. It answers by returning anything that is true, or None.

    A plain callable runs in a thread of its own, so that a call that hangs holds nobody up.
    """

    def __init__(self, call: Callable[[], Any], interval: float = BEAT_INTERVAL) -> None:
        self._call = call
        self.interval = interval
        self.beats = Beats()
        self.sent = 0
        self.received = 0
        self.error: BaseException | None = None
        self._failure: Exception | None = None
        self._began: float | None = None
        self._changed = threading.Condition()
        #: The same for the async callable; of no use between threads.
        self._news = asyncio.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def is_async(call: Callable[[], Any]) -> bool:
        """Whether a callable is an async function, or an object with an async ``__call__``."""
        return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(call, "__call__", None)  # noqa: B004 - the attribute itself is looked at
        )

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread = threading.Thread(target=self._run, name="heals-pulse", daemon=True)
        self._thread.start()

    def start_task(self) -> None:
        """Begin in the running event loop, for an async callable."""
        self._task = asyncio.create_task(self._run_async())

    def _run(self) -> None:
        while not self._stopping and self.error is None:
            began = self._begin()
            try:
                answer = self._call()
                if inspect.isawaitable(answer):
                    _discard(answer)
                    self._give_up(
                        TypeError("it returns an awaitable; write 'async def', and 'async with heals(...)'")
                    )
                else:
                    self._note(began, answer)
            except Exception as error:
                self._failure = (
                    error  # not answering is what this looks for; the report shows the last reason
                )
            except BaseException as error:
                self._give_up(
                    error
                )  # pytest.fail() and its like: the callable does not want to be asked again
            self._began = None
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, self.interval)

    async def _run_async(self) -> None:
        while self.error is None:
            began = self._begin()
            try:
                self._note(began, await self._call())
            except Exception as error:
                self._failure = error  # as above
            self._began = None
            await asyncio.sleep(self.interval)

    def _begin(self) -> float:
        self.sent += 1
        self._began = now()
        return self._began

    def _note(self, began: float, answer: Any) -> None:
        if answer is not None and not answer:
            return
        with self._changed:
            self.beats.note_bytes(now())
            self.beats.note_answer(began, now())
            self.received += 1
            self._changed.notify_all()
        self._news.set()

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def wait(self, after: float, timeout: float) -> float | None:
        """Block until an answer to a call begun after a time comes; None after ``timeout`` seconds."""

        def over() -> bool:
            return self.error is not None or self.beats.first_answer(after) is not None

        with self._changed:
            self._changed.wait_for(over, max(timeout, 0.0))
        return self.beats.first_answer(after)

    async def wait_answer(self, after: float, timeout: float) -> float | None:
        """As ``wait``, without blocking the event loop."""
        if self._thread is not None:
            return await asyncio.to_thread(self.wait, after, timeout)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.error is None and self.beats.first_answer(after) is None:
                    self._news.clear()
                    await self._news.wait()
        return self.beats.first_answer(after)

    def stop(self) -> None:
        """Ask no more. A call that hangs is left behind in its (daemon) thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT)
        if self._task is not None:
            self._task.cancel()

    def trouble(self) -> str:
        """Why there is no answer, as a sentence; "" if that is not known."""
        if self.error is not None:
            return f"the callable gave up with {type(self.error).__name__}: {self.error}"
        began, failure = self._began, self._failure
        if began is not None and now() - began > 10 * self.interval:
            return f"the call begun {now() - began:.1f} s ago has not returned"
        if failure is not None:
            return f"the last call failed with {type(failure).__name__}: {failure}"
        return "it returned false" if self.sent > self.received else ""


def _discard(awaitable: Any) -> None:
    """Close a coroutine that nobody will await, before it warns about that."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
