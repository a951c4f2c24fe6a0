"""A program on a terminal of its own, and what it writes there."""

from __future__ import annotations

import os
import select
import time

#: Seconds for anything that a terminal shows; half a second is usual.
PATIENCE = 60


def read_until(terminal: int, wanted: bytes | None, seen: bytes) -> bytes:
    """Read until something is there, or (None) until the end; returns all that was seen."""
    deadline = time.monotonic() + PATIENCE
    while wanted is None or wanted not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            data = b""  # EIO: the program behind it has ended
        if not data:
            assert wanted is None, seen
            break
        seen += data
    return seen


def shell_status(pid: int, terminal: int) -> int:
    """Use a host's shell (prompt ``$ ``) with job control: Ctrl-C ends what is in front; then ``exit 7``."""
    seen = read_until(terminal, b"$ ", b"")
    # The program itself says that it is in front; written so that the echo of this line does not say it, too.
    os.write(terminal, b"sh -c 'grep -q eth0 /proc/net/route && echo in fr\"\"ont; exec sleep 1000'\r")
    seen = read_until(terminal, b"in front", seen)
    os.write(terminal, b"\x03")
    seen = read_until(terminal, b"^C", seen)
    os.write(terminal, b"exit 7\r")
    read_until(terminal, None, seen)
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
