"""The lab's hold on a wire process: synchronous requests over a socket pair, a fraction of a ms each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Any

from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition
from netns_fixtures.replies import decode_reply
from netns_fixtures.wire.messages import (
    MAX_MESSAGE,
    AddLink,
    ReadStats,
    RemoveLink,
    Request,
    SetCondition,
    SetConnected,
    encode_request,
)

# Replies take a tenth of a millisecond; the first waits for the interpreter to start. Only a stopped process
# or a machine in deep trouble takes this long.
_REPLY_TIMEOUT = 10.0
_EXIT_TIMEOUT = 2.0

# Where this package is imported from, so that the wire process finds the very same one.
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class WireProcess:
    """A process that carries the frames of any number of links.

    It dies with the thread that spawned it, so spawn it from one that lives as long as the lab. Every verb
    raises LinkEngineError if the process refused, or is gone. Safe to use from several threads.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, errors: IO[bytes]) -> None:
        self._process = process
        self._control = control
        self._errors = errors
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def spawn(cls) -> WireProcess:
        """Start a process; returns at once, the first request waits until it serves."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors = open(os.memfd_create("wire-stderr"), "w+b")  # noqa: SIM115 - lives as long as the process
        ours.settimeout(_REPLY_TIMEOUT)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "netns_fixtures.wire", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": _PACKAGE_ROOT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
            )
        return cls(process, ours, errors)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self._closed and self._process.poll() is None

    def add_link(
        self,
        link_id: int,
        fd_a: int,
        fd_b: int,
        forward: LinkCondition,
        backward: LinkCondition,
        seed: int,
    ) -> None:
        """Join two TAPs; forward is what happens to frames from a to b.

        The process gets copies of the descriptors and the caller may close its own.
        """
        self._request(AddLink(link=link_id, forward=forward, backward=backward, seed=seed), (fd_a, fd_b))

    def set_condition(
        self, link_id: int, forward: LinkCondition | None, backward: LinkCondition | None
    ) -> None:
        """Change a running link, None leaves a direction as it is; frames under way keep their time."""
        self._request(SetCondition(link=link_id, forward=forward, backward=backward))

    def set_connected(self, link_id: int, connected: bool) -> None:
        """Cut the link, housekeeping frames and those under way included, or join it again."""
        self._request(SetConnected(link=link_id, connected=connected))

    def remove_link(self, link_id: int) -> None:
        """Forget the link and close the process's copies of its descriptors."""
        self._request(RemoveLink(link=link_id))

    def stats(self, link_id: int) -> dict[str, Any]:
        """{"forward": counters, "backward": counters, "connected": bool}; counters as in LinkCounters."""
        stats: dict[str, Any] = self._request(ReadStats(link=link_id))
        return stats

    def close(self) -> None:
        """End the process and with it every link; does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._control.close()
            self._end_process()
            self._errors.close()

    def _end_process(self) -> None:
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            # It is stopped or stuck, and holds nothing that an orderly end would save.
            self._process.kill()
            self._process.wait()

    def _request(self, request: Request, fds: Sequence[int] = ()) -> Any:
        with self._lock:
            if self._closed:
                raise LinkEngineError("the wire process was closed")
            try:
                socket.send_fds(self._control, [encode_request(request)], list(fds))
                packet = self._control.recv(MAX_MESSAGE)
            except TimeoutError:
                self._process.kill()  # a late reply would answer the next request
                raise LinkEngineError(
                    f"the wire process (pid {self.pid}) did not answer within {_REPLY_TIMEOUT:g} s"
                ) from None
            except (BrokenPipeError, ConnectionResetError):
                packet = b""
            if not packet:
                raise LinkEngineError(self._obituary())
        return decode_reply(packet, LinkEngineError)

    def _obituary(self) -> str:
        self._end_process()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip()
        return f"the wire process died (status {self._process.returncode}): {words or 'it said nothing'}"
