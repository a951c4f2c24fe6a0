"""``@pytest.mark.virtual_time``: an async test under the virtual clock of ``iroh_py.testing``.

The test's function is replaced by a plain one as soon as it is collected, so pytest-asyncio (in auto mode,
too), anyio and others leave it alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_iroh.options import settings_of

MARKER = "virtual_time"


@dataclass(frozen=True, slots=True)
class Run:
    """How a test runs: the seed of its chance, and the virtual seconds that it may take."""

    seed: int = 0
    limit: float = 3600.0


def run_of(item: pytest.Item) -> Run | None:
    """What the marker of a test says, None without one.

    Raises UsageError for arguments that it does not take.
    """
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    unknown = set(marker.kwargs) - {"seed", "limit"}
    if marker.args or unknown:
        wrong = ", ".join(sorted(unknown)) or repr(marker.args)
        raise pytest.UsageError(f"{item.nodeid}: {MARKER} takes seed= and limit=, not {wrong}")
    told = settings_of(item.config).seed
    return Run(**{"seed": told or 0, **marker.kwargs})


def take(item: pytest.Item) -> None:
    """Make the async function of a marked test a plain one that runs it under virtual time."""
    if not isinstance(item, pytest.Function):
        return
    run = run_of(item)
    if run is None:
        return
    given = getattr(
        item.obj, "hypothesis", None
    )  # @given wraps the test: its inner function is what is async
    if given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = _plain(given.inner_test, run)
    elif inspect.iscoroutinefunction(item.obj):
        item.obj = _plain(item.obj, run)


def _plain(function: Callable[..., Any], run: Run) -> Callable[..., Any]:
    @functools.wraps(function)
    def run_under_virtual_time(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        from iroh_py.testing import run_virtual

        return run_virtual(function(*args, **kwargs), seed=run.seed, limit=run.limit)

    return run_under_virtual_time
