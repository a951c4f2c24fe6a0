"""Endpoints for plain, synchronous tests: an event loop in a thread of its own, and handles that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from iroh_py import Connection, ConnectionPath

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

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("Portal.run() would wait for itself: it was called from its own event loop")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(CALL_TIMEOUT)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and end the thread."""
        if self.loop.is_closed():
            return
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10.0)
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

    @property
    def path(self) -> ConnectionPath:
        """The way that payload takes now."""
        return self.connection.path

    def echo(self, data: bytes, timeout: float = 10.0) -> bytes:
        """Send bytes over a new stream and return what the peer sends back."""
        from pytest_iroh.echo import echo

        return self.portal.run(echo(self.connection, data, timeout))

    def wait_direct(self, within: float = 10.0) -> None:
        """Wait until payload takes a direct path."""
        from pytest_iroh.heals import wait_direct

        self.portal.run(wait_direct(self.connection, within))

    def close(self) -> None:
        """Close the connection."""

        async def end() -> None:
            self.connection.close()

        self.portal.run(end())
