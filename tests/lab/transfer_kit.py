"""A transfer that never ends by itself: bytes go to an echo service and come back, and each one is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from iroh_py import Connection
from pytest_iroh.timeline import scaled

#: Bytes written at a time; no multiple of any packet's size.
CHUNK = 40_009
#: Bytes that may be under way: a hundred packets, and few enough to come back in time on a busy machine.
AHEAD = 150_000


def pattern(offset: int, size: int) -> bytes:
    """The bytes of the transfer from an offset: a run of odd length, so that no loss of a packet goes unseen."""
    start = offset % len(_RUN)
    return (_RUN * (size // len(_RUN) + 2))[start : start + size]


_RUN = bytes((i * i + i // 251) % 256 for i in range(9973))


class Transfer:
    """An async context manager: bytes flow while its block runs; at its end all are back, and were right."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent = self.back = 0
        self._stop = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> Transfer:
        self._send, self._recv = self.connection.open_bi()
        self._tasks = [asyncio.create_task(self._push()), asyncio.create_task(self._pull())]
        for task in self._tasks:
            task.add_done_callback(lambda _task: self._news.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop = True
        self._news.set()
        try:
            if kind is None:
                async with asyncio.timeout(scaled(10.0)):
                    await asyncio.gather(*self._tasks)
                assert self.back == self.sent
        finally:
            for task in self._tasks:
                task.cancel()

    async def more(self, size: int, within: float) -> None:
        """Wait until so many bytes are back that are written from now on. Raises AssertionError."""
        goal = self.sent + size
        await self.until(lambda: self.back >= goal, within, f"only {size} more bytes were asked for")

    async def until(self, holds: Callable[[], bool], within: float, what: str) -> None:
        """Wait until something holds; looked at whenever bytes come back."""
        began = self.back
        try:
            async with asyncio.timeout(scaled(within)):
                while not holds():
                    self._news.clear()
                    for task in self._tasks:
                        if task.done():
                            task.result()
                    await self._news.wait()
        except TimeoutError:
            stats = self.connection.stats()
            raise AssertionError(
                f"{what}: {self.back - began} bytes came back within {within:g} s, over {self.connection.path} "
                f"with MTU {stats.mtu}"
            ) from None

    async def _push(self) -> None:
        async with self._send:
            while not self._stop:
                while self.sent - self.back > AHEAD and not self._stop:
                    self._news.clear()
                    await self._news.wait()
                await self._send.write(pattern(self.sent, CHUNK))
                self.sent += CHUNK

    async def _pull(self) -> None:
        while part := await self._recv.read(256 * 1024):
            assert part == pattern(self.back, len(part)), f"other bytes at {self.back}"
            self.back += len(part)
            self._news.set()
