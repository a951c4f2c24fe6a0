"""iroh_py.testing.clock: waiting costs nothing, hanging is an error, threads and processes are refused."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import pytest

from iroh_py.testing import (
    NothingToDoError,
    RealWaitError,
    TimeLimitError,
    VirtualClockLoop,
    loop_factory,
    run_virtual,
    virtual,
    virtual_event_loop_policy,
)


def test_sleeping_an_hour_takes_no_time() -> None:
    """An hour of virtual time passes in a moment, and exactly an hour."""

    async def story() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(3599.5)
        return loop.time() - start

    began = time.perf_counter()
    assert run_virtual(story) == pytest.approx(3599.5, abs=1e-6)
    assert time.perf_counter() - began < 5


def test_timers_run_in_order_of_their_time() -> None:
    """Whoever sleeps shorter wakes first, whatever was started first."""

    async def story() -> list[int]:
        woke: list[int] = []

        async def sleeper(seconds: int) -> None:
            await asyncio.sleep(seconds)
            woke.append(seconds)

        await asyncio.gather(*(sleeper(seconds) for seconds in (30, 10, 20)))
        return woke

    assert run_virtual(story()) == [10, 20, 30]


def test_waiting_for_ever_names_who_waits() -> None:
    """A program in which nothing can happen any more fails at once, and the error names its tasks."""

    async def waits_in_vain() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingToDoError, match=r"waits_in_vain.*test_testing_clock\.py:\d+"):
        run_virtual(waits_in_vain)


def test_waiting_for_ever_still_runs_cleanup() -> None:
    """The tasks of a hanging program are cancelled, and their cleanup may wait."""
    cleaned: list[str] = []

    async def story() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            cleaned.append("yes")

    with pytest.raises(NothingToDoError):
        run_virtual(story)
    assert cleaned == ["yes"]


def test_running_beyond_the_limit_fails() -> None:
    """A program that never ends is stopped at its limit of virtual seconds, as a TimeoutError too."""
    ticks = 0

    async def story() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(1)
            ticks += 1

    with pytest.raises(TimeLimitError, match="limit") as caught:
        run_virtual(story, limit=60)
    assert ticks == 60
    assert isinstance(caught.value, TimeoutError)


def test_timeouts_work_on_virtual_time() -> None:
    """asyncio.timeout fires after its virtual seconds."""

    async def story() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return loop.time() - start

    assert run_virtual(story) == pytest.approx(5)


@pytest.mark.parametrize("what", ["to-thread", "getaddrinfo", "subprocess", "shell"])
def test_work_outside_the_loop_is_refused(what: str) -> None:
    """Threads, name lookups in threads and subprocesses fail where they are started, with the reason."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        if what == "to-thread":
            await asyncio.to_thread(time.monotonic)
        elif what == "getaddrinfo":
            await loop.getaddrinfo("localhost", 1)
        elif what == "subprocess":
            await asyncio.create_subprocess_exec("true")
        else:
            await asyncio.create_subprocess_shell("true")

    with pytest.raises(RealWaitError, match="virtual clock"):
        run_virtual(story)


def test_ready_sockets_are_served_before_time_jumps() -> None:
    """Real descriptors that are ready already are polled: their data come before the next timer."""

    async def story() -> bytes:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            left.send(b"now")
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(right, 10), timeout=0.001)

    assert run_virtual(story) == b"now"


def test_a_jump_makes_all_due_timers_run_together() -> None:
    """A stopped process finds its timers overdue when it goes on; time never goes back."""

    async def story() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        start, seen = loop.time(), []
        for delay in (1, 2, 200):
            loop.call_later(delay, lambda: seen.append(loop.time() - start))
        loop.jump(120)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="back"):
            loop.jump(-1)
        early = list(seen)
        await asyncio.sleep(100)
        return early, seen[-1]

    assert run_virtual(story) == ([120, 120], 200)


def test_the_random_module_is_seeded_and_put_back() -> None:
    """Two runs with one seed draw the same numbers, another seed others, and the caller's state survives."""

    async def story() -> float:
        return random.random()

    before = random.getstate()
    assert run_virtual(story, seed=3) == run_virtual(story, seed=3) != run_virtual(story, seed=4)
    assert random.getstate() == before


def test_exceptions_and_results_come_through() -> None:
    """What the coroutine raises is what the caller gets."""

    async def story() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(story())


@virtual(seed=5)
async def test_the_decorator_runs_a_test_under_virtual_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A decorated test is a plain test with fixtures, and its clock is virtual."""
    assert isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    await asyncio.sleep(1000)
    assert tmp_path_factory is not None


def test_policy_and_factory_make_virtual_loops() -> None:
    """Other tools get virtual loops by a factory or by a policy."""
    for loop in (loop_factory(), virtual_event_loop_policy().new_event_loop()):
        try:
            loop.run_until_complete(asyncio.sleep(100))
            assert isinstance(loop, VirtualClockLoop)
        finally:
            loop.close()
