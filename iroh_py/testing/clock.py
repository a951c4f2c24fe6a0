"""An asyncio event loop whose clock is virtual: waiting costs nothing, and the same seed gives the same run.

Theory of operation: asyncio asks its selector to block until the next timer. Ours never blocks: it looks at
the real file descriptors once (asyncio's own self-pipe is one), and if none is ready it moves the clock to
that timer. If there is no timer either, nothing can ever happen again, and the selector raises instead of
hanging.

With pytest-asyncio, in ``conftest.py`` (or per test with
``@pytest.mark.asyncio(loop_factories=["virtual"])``)::

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": iroh_py.testing.loop_factory}

or, where only a policy is taken, ``virtual_event_loop_policy()``. Without any plugin: ``run_virtual(main)``,
or ``@virtual()`` above a test.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn, ParamSpec, TypeVar

from iroh_py.testing.errors import NothingToDoError, RealWaitError, TimeLimitError

P = ParamSpec("P")
T = TypeVar("T")
Story = Callable[P, Coroutine[Any, Any, T]]

#: Where a virtual clock starts, in seconds. Not 0: code that takes 0.0 for "never" must not be right by
#: accident.
START = 1000.0

#: asyncio runs timers this many seconds early; a float holds times far beyond any run this exactly.
_RESOLUTION = 1e-9

#: How many waiting tasks an error message lists before it says "and more".
_TASKS_LISTED = 20


class _NeverBlockingSelector(selectors.BaseSelector):
    """Polls the real selector, and hands the wait that is left to ``jump`` instead of waiting."""

    def __init__(self, jump: Callable[[float | None], None]) -> None:
        self._real = selectors.DefaultSelector()
        self._jump = jump

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and (timeout is None or timeout > 0):
            self._jump(timeout)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer whenever nothing is ready.

    ``start`` is what ``time()`` says first, ``limit`` the most virtual seconds that it may run, both in
    seconds. Raises, out of ``run_until_complete``: NothingToDoError, TimeLimitError. Executors, threads and
    subprocesses raise RealWaitError where they are started. Real sockets are polled but never waited for: use
    :class:`SimNet`.
    """

    def __init__(self, *, start: float = START, limit: float | None = None) -> None:
        self._start = start
        self._virtual_now = start
        self._end = math.inf if limit is None else start + limit
        super().__init__(_NeverBlockingSelector(self._jump_to_timer))
        self._clock_resolution = _RESOLUTION

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        """Move the clock at once, as if this process had been stopped (SIGSTOP) that long.

        Timers within that time come due together. Raises ValueError for negative seconds.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: {seconds}")
        self._virtual_now += seconds

    def run_in_executor(  # type: ignore[override]  # it never returns, and takes whatever it refuses
        self, executor: Any, func: Any, *args: Any
    ) -> NoReturn:
        """Refused: a thread runs in real time. Raises RealWaitError."""
        name = getattr(func, "__name__", repr(func))
        raise RealWaitError(
            f"run_in_executor({name}) under a virtual clock: a thread takes real time, for which this loop "
            "does not wait (asyncio.to_thread and the loop's name lookup use it too); call the function "
            "directly, or resolve names through a SimHost"
        )

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a process runs in real time. Raises RealWaitError."""
        raise RealWaitError(
            "subprocess under a virtual clock: it takes real time, which this loop does not wait for"
        )

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused like ``subprocess_exec``."""
        await self.subprocess_exec()

    def _jump_to_timer(self, timeout: float | None) -> None:
        if timeout is None:
            raise NothingToDoError(
                f"nothing is scheduled and every task waits, for ever: {self._waiting_tasks()}"
            )
        if self._virtual_now + timeout > self._end:
            # Whoever cancels the tasks after this error must be able to let their `finally` blocks wait.
            end, self._end = self._end, math.inf
            raise TimeLimitError(
                f"still running at the limit of {end - self._start:g} virtual seconds: {self._waiting_tasks()}"
            )
        self._virtual_now += timeout

    def _waiting_tasks(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: (len(task.get_name()), task.get_name()))
        lines = [_describe(task) for task in tasks[:_TASKS_LISTED]]
        if len(tasks) > _TASKS_LISTED:
            lines.append(f"and {len(tasks) - _TASKS_LISTED} more")
        return "; ".join(lines) or "there is no task"


def _describe(task: asyncio.Task[Any]) -> str:
    where = ""
    for frame in task.get_stack(limit=1):
        where = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"{task.get_name()} in {getattr(task.get_coro(), '__qualname__', task.get_coro())}{where}"


def run_virtual(
    main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    limit: float = 3600.0,
) -> T:
    """Run a coroutine (or a coroutine function without arguments) under a virtual clock and return its
    result.

    ``seed`` seeds the ``random`` module for the run (its state is put back afterwards), ``limit`` is in
    virtual seconds. Raises what the coroutine raises, NothingToDoError, TimeLimitError, RealWaitError.
    """
    coroutine = main() if callable(main) else main
    state = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(limit=limit)) as runner:
            return runner.run(coroutine)
    finally:
        # A coroutine that never started (we were called from a running loop) must not warn a second time.
        coroutine.close()
        random.setstate(state)


def virtual(*, seed: int = 0, limit: float = 3600.0) -> Callable[[Story[P, T]], Callable[P, T]]:
    """Make a coroutine function a plain one that runs it under a virtual clock: a decorator for tests.

    Needs no plugin; fixtures and parameters go through. ``seed`` and ``limit`` as in :func:`run_virtual`.
    """

    def decorate(story: Story[P, T]) -> Callable[P, T]:
        @functools.wraps(story)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return run_virtual(story(*args, **kwargs), seed=seed, limit=limit)

        return run

    return decorate


def loop_factory() -> VirtualClockLoop:
    """A new virtual loop: for ``asyncio.Runner(loop_factory=...)`` and pytest-asyncio's loop factories."""
    return VirtualClockLoop()


def virtual_event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """An event loop policy whose new loops are virtual, for tools that take nothing else.

    Policies leave asyncio in Python 3.16: prefer ``loop_factory``.
    """

    class VirtualClockPolicy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return VirtualClockLoop()

    return VirtualClockPolicy()
