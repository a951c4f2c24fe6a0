"""Endpoints for plain tests: an event loop in a thread of its own, and handles that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from iroh_py import Connection, ConnectionPath
from pytest_iroh.echoing import echo
from pytest_iroh.expect import wait_direct

T = TypeVar("T")

#: Seconds after which a call into the loop is given up: the loop is stuck, and a test must not hang with it.
CALL_TIMEOUT = 120.0


class Portal:
    """An event loop in a thread; ``run`` takes a coroutine there and returns its result."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="pytest-iroh-loop", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = CALL_TIMEOUT) -> T:
        """Run a coroutine in the loop and wait for its result, ``timeout`` seconds at most.

        Raises what the coroutine raises, and TimeoutError.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("Portal.run() would wait for itself: it was called from its own event loop")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()  # whoever gave up waiting (Ctrl-C, a timeout) does not want it to go on
            raise

    def close(self) -> None:
        """Cancel what still runs, stop the loop and end the thread."""
        if self.loop.is_closed():
            return
        self.run(self._cancel_all())
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class SyncConnection:
    """A connection as a plain test sees it; ``connection`` is the asyncio handle behind it."""

    def __init__(self, portal: Portal, connection: Connection) -> None:
        self.portal = portal
        self.connection = connection

    def __repr__(self) -> str:
        return f"<SyncConnection {self.connection!r}>"

    @property
    def path(self) -> ConnectionPath:
        """The way that payload takes now."""
        return self.connection.path

    def echo(self, data: bytes, timeout: float = 10.0) -> bytes:
        """Send bytes over a new stream and return what the peer sends back.

        Raises TimeoutError, ConnectionLostError.
        """
        return self.portal.run(echo(self.connection, data, timeout))

    def wait_direct(self, within: float = 10.0) -> None:
        """Wait until payload takes a direct path. Raises AssertionError after ``within`` seconds."""
        self.portal.run(wait_direct(self.connection, within))

    def close(self) -> None:
        """Close the connection."""

        async def end() -> None:
            self.connection.close()

        self.portal.run(end())
