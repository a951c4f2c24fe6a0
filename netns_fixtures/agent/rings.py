"""A packet ring that is made beside other steps: the kernel waits some 10 ms (for RCU) until it gives one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from netns_fixtures.errors import LabError
from netns_fixtures.ring import reserve

#: Seconds that one may take; a machine that needs so long for it could not record anyway.
_TIMEOUT = 10.0


class RingInTheMaking:
    """A packet socket of the namespace that is entered now; it hears nothing until it is bound.

    What goes wrong is raised by ``take`` only: the lab is built in any case.
    """

    def __init__(self, blocks: int, flush_after: float) -> None:
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except OSError as error:
            self._error = error
            return
        self._thread = _start(self._make, blocks, flush_after)

    def take(self) -> int:
        """Its descriptor, which is the caller's from now on; once. Raises OSError, LabError."""
        if self._thread is not None:
            self._thread.join(_TIMEOUT)
            if self._thread.is_alive():
                raise LabError(f"the kernel did not give a packet ring within {_TIMEOUT:g} s")
        if self._error is not None:
            raise self._error
        return self._socket.detach()

    def close(self) -> None:
        """Let one go that nobody took; the kernel needs a while for it, and nobody waits."""
        if self._thread is not None:
            _start(self._close, self._thread)

    def _make(self, blocks: int, flush_after: float) -> None:
        try:
            reserve(self._socket, flush_after, blocks)
        except OSError as error:
            self._error = error

    def _close(self, making: threading.Thread) -> None:
        making.join()
        self._socket.close()


def _start(what: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=what, args=args, name="ring", daemon=True)
    thread.start()
    return thread
