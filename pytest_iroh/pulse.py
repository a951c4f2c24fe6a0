"""A pulse: small messages at a steady rate whose answers tell when a connection, or a service, is alive.

The pulse of an iroh connection sends numbered messages over one stream and compares every byte that comes back; the
pulse of a callable asks it again and again. Both note when answers came.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from iroh_py import Connection
from iroh_py.errors import IrohError, StreamError

#: Times of answers that are kept: ten minutes at 20 ms.
MAX_BEATS = 30_000
#: Seconds between two messages; the number of the mission ("a small message going every 20 ms").
BEAT_INTERVAL = 0.02
#: Bytes of a message.
BEAT_SIZE = 64
_NUMBER = struct.Struct(">Q")


def beat(number: int) -> bytes:
    """The message with a number: the number, then a pattern that depends on it."""
    head = _NUMBER.pack(number)
    return head + bytes((number + i) & 0xFF for i in range(BEAT_SIZE - len(head)))


class PulseBroken(AssertionError):
    """The stream itself is wrong: bytes were altered, lost or doubled, or the connection ended."""


class ConnectionPulse:
    """The pulse of an iroh connection whose peer echoes streams."""

    def __init__(self, connection: Connection, interval: float = BEAT_INTERVAL) -> None:
        self.connection = connection
        self.interval = interval
        self.sent = 0
        self.received = 0
        self.answers: deque[float] = deque(maxlen=MAX_BEATS)
        self.error: BaseException | None = None
        self._news = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, and wait for the first answer."""
        self._send, self._recv = self.connection.open_bi()
        self._tasks = [asyncio.create_task(self._sender()), asyncio.create_task(self._receiver())]
        await self.wait_answer(0.0, 10.0)

    async def _sender(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not self._stopping:
                await self._send.write(beat(self.sent))
                self.sent += 1
                due = max(due + self.interval, loop.time())
                await asyncio.sleep(due - loop.time())
            self._send.finish()
        except (IrohError, StreamError) as error:
            self._fail(error)

    async def _receiver(self) -> None:
        pending = b""
        try:
            while part := await self._recv.read():
                self.answers.append(time.monotonic())
                pending += part
                while len(pending) >= BEAT_SIZE:
                    message, pending = pending[:BEAT_SIZE], pending[BEAT_SIZE:]
                    if message != beat(self.received):
                        raise PulseBroken(f"message {self.received} came back altered, doubled or out of order")
                    self.received += 1
                self._notify()
            if pending:
                raise PulseBroken(f"the stream ended inside message {self.received}")
        except (IrohError, StreamError, PulseBroken) as error:
            self._fail(error)
        self._notify()

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self._notify()

    def _notify(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def first_answer(self, after: float) -> float | None:
        """When the first answer after a time came, or None."""
        return next((t for t in self.answers if t > after), None)

    def last_answer(self, before: float) -> float | None:
        """When the last answer up to a time came, or None."""
        return next((t for t in reversed(self.answers) if t <= before), None)

    async def wait_answer(self, after: float, timeout: float) -> float | None:
        """Wait for an answer that comes after a time; None if none comes within ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while (answer := self.first_answer(after)) is None:
                    if self.error is not None:
                        return None
                    await self._news.wait()
                return answer
        return None

    async def finish(self, timeout: float = 10.0) -> None:
        """Stop sending and wait until every message came back."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.gather(*self._tasks)
        self.cancel()

    def cancel(self) -> None:
        """End the tasks now."""
        for task in self._tasks:
            task.cancel()

    @property
    def bytes_sent(self) -> int:
        """Application bytes sent."""
        return self.sent * BEAT_SIZE

    @property
    def bytes_lost(self) -> int:
        """Application bytes sent whose echo did not come back right and in order."""
        return (self.sent - self.received) * BEAT_SIZE


class CallPulse:
    """The pulse of something that answers: a callable, plain or async, that raises or is false when it does not.

    A plain callable runs in a thread of its own, so that a call that hangs holds nobody up.
    """

    def __init__(self, call: Callable[[], Any] | Callable[[], Awaitable[Any]], interval: float = BEAT_INTERVAL) -> None:
        self._call = call
        self.interval = interval
        self.answers: deque[float] = deque(maxlen=MAX_BEATS)
        #: Start times of the calls that were answered, in step with ``answers``.
        self._starts: deque[float] = deque(maxlen=MAX_BEATS)
        self.sent = 0
        self.received = 0
        self.error: BaseException | None = None
        self.last_failure: BaseException | None = None
        self._condition = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def start_thread(self) -> None:
        """Begin in a thread."""
        self._thread = threading.Thread(target=self._run, name="heals-pulse", daemon=True)
        self._thread.start()

    def start_task(self) -> None:
        """Begin in the running event loop, for an async callable."""
        self._task = asyncio.create_task(self._run_async())

    def _run(self) -> None:
        while not self._stopping:
            started = time.monotonic()
            self.sent += 1
            try:
                self._note(started, self._call())
            except Exception as error:
                self.last_failure = error  # not answering is what this looks for; the report shows the last reason
            with self._condition:
                self._condition.wait_for(lambda: self._stopping, self.interval)

    async def _run_async(self) -> None:
        while not self._stopping:
            started = time.monotonic()
            self.sent += 1
            try:
                self._note(started, await self._call())
            except Exception as error:
                self.last_failure = error  # as above
            await asyncio.sleep(self.interval)

    def _note(self, started: float, answer: Any) -> None:
        if answer is not None and not answer:
            return
        with self._condition:
            self._starts.append(started)
            self.answers.append(time.monotonic())
            self.received += 1
            self._condition.notify_all()

    def first_answer(self, after: float) -> float | None:
        """When the first answer to a call begun after a time came, or None."""
        with self._condition:
            pairs = zip(self._starts, self.answers, strict=True)
            return next((answer for start, answer in pairs if start > after), None)

    def last_answer(self, before: float) -> float | None:
        """When the last answer up to a time came, or None."""
        with self._condition:
            return next((t for t in reversed(self.answers) if t <= before), None)

    def wait(self, after: float, timeout: float) -> float | None:
        """Block until an answer to a call begun after a time comes; None after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while (answer := self.first_answer(after)) is None:
            with self._condition:
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    break
        return self.first_answer(after) if answer is None else answer

    async def wait_answer(self, after: float, timeout: float) -> float | None:
        """As ``wait``, without blocking the event loop."""
        if self._thread is not None:
            return await asyncio.to_thread(self.wait, after, timeout)
        deadline = time.monotonic() + timeout
        while (answer := self.first_answer(after)) is None and time.monotonic() < deadline:
            await asyncio.sleep(min(self.interval, 0.01))
        return answer

    def stop(self) -> None:
        """Ask no more. A call that hangs is left behind in its (daemon) thread."""
        self._stopping = True
        with self._condition:
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)
        if self._task is not None:
            self._task.cancel()
