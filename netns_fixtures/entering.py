"""Moving the calling thread into a node, where the process has the rights."""

from __future__ import annotations

import os
from types import TracebackType

from netns_fixtures.agent.syscalls import CLONE_NEWNET, setns
from netns_fixtures.errors import MissingCapability


class Entered:
    """A context manager; the thread is in the node inside of it. Owns the descriptor."""

    def __init__(self, fd: int, node: str) -> None:
        self._fd = fd
        self._node = node
        self._before = -1

    def __enter__(self) -> None:
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self._fd, CLONE_NEWNET)
        except OSError as error:
            self._close()
            raise MissingCapability(
                f"this process may not enter {self._node} itself ({error.strerror or error})",
                "use host.socket(), host.run() or host.popen(), which need no rights, or run as root",
            ) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        setns(self._before, CLONE_NEWNET)
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._before)
