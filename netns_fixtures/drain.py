"""One thread that takes the blocks of all packet rings, and closes rings that are done."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import Protocol

from netns_fixtures.ring import PacketRing


class Sink(Protocol):
    """What gets the blocks."""

    def take_blocks(self, blocks: list[bytes]) -> None: ...

    def due(self) -> float | None:
        """When ``look`` wants to be called (monotonic seconds), if at all."""
        ...

    def look(self) -> None: ...


class Drain:
    """Epoll over rings. The daemon thread starts with the first ring and ends with the last."""

    _instance: Drain | None = None
    _instance_lock = threading.Lock()

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._rings: dict[int, tuple[PacketRing, Sink]] = {}
        self._done: list[PacketRing] = []
        self._thread: threading.Thread | None = None

    @classmethod
    def shared(cls) -> Drain:
        """The drain of this process."""
        with cls._instance_lock:
            if cls._instance is None or cls._instance._owner != os.getpid():
                cls._instance = Drain()
            return cls._instance

    def add(self, ring: PacketRing, sink: Sink) -> None:
        """Feed ``sink`` with the blocks of a ring from now on."""
        with self._lock:
            self._rings[ring.fileno()] = (ring, sink)
            self._epoll.register(ring.fileno(), select.EPOLLIN)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="netns-fixtures-packets", daemon=True)
                self._thread.start()

    def remove(self, ring: PacketRing) -> None:
        """Take what is left, and close the ring, which takes the kernel a while, in the thread."""
        with self._lock:
            _ring, sink = self._rings.pop(ring.fileno())
            self._epoll.unregister(ring.fileno())
            sink.take_blocks(ring.take())
            self._done.append(ring)
            os.eventfd_write(self._wake, 1)

    def join(self, timeout: float) -> None:
        """Wait until every removed ring is closed, seconds at most; for tests that count descriptors."""
        thread = self._thread
        if thread is not None and not self._rings:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            for fd, _events in self._epoll.poll(self._wait()):
                with self._lock:
                    known = self._rings.get(fd)
                    if known is not None:
                        ring, sink = known
                        sink.take_blocks(ring.take())
            self._look()
            with contextlib.suppress(BlockingIOError):  # nobody woke us
                os.eventfd_read(self._wake)
            with self._lock:
                done, self._done = self._done, []
            for ring in done:
                ring.close()
            with self._lock:
                if not self._rings and not self._done:
                    self._thread = None
                    return

    def _wait(self) -> float | None:
        """Seconds until a sink wants to look at something other than its ring."""
        with self._lock:
            times = [due for _ring, sink in self._rings.values() if (due := sink.due()) is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _look(self) -> None:
        with self._lock:
            for _ring, sink in self._rings.values():
                sink.look()
