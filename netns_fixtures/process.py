"""A program that runs in a host: its output, its end, its signals."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO

from netns_fixtures.errors import CommandFailed, LabError
from netns_fixtures.pump import Pump

#: Output kept per process; a chatty program loses its oldest lines, not the machine's memory.
MAX_OUTPUT = 16 << 20
#: A killed process is gone in microseconds, unless the machine is in deep trouble.
_KILL_TIMEOUT = 10.0
#: What an error message quotes.
_QUOTED = 2000


class HostProcess:
    """A process in a host. stdout and stderr are captured together, in order, as they come.

    ``output`` is what it wrote so far (``str``, or use ``output_bytes``); ``wait_for_output`` waits for a
    line. Deadlines are seconds, times the ``timeout_scale`` of its lab.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        node: str,
        pid: int,
        pidfd: int,
        *,
        stdin: IO[bytes] | None,
        ended: Callable[[HostProcess], int],
        log: Callable[[bytes], None],
        timeout_scale: float = 1.0,
    ) -> None:
        self.argv = argv
        self.node = node
        self.pid = pid
        self.stdin = stdin
        self._pidfd = pidfd
        self._ended = ended
        self._log = log
        self._timeout_scale = timeout_scale
        self._output = bytearray()
        self._returncode: int | None = None
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        state = "running" if self._returncode is None else f"status {self._returncode}"
        return f"<HostProcess {self.argv[0]!r} in {self.node}, pid {self.pid}, {state}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._returncode

    @property
    def output_bytes(self) -> bytes:
        """stdout and stderr so far."""
        with self._changed:
            return bytes(self._output)

    @property
    def output(self) -> str:
        """stdout and stderr so far, as text."""
        return self.output_bytes.decode(errors="replace")

    @property
    def stdout(self) -> str:
        """The same as ``output``."""
        return self.output

    def poll(self) -> int | None:
        """The exit status if it ended, else None."""
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, seconds at most; returns the status. Raises TimeoutError quoting the output."""
        if timeout is not None:
            timeout *= self._timeout_scale
        with self._changed:
            if not self._changed.wait_for(lambda: self._returncode is not None, timeout):
                raise TimeoutError(f"{self!r} did not end within {timeout:g} s; it wrote: {self._tail()}")
            assert self._returncode is not None
            return self._returncode

    def check(self, timeout: float | None = None) -> str:
        """Wait for a successful end; returns the output. Raises CommandFailed, TimeoutError."""
        status = self.wait(timeout)
        if status:
            raise CommandFailed(self.argv, status, self._tail(), self.node)
        return self.output

    def wait_for_output(self, pattern: str, timeout: float = 10.0) -> re.Match[str]:
        """Wait until the output matches a regular expression; returns the match.

        Raises TimeoutError, or CommandFailed where the process ended without writing it.
        """
        timeout *= self._timeout_scale
        deadline = time.monotonic() + timeout
        expression = re.compile(pattern, re.MULTILINE)
        with self._changed:
            while True:
                match = expression.search(self._output.decode(errors="replace"))
                if match:
                    return match
                if self._returncode is not None:
                    raise CommandFailed(
                        self.argv, self._returncode, f"never wrote {pattern!r}: {self._tail()}", self.node
                    )
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(
                        f"{self!r} did not write {pattern!r} within {timeout:g} s: {self._tail()}"
                    )

    def send_signal(self, number: int) -> None:
        """Send a signal to the process; one that has ended ignores it."""
        with self._changed:
            if self._returncode is None:
                with contextlib.suppress(ProcessLookupError):  # it ended this moment
                    signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. What it started itself dies with the lab at the latest."""
        self.send_signal(signal.SIGKILL)

    def kill_and_wait(self) -> int:
        """SIGKILL, and wait for the end."""
        self.kill()
        return self.wait(_KILL_TIMEOUT)

    # -- called by the pump's thread

    def take_output(self, data: bytes) -> None:
        """More output came."""
        with self._changed:
            self._output += data
            if len(self._output) > MAX_OUTPUT:
                del self._output[: len(self._output) - MAX_OUTPUT]
            self._changed.notify_all()
        self._log(data)

    def take_end(self) -> None:
        """The process is a zombie: collect its status."""
        try:
            status = self._ended(self)
        except LabError:
            status = -signal.SIGKILL  # the agent or the lab is gone, and killed it
        with self._changed:
            self._returncode = status
            os.close(self._pidfd)
            if self.stdin is not None:
                with contextlib.suppress(OSError):  # what was not yet written has no reader any more
                    self.stdin.close()
            self._changed.notify_all()

    def _tail(self) -> str:
        return self._output[-_QUOTED:].decode(errors="replace").strip() or "nothing"


class Plumbing:
    """The descriptors of a process about to start, as a context manager; ``theirs`` go to it."""

    def __init__(self, stdin: int | IO[bytes] | IO[str] | None) -> None:
        self.stdin: IO[bytes] | None = None
        self.output, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)
        self._owned = [write_end]
        self.theirs = (self._input(stdin), write_end, write_end)

    def _input(self, stdin: int | IO[bytes] | IO[str] | None) -> int:
        if stdin is None or stdin == subprocess.DEVNULL:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        elif stdin == subprocess.PIPE:
            fd, ours = os.pipe2(os.O_CLOEXEC)
            self.stdin = open(ours, "wb", buffering=0)  # noqa: SIM115 - the HostProcess owns it
        else:
            return stdin if isinstance(stdin, int) else stdin.fileno()
        self._owned.append(fd)
        return fd

    def __enter__(self) -> Plumbing:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        for fd in self._owned:
            os.close(fd)
        if kind is not None:
            os.close(self.output)
            if self.stdin is not None:
                self.stdin.close()


def watch(process: HostProcess, output: int, pidfd: int) -> None:
    """Have the pump feed a process object; it closes ``output`` at the end."""
    Pump.shared().add(process, output, pidfd)


def readable(fd: int, timeout: float | None) -> bool:
    """Wait until a descriptor has something to read, seconds at most."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))
