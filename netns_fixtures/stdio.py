"""Programs in hosts that use descriptors of ours: a terminal, a pipe, a file; and one with a terminal of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from netns_fixtures.node import Node
from netns_fixtures.process import HostProcess, Plumbing

_LAUNCHER = Path(__file__).parent / "agent" / "controlling.py"


class Given(Plumbing):
    """Standard input, output and error are these descriptors; nothing is captured."""

    def __init__(self, fds: Sequence[int]) -> None:
        self.stdin = None
        # Output that ends at once: the end of the process is all that is left to wait for.
        self.output, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._owned = [write_end]
        self.theirs = (fds[0], fds[1], fds[2])


def start(
    node: Node,
    argv: Sequence[str],
    fds: Sequence[int],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    terminal: bool = False,
) -> HostProcess:
    """Start a program with these descriptors 0, 1 and 2; the caller keeps its copies of them.

    ``terminal``: they are one, and become the program's controlling terminal, so that Ctrl-C and job control
    work. Raises CommandFailed where the program cannot be started.
    """
    words = (sys.executable, "-ISB", str(_LAUNCHER), *argv) if terminal else tuple(argv)
    return node.spawn(words, env, cwd, Given(fds))
