"""Times of steps, and what is told of several of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def timed(step: Callable[[], object]) -> float:
    """Milliseconds that a step takes."""
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1000


def stats(values: list[float]) -> dict[str, float]:
    """The median and the range."""
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}
