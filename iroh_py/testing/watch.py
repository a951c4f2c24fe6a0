"""The network monitor of a simulated host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from iroh_py.network import NetworkState

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost


class SimWatch:
    """Satisfies ``iroh_py.network.NetworkWatch``. Made by ``SimHost.watch``."""

    def __init__(self, host: SimHost, callback: Callable[[NetworkState], None]) -> None:
        self._host = host
        self._callback = callback
        self._state = host.state
        self._timer: asyncio.Handle | None = None
        self._closed = False

    @property
    def state(self) -> NetworkState:
        """The newest snapshot that this monitor has seen; it may lag behind by the host's ``watch_delay``."""
        return self._state

    def refresh(self) -> None:
        """Look now, without the delay; a difference is reported through the callback."""
        self._schedule(0.0)

    def notice(self) -> None:
        """Something changed: look after the host's ``watch_delay``, once for all changes until then."""
        if self._timer is None:
            self._schedule(self._host.watch_delay)

    def close(self) -> None:
        """Stop watching; no callback after this returns."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._host.end_watch(self)

    def _schedule(self, delay: float) -> None:
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = self._host.net.loop
        self._timer = loop.call_later(delay, self._look) if delay > 0 else loop.call_soon(self._look)

    def _look(self) -> None:
        self._timer = None
        state = self._host.state
        if self._host.frozen or state == self._state:
            return
        self._state = state
        self._callback(state)
