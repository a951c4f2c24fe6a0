"""Starting processes in a node, so that nothing of a lab outlives it.

Each lab has a PID namespace of its own, with a tiny init process that dies with the agent. When the lab closes, or
the agent is killed, the kernel kills every process in it: also grandchildren that became daemons.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
from collections.abc import Sequence
from typing import NoReturn

from netns_fixtures.agent.call import serve_call
from netns_fixtures.agent.syscalls import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    die_with_parent,
    mount,
    set_process_name,
    setns,
    unshare,
)
from netns_fixtures.errors import CommandFailed
from netns_fixtures.messages import Spawn

#: Where descriptors are parked while the low numbers are laid out; far above what the agent has open there.
_PARKING = 600
#: Status a shell gives where a program cannot be started.
_CANNOT_START = 127


class ProcessNamespace:
    """The PID namespace of one lab. Process numbers outside are the ordinary ones."""

    def __init__(self, label: str) -> None:
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        agent = os.pidfd_open(os.getpid())
        unshare(CLONE_NEWPID)
        try:
            self._init = os.fork()
            if self._init == 0:
                _run_init(label, agent)
            self._fd = os.open(f"/proc/{self._init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            setns(self._home, CLONE_NEWPID)
            os.close(agent)

    def fork(self) -> int:
        """fork(2), the child being in the namespace."""
        setns(self._fd, CLONE_NEWPID)
        try:
            return os.fork()
        finally:
            # In the child this fails (its parent's namespace is out of its reach) and means nothing.
            with contextlib.suppress(OSError):
                setns(self._home, CLONE_NEWPID)

    def kill(self) -> None:
        """Kill init; the kernel then kills all others. The caller reaps its own children, then :meth:`close`."""
        os.kill(self._init, signal.SIGKILL)

    def close(self) -> None:
        """Wait until nothing is left."""
        os.waitpid(self._init, 0)
        os.close(self._fd)
        os.close(self._home)


def spawn(namespace: ProcessNamespace, request: Spawn, fds: Sequence[int]) -> int:
    """Start the program (or, without argv, the function in ``fds[3]``) in the network that is entered now.

    Returns its pid. Raises CommandFailed when the program cannot be started.
    """
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    with open(status_read, "rb") as status:
        pid = namespace.fork()
        if pid == 0:
            _in_child(request, [*fds, status_write] if request.argv else fds)
        os.close(status_write)
        # A call keeps no copy of this pipe: end of file comes at once. A program's copy closes at exec.
        problem = status.read().decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
        raise CommandFailed(request.argv, _CANNOT_START, problem)
    return pid


def _in_child(request: Spawn, fds: Sequence[int]) -> NoReturn:
    """Never returns, and never lets an exception travel up into the agent's code."""
    status = _CANNOT_START
    try:
        _lay_out(fds)
        _leave_agent()
        status = _exec(request) if request.argv else _call(request)
    finally:
        os._exit(status)


def _leave_agent() -> None:
    os.setsid()
    die_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    unshare(CLONE_NEWNS)
    # The process sees its own numbers in /proc. Containers that mask parts of /proc forbid the mount; then
    # /proc/self still works, which is what programs look at.
    with contextlib.suppress(OSError):
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _exec(request: Spawn) -> int:
    try:
        os.chdir(request.cwd)
        os.execvpe(request.argv[0], request.argv, dict(request.env))
    except OSError as error:
        os.write(3, f"{error.strerror}: {error.filename or request.argv[0]}".encode())
    return _CANNOT_START


def _call(request: Spawn) -> int:
    # A Python that started normally turns Ctrl-C into KeyboardInterrupt; the agent ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    return serve_call(payload=3, result=4)


def _lay_out(fds: Sequence[int]) -> None:
    """Make the descriptors 0, 1, 2, ...; close everything else."""
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PARKING) for fd in fds]
    for number, fd in enumerate(parked):
        os.dup2(fd, number, inheritable=number < 3)
    os.closerange(len(fds), os.sysconf("SC_OPEN_MAX"))


def _run_init(label: str, agent: int) -> NoReturn:
    """The first process of a PID namespace: adopts orphans, reaps them, dies with the agent."""
    try:
        die_with_parent(signal.SIGKILL)
        if not select.select([agent], [], [], 0)[0]:  # else the agent died before we asked for the signal
            _adopt_orphans(label)
    finally:
        os._exit(0)


def _adopt_orphans(label: str) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    os.setsid()
    set_process_name(f"lab {label}")
    null = os.open(os.devnull, os.O_RDWR)
    _lay_out((null, null, null))
    while True:
        signal.sigwait({signal.SIGCHLD})
        _reap_all()


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
