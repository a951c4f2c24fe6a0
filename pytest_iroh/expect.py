"""Waiting, with a deadline, for the way that a connection's payload takes."""

from __future__ import annotations

import asyncio

from iroh_py import Connection
from pytest_iroh.timeline import scaled


def _is_verdict(info: object) -> bool:
    """Whether pytest shall hide our frames."""
    return isinstance(getattr(info, "value", None), AssertionError)


async def wait_direct(connection: Connection, within: float = 10.0) -> None:
    """Wait until payload takes a direct path.

    ``within``: seconds, times the option ``--netns-timeout-scale``. Raises AssertionError with the path in
    use.
    """
    __tracebackhide__ = _is_verdict
    within = scaled(within)
    try:
        async with asyncio.timeout(within):
            await connection.watch_path().wait_until(lambda path: path.direct)
    except TimeoutError:
        raise AssertionError(
            f"no direct path within {within:g} s; payload goes over {connection.path}"
        ) from None


async def stays_relayed(connection: Connection, during: float) -> None:
    """Check that payload takes no direct path for ``during`` seconds. Raises AssertionError if it does."""
    __tracebackhide__ = _is_verdict
    try:
        async with asyncio.timeout(during):
            path = await connection.watch_path().wait_until(lambda path: path.direct)
    except TimeoutError:
        return
    raise AssertionError(f"payload went direct over {path} although it should stay relayed")
