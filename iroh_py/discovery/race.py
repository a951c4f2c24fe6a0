"""Attempts that start one after the other, of which the first success counts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from iroh_py.errors import RemoteProtocolError

T = TypeVar("T")


async def first_success(attempts: Sequence[Callable[[], Awaitable[T]]], offsets: Sequence[float]) -> T:
    """Start each attempt at its offset (seconds from now), or as soon as all before it failed.

    Returns the first result; the others are cancelled. If all fail, raises the last one's OSError or
    RemoteProtocolError; any other exception is raised at once. There must be at least one attempt.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    waiting = deque(zip(offsets, attempts, strict=True))
    started: list[asyncio.Task[T]] = []
    running: list[asyncio.Task[T]] = []
    last: Exception = OSError("nothing was tried")
    try:
        while waiting or running:
            while waiting and (not running or waiting[0][0] <= loop.time() - begun):
                task = asyncio.ensure_future(_run(waiting.popleft()[1]))
                started.append(task)
                running.append(task)
            pause = waiting[0][0] - (loop.time() - begun) if waiting else None
            await asyncio.wait(running, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in running if task.done()]
            running = [task for task in running if not task.done()]
            for task in done:
                try:
                    return task.result()
                except (OSError, RemoteProtocolError) as error:
                    last = error
        raise last
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


async def _run(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()
