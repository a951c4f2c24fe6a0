"""The event loop of plain tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pytest_iroh.sync import Portal


@pytest.fixture
def portal() -> Iterator[Portal]:
    """A portal, closed at the end."""
    portal = Portal()
    yield portal
    portal.close()


def test_result_comes_back(portal: Portal) -> None:
    """A coroutine runs in the portal's thread, and its result is returned."""

    async def where() -> str:
        return threading.current_thread().name

    assert portal.run(where()) == "pytest-iroh-loop"


def test_error_comes_back(portal: Portal) -> None:
    """What the coroutine raises is raised."""

    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        portal.run(fail())


def test_coroutine_that_takes_too_long_is_cancelled(portal: Portal) -> None:
    """Waiting ends at the deadline, and so does the coroutine."""
    ended = threading.Event()

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        portal.run(wait_for_ever(), 0.01)
    assert ended.wait(5)


def test_call_from_its_own_loop_is_refused(portal: Portal) -> None:
    """A portal that would wait for itself says so instead of hanging."""

    async def inner() -> None: ...

    async def outer() -> None:
        portal.run(inner())

    with pytest.raises(RuntimeError, match="wait for itself"):
        portal.run(outer())


def test_close_cancels_what_still_runs() -> None:
    """Tasks are cancelled, the thread ends, and closing twice is fine."""
    portal = Portal()
    cancelled = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def start() -> None:
        portal.task = asyncio.create_task(linger())  # type: ignore[attr-defined]  # only held
        await asyncio.sleep(0)

    portal.run(start())
    portal.close()
    portal.close()

    assert cancelled.is_set()
    assert portal.loop.is_closed()
