"""Runs a command's coroutine until it ends, or until a signal ends it in good order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

#: Ctrl-C, and what service managers send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, None]) -> bool:
    """Run a coroutine; SIGINT and SIGTERM cancel it, a second one is not caught any more.

    Returns whether it ended by itself. Raises what it raises.
    """
    return asyncio.run(_supervise(work))


async def _supervise(work: Coroutine[Any, Any, None]) -> bool:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        release()
        task.cancel()

    def release() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped.is_set():
            raise
    finally:
        release()
    return not stopped.is_set()
