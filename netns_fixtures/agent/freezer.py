"""Suspending a host: every process in its network namespace stops, and goes on later.

Found by what the kernel says of each process (its network namespace, and the PID namespace of the lab), so daemons
that left their parents are among them, and nothing outside of the lab ever is. By signals and not by a cgroup
freezer: that needs a writable cgroup, which ordinary users and containers do not have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from netns_fixtures.errors import LabError

#: A process stops when it next leaves the kernel: at once, unless it waits for a disk.
_STOP_TIMEOUT = 5.0
#: Seconds between two looks at a process that was told to stop: a sleep, as the kernel tells nobody but its parent
#: (waitid and SIGCHLD), and the agent is the parent of hardly any: most are children of a program or of the lab's
#: init. A pidfd only tells of the end; cgroup.events needs a cgroup of ours; ptrace would take the process from its
#: debugger, and let it go on with us; the proc connector has no such event. It is one look in most cases.
_LOOK_AGAIN = 0.0005
#: States of a thread that runs no more (proc(5)): stopped, traced, zombie, dead.
_STILL = frozenset("TtZXx")

#: What the kernel knows a namespace by: device and inode.
Identity = tuple[int, int]


def freeze(network: int, processes: int) -> int:
    """Stop every process of a network namespace; returns how many, when all of them stand still.

    ``network`` is the namespace's descriptor, ``processes`` a process of the lab's PID namespace. Raises LabError.
    """
    stopped: set[int] = set()
    deadline = time.monotonic() + _STOP_TIMEOUT
    while True:
        # One that was just about to fork has a child that is not stopped: look again until there is none.
        new = list(_signal(network, processes, signal.SIGSTOP, but=stopped))
        if not new:
            return len(stopped)
        stopped.update(new)
        while any(_runs(pid) for pid in new):
            if time.monotonic() > deadline:
                thaw(network, processes)
                raise LabError(f"processes {new} did not stop within {_STOP_TIMEOUT:g} s")
            time.sleep(_LOOK_AGAIN)


def thaw(network: int, processes: int) -> int:
    """Let them go on; returns how many."""
    return len(list(_signal(network, processes, signal.SIGCONT)))


def _signal(
    network: int, processes: int, number: signal.Signals, but: frozenset[int] | set[int] = frozenset()
) -> Iterator[int]:
    wanted = _identity(f"/proc/self/fd/{network}"), _identity(f"/proc/{processes}/ns/pid")
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in but:
            continue
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):  # gone, or not ours
            if _namespaces(name) != wanted:
                continue
            process = os.pidfd_open(int(name))
            try:
                if _namespaces(name) == wanted:  # still the same one, which the descriptor holds now
                    signal.pidfd_send_signal(process, number)
                    yield int(name)
            finally:
                os.close(process)


def _namespaces(pid: str) -> tuple[Identity, Identity]:
    return _identity(f"/proc/{pid}/ns/net"), _identity(f"/proc/{pid}/ns/pid")


def _identity(path: str) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _runs(pid: int) -> bool:
    """Whether one of its threads may still do something."""
    try:
        return any(_state(pid, task) not in _STILL for task in os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended


def _state(pid: int, task: str) -> str:
    with open(f"/proc/{pid}/task/{task}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]
