"""The pulse of a callable."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pytest_iroh.call_pulse import CallPulse
from pytest_iroh.timeline import now

INTERVAL = 0.001


@pytest.mark.parametrize("answer", [True, None, "ok", 0.0, False], ids=repr)
def test_anything_but_false_is_an_answer(answer: object) -> None:
    """Returning means answering, unless what is returned is false and not None."""
    asked = threading.Semaphore(0)

    def call() -> object:
        asked.release()
        return answer

    pulse = CallPulse(call, INTERVAL)
    pulse.start()
    assert all(asked.acquire(timeout=5) for _ in range(3))
    pulse.stop()

    assert bool(pulse.received) == (answer is None or bool(answer))
    assert pulse.sent >= 3


def test_failure_is_silence_with_a_reason() -> None:
    """A callable that raises does not answer, and its last error is what the report shows."""
    asked = threading.Semaphore(0)

    def refuse() -> None:
        asked.release()
        raise ConnectionRefusedError("port 9000")

    pulse = CallPulse(refuse, INTERVAL)
    pulse.start()
    assert all(asked.acquire(timeout=5) for _ in range(2))
    pulse.stop()

    assert pulse.received == 0
    assert pulse.trouble() == "the last call failed with ConnectionRefusedError: port 9000"


def test_hanging_call_holds_nobody_up() -> None:
    """A call that does not return is left alone; the pulse says since when it hangs."""
    release = threading.Event()
    pulse = CallPulse(release.wait, INTERVAL)
    pulse.start()

    assert pulse.wait(0.0, 0.05) is None
    assert "has not returned" in pulse.trouble()
    release.set()
    pulse.stop()


def test_call_begun_before_the_change_is_not_counted() -> None:
    """An answer counts from the time at which its call began."""
    began, gate = threading.Event(), threading.Event()

    def call() -> bool:
        began.set()
        return gate.wait(5)

    pulse = CallPulse(call, INTERVAL)
    pulse.start()
    assert began.wait(5)
    changed_at = now()
    gate.set()
    answer = pulse.wait(changed_at, 5)
    pulse.stop()

    assert answer is not None
    assert pulse.beats.first_byte(changed_at) != answer


def test_outcome_exception_ends_the_pulse() -> None:
    """pytest.fail() in the callable is not retried."""

    def give_up() -> None:
        pytest.fail("enough")

    pulse = CallPulse(give_up, INTERVAL)
    pulse.start()

    assert pulse.wait(0.0, 5.0) is None
    assert pulse.trouble() == "the callable gave up with Failed: enough"
    pulse.stop()


def test_plain_callable_that_returns_an_awaitable_is_refused() -> None:
    """A coroutine that nobody awaits is no answer."""

    async def answer() -> bool:
        return True

    pulse = CallPulse(lambda: answer(), INTERVAL)
    pulse.start()

    assert pulse.wait(0.0, 5.0) is None
    assert "it returns an awaitable" in pulse.trouble()
    pulse.stop()


@pytest.mark.virtual_time
async def test_async_callable_is_awaited_in_the_loop() -> None:
    """An async callable is asked in the running loop, one call at a time."""
    under_way = 0

    async def call() -> bool:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(0.5)
        under_way -= 1
        return True

    assert CallPulse.is_async(call)
    pulse = CallPulse(call)
    pulse.start_task()
    assert await pulse.wait_answer(0.0, 10.0) == pytest.approx(1000.5)
    assert await pulse.wait_answer(1000.1, 10.0) == pytest.approx(1001.02)
    pulse.stop()


@pytest.mark.virtual_time
async def test_async_callable_that_hangs() -> None:
    """Waiting for an answer ends at the deadline."""

    async def call() -> None:
        await asyncio.Event().wait()

    pulse = CallPulse(call)
    pulse.start_task()

    assert await pulse.wait_answer(0.0, 3.0) is None
    assert pulse.trouble() == "the call begun 3.0 s ago has not returned"
    pulse.stop()
