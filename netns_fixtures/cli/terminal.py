"""A program of a host on the terminal of this command: a pair of pseudo terminals between them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

#: Bytes at a time.
_CHUNK = 1 << 16


def on_terminal() -> bool:
    """Whether this command is used by a person: input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def attach(start: Callable[[int], int]) -> None:
    """Start a program on a new terminal and join it with ours until it ends.

    ``start`` gets the descriptor of the program's terminal, and returns one that becomes readable when the
    program has ended.
    """
    ours, theirs = pty.openpty()
    try:
        with _resized(ours):
            ended = start(theirs)
            os.close(theirs)
            theirs = -1
            with _raw():
                _join(ours, ended)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def _join(terminal: int, ended: int) -> None:
    """Copy both ways until the program has ended and all that it wrote was shown."""
    sources = [0, terminal, ended]
    while True:
        ready, _, _ = select.select(sources, [], [], None if ended in sources else 0)
        if not ready:
            return  # it has ended, and there is nothing more to show
        if ended in ready:
            sources = [terminal]
            continue
        if terminal in ready:
            try:
                data = os.read(terminal, _CHUNK)
            except OSError:
                data = b""  # EIO: nobody has the other end open any more
            if not data:
                sources.remove(terminal)
                if ended not in sources:
                    return
            _write(1, data)
        if 0 in ready:
            data = os.read(0, _CHUNK)
            if not data:
                sources.remove(0)
            with contextlib.suppress(OSError):  # it has closed its terminal and is about to end
                _write(terminal, data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Our own terminal passes every key on, also Ctrl-C."""
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(terminal: int) -> Iterator[None]:
    """The program's terminal is as large as ours, now and when ours changes."""

    def copy(_number: int = 0, _frame: FrameType | None = None) -> None:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

    copy()
    before: Any = signal.signal(signal.SIGWINCH, copy)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
