"""One thread that reads the output of all host processes and notices their ends."""

from __future__ import annotations

import os
import select
import threading
from typing import Protocol

_CHUNK = 1 << 16


class Sink(Protocol):
    """What a process object offers to the pump."""

    def take_output(self, data: bytes) -> None: ...

    def take_end(self) -> None: ...


class Pump:
    """Epoll over output pipes and pidfds, in a daemon thread that starts with the first process."""

    _instance: Pump | None = None
    _instance_lock = threading.Lock()

    def __init__(self) -> None:
        self._epoll = select.epoll()
        #: By descriptor: who, the output pipe (-1 when at its end), and whether this descriptor is the pidfd.
        self._watched: dict[int, tuple[Sink, int, bool]] = {}
        self._owner = os.getpid()
        threading.Thread(target=self._run, name="netns-fixtures-output", daemon=True).start()

    @classmethod
    def shared(cls) -> Pump:
        """The pump of this process."""
        with cls._instance_lock:
            if cls._instance is None or cls._instance._owner != os.getpid():
                cls._instance = Pump()
            return cls._instance

    def add(self, sink: Sink, output: int, pidfd: int) -> None:
        """Feed ``sink`` until its process has ended; closes ``output`` then."""
        watched = os.dup(pidfd)  # ours to close, whatever the process object does with its own
        self._watched[output] = (sink, output, False)
        self._watched[watched] = (sink, output, True)
        self._epoll.register(output, select.EPOLLIN)
        self._epoll.register(watched, select.EPOLLIN)

    def _run(self) -> None:
        while True:
            # Output before ends: a process is only reported as ended with all that it wrote.
            for fd, _events in sorted(self._epoll.poll(), key=self._is_end):
                self._handle(fd)

    def _is_end(self, event: tuple[int, int]) -> bool:
        return event[0] in self._watched and self._watched[event[0]][2]

    def _handle(self, fd: int) -> None:
        if fd not in self._watched:
            return
        sink, output, is_end = self._watched[fd]
        if not is_end:
            if not self._read(sink, output):
                self._forget(output)
            return
        if not select.select([fd], [], [], 0)[0]:
            return  # this number was another descriptor when the event came
        self._drain(sink, output)
        self._forget(fd)
        sink.take_end()

    def _drain(self, sink: Sink, output: int) -> None:
        """What is in the pipe now. A grandchild may hold it open; what that writes later still comes."""
        entry = self._watched.get(output)
        if (
            entry is not None and entry[0] is sink and not entry[2]
        ):  # else its number is another descriptor by now
            try:
                while self._read(sink, output, once=False):
                    pass
            except BlockingIOError:
                return
            self._forget(output)

    def _read(self, sink: Sink, output: int, *, once: bool = True) -> bool:
        try:
            data = os.read(output, _CHUNK)
        except BlockingIOError:
            if once:
                return True  # woken for nothing
            raise
        if data:
            sink.take_output(data)
        return bool(data)

    def _forget(self, fd: int) -> None:
        del self._watched[fd]
        self._epoll.unregister(fd)
        os.close(fd)
