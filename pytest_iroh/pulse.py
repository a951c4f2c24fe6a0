"""The pulse of an iroh connection: numbered messages over one stream, every byte that comes back compared."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque

from iroh_py import Connection
from iroh_py.errors import IrohError
from pytest_iroh.beats import BEAT_INTERVAL, Beats
from pytest_iroh.timeline import now

#: Bytes of a message.
BEAT_SIZE = 64
#: Seconds for the last messages to come back over a healed connection: a round trip, and repeats of lost
#: packets.
FINISH_TIMEOUT = 10.0
_NUMBER = struct.Struct(">Q")


def beat(number: int) -> bytes:
    """The message with a number: the number, then a pattern that depends on it."""
    head = _NUMBER.pack(number)
    return head + bytes((number + i) & 0xFF for i in range(BEAT_SIZE - len(head)))


class PulseBroken(AssertionError):
    """The stream itself is wrong: bytes were altered, lost or doubled, or it ended early."""


class ConnectionPulse:
    """The pulse of an iroh connection whose peer echoes streams."""

    def __init__(self, connection: Connection, interval: float = BEAT_INTERVAL) -> None:
        self.connection = connection
        self.interval = interval
        self.beats = Beats()
        self.sent = 0
        self.received = 0
        self.error: BaseException | None = None
        self._under_way: deque[float] = deque()
        self._news = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, timeout: float) -> None:
        """Begin, and wait ``timeout`` seconds at most for the first answer.

        Raises if the connection is over.
        """
        self._send, self._recv = self.connection.open_bi()
        self._tasks = [asyncio.create_task(self._sender()), asyncio.create_task(self._receiver())]
        await self.wait_answer(0.0, timeout)

    async def _sender(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not self._stopping:
                # Stamped before the write: what counts as sent after a change really was.
                self._under_way.append(now())
                await self._send.write(beat(self.sent))
                self.sent += 1
                due = max(due + self.interval, loop.time())
                await asyncio.sleep(due - loop.time())
            self._send.finish()
        except IrohError as error:
            self._fail(error)

    async def _receiver(self) -> None:
        pending = b""
        try:
            while part := await self._recv.read():
                self.beats.note_bytes(now())
                pending += part
                while len(pending) >= BEAT_SIZE:
                    message, pending = pending[:BEAT_SIZE], pending[BEAT_SIZE:]
                    self._check(message)
                self._notify()
            if pending or not self._stopping:
                raise PulseBroken(f"the peer ended the stream after {self.received} messages")
        except (IrohError, PulseBroken) as error:
            self._fail(error)
        self._notify()

    def _check(self, message: bytes) -> None:
        if message != beat(self.received) or not self._under_way:
            raise PulseBroken(f"message {self.received} came back altered, doubled or out of order")
        self.received += 1
        self.beats.note_answer(self._under_way.popleft(), now())

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self._notify()

    def _notify(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait_answer(self, after: float, timeout: float) -> float | None:
        """Wait for the answer to a message sent after a time; None if none comes in ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while (answer := self.beats.first_answer(after)) is None:
                    if self.error is not None:
                        return None
                    await self._news.wait()
                return answer
        return self.beats.first_answer(after)

    async def finish(self, timeout: float = FINISH_TIMEOUT) -> None:
        """Stop sending, and wait until every message came back, ``timeout`` seconds at most."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):  # what is missing then counts as lost
            async with asyncio.timeout(timeout):
                await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """End the tasks now; a stream that is still open is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self._stopping:
            self._send.reset()

    def trouble(self) -> str:
        """Why there is no answer, as a sentence; "" if that is not known."""
        return "" if self.error is None else f"the connection ended: {self.error}"

    @property
    def bytes_sent(self) -> int:
        """Application bytes sent."""
        return self.sent * BEAT_SIZE

    @property
    def bytes_lost(self) -> int:
        """Application bytes sent whose echo did not come back right and in order."""
        return (self.sent - self.received) * BEAT_SIZE
