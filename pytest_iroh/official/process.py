"""Start the runner and wait until it has connected."""

from __future__ import annotations

import select
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pytest_iroh.official.errors import OfficialDied, OfficialTimeout

RUNNER = Path(__file__).with_name("runner")

POLL_INTERVAL = 0.05
"""Seconds between looks at a process that has not connected yet: it may have died."""

LOG_TAIL = 4000
"""Bytes of its log that go into an error."""


class Process(Protocol):
    """What is needed of a started process: ``subprocess.Popen`` and a lab host's process have it."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float) -> int:
        """Wait for the end; raises a TimeoutError or ``subprocess.TimeoutExpired``."""


Popen = Callable[[Sequence[str]], Process]
"""Starts a program: ``subprocess.Popen``, ``host.popen`` of a lab, or a function that wraps one of them."""


class Runner:
    """A running runner: its process, its connected socket and its log."""

    def __init__(self, python: Path, *, popen: Popen, within: float) -> None:
        # A directory of our own: only we may connect; and short, a socket path ends at 108 bytes.
        self._directory = Path(tempfile.mkdtemp(prefix="official-iroh-"))
        self._log = self._directory / "log"
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(self._directory / "control"))
                listener.listen(1)
                self.process = popen(self._argv(python))
                self.connection = self._accept(listener, within)
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    def _argv(self, python: Path) -> list[str]:
        # -I: neither our PYTHONPATH nor the user's site may leak into the other environment.
        control = ["--control", str(self._directory / "control"), "--log", str(self._log)]
        return [str(python), "-I", str(RUNNER), *control]

    def _accept(self, listener: socket.socket, within: float) -> socket.socket:
        deadline = time.monotonic() + within
        while not select.select([listener], [], [], POLL_INTERVAL)[0]:
            if self.process.poll() is not None:
                raise OfficialDied(f"the runner ended with {self.process.poll()}", log_tail=self.log_tail())
            if time.monotonic() > deadline:
                self.kill()
                raise OfficialTimeout(f"the runner did not start within {within} s", log_tail=self.log_tail())
        return listener.accept()[0]

    def log_tail(self) -> str:
        """Return the end of what it and its Rust side printed."""
        try:
            return self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        except OSError:
            return ""  # It died before it opened its log, or is cleaned up.

    def kill(self) -> None:
        """End the process if it runs, and reap it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10.0)

    def remove(self) -> None:
        """Remove the socket and the log."""
        shutil.rmtree(self._directory, ignore_errors=True)
