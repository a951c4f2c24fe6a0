"""A program of our own that serves in a node: its standard input is a control socket, its output are news."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from netns_fixtures.errors import CommandFailed, LabError
from netns_fixtures.messages import Reap, Spawn
from netns_fixtures.process import HostProcess, Plumbing, watch

if TYPE_CHECKING:
    from netns_fixtures.node import Node

#: A Python program starts in 0.2 s; this long only on a machine in deep trouble.
_REPLY_TIMEOUT = 20.0
_END_TIMEOUT = 10.0
_MAX_MESSAGE = 256 * 1024
#: Where this package is imported from, so that the program finds the very same one.
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class ServiceProcess:
    """Starts ``python -m module arguments`` in a node; ``on_line`` gets each line of output, in the pump's thread.

    The program sends one packet when it serves, then answers each request with one. Raises LabError.
    """

    def __init__(
        self, node: Node, module: str, arguments: Sequence[str], on_line: Callable[[str], None]
    ) -> None:
        self._node = node
        self._on_line = on_line
        self._partial = b""
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_REPLY_TIMEOUT)
        with theirs:
            self._process = self._spawn((sys.executable, "-P", "-m", module, *arguments), theirs.fileno())

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def wait_ready(self) -> bytes:
        """Wait until it serves; returns its first packet."""
        with self._lock:
            return self._receive()

    def request(self, packet: bytes) -> bytes:
        """One request and its reply."""
        with self._lock:
            try:
                self._control.send(packet)
            except OSError:
                raise self._died() from None
            return self._receive()

    def hang_up(self) -> None:
        """Say that there is nothing more to ask: a program that serves for nobody else ends."""
        with contextlib.suppress(OSError):  # it has ended already
            self._control.shutdown(socket.SHUT_RDWR)

    def wait_end(self) -> None:
        """Wait until it has ended by itself, then close."""
        self._process.wait(_END_TIMEOUT)
        self.close()

    def close(self) -> None:
        """Close the control socket, at whose end the program ends; does nothing the second time."""
        self._control.close()

    def _spawn(self, argv: tuple[str, ...], control: int) -> HostProcess:
        node = self._node
        # Before what the caller has there: our dependencies may come from that.
        path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        environment = tuple({**os.environ, "PYTHONPATH": path}.items())
        with Plumbing(control) as plumbing:
            request = Spawn(node.lab.ready(), node.number, argv, environment, "/")
            pid, (pidfd,) = node.lab.request(request, plumbing.theirs)
            process = HostProcess(
                argv, node.name, pid, pidfd, stdin=None, ended=self._ended, log=self._take_output
            )
        watch(process, plumbing.output, pidfd)
        return process

    def _ended(self, process: HostProcess) -> int:
        status, _fds = self._node.lab.request(Reap(self._node.lab.number, process.pid))
        return -9 if status is None else int(status)

    def _take_output(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))

    def _receive(self) -> bytes:
        try:
            packet = self._control.recv(_MAX_MESSAGE)
        except TimeoutError:
            raise LabError(f"{self._process!r} did not answer within {_REPLY_TIMEOUT:g} s") from None
        except OSError:
            packet = b""
        if not packet:
            raise self._died()
        return packet

    def _died(self) -> LabError:
        try:
            status = self._process.wait(_END_TIMEOUT)
        except TimeoutError as error:
            return LabError(str(error))
        return CommandFailed(self._process.argv, status, self._process.output, self._node.name)
