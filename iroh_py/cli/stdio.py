"""Standard input and output without threads, so that Ctrl-C always ends a wait.

The descriptors stay blocking: terminals share their state with the shell and with each other.
"""

from __future__ import annotations

import asyncio
import os
import select

#: One read: as much as a Linux pipe holds.
READ_SIZE = 64 * 1024
#: A pipe that poll() calls writable takes this much without blocking (PIPE_BUF of Linux).
_PIPE_WRITE = 4096


async def _ready(fd: int, *, write: bool = False) -> None:
    """Wait until a descriptor can be read or written without blocking; files always can."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    try:
        add(fd, wake)
    except PermissionError:
        return  # what epoll refuses: files and /dev/null, which never block for long
    try:
        await future
    finally:
        remove(fd)


class Input:
    """Bytes that come in on a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read(self) -> bytes:
        """What is there as soon as something is there; b"" at the end. Raises OSError."""
        while True:
            await _ready(self._fd)
            try:
                return os.read(self._fd, READ_SIZE)
            except BlockingIOError:
                continue  # somebody made it non-blocking, and somebody else was faster


class Output:
    """Bytes that go out on a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    async def write(self, data: bytes) -> None:
        """Write everything. Raises BrokenPipeError when nobody reads any more, OSError."""
        view = memoryview(data)
        while view:
            if not self._poll.poll(0):
                await _ready(self._fd, write=True)
            try:
                view = view[os.write(self._fd, view[:_PIPE_WRITE]) :]
            except BlockingIOError:
                await asyncio.sleep(0)  # as in read()
