"""A value that changes, and those who wait for its changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from iroh_py.errors import ClosedError

T = TypeVar("T")


class Watchable(Generic[T]):
    """A value that is set from one place and watched from many; watchers always get the newest value."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._closed = False
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def value(self) -> T:
        """The newest value."""
        return self._value

    def set(self, value: T) -> None:
        """Change the value; setting an equal one changes nothing."""
        if value == self._value or self._closed:
            return
        self._value = value
        self._version += 1
        self._wake()

    def close(self) -> None:
        """No more changes will come: iterations end, waits raise ClosedError."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self, version: int) -> bool:
        """Wait until the value is newer than ``version``; False if it never will be."""
        while self._version == version:
            if self._closed:
                return False
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return True

    async def wait_until(self, predicate: Callable[[T], bool]) -> T:
        """Wait until the value satisfies a predicate and return it. Raises ClosedError if that can never be."""
        while not predicate(self._value):
            if not await self._changed(self._version):
                raise ClosedError("closed while waiting for a change")
        return self._value

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the value now and each newer one; fast changes may be skipped, the last one never is."""
        while True:
            version = self._version
            yield self._value
            if not await self._changed(version):
                return
