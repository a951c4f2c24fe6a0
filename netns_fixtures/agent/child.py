"""What happens between fork and exec (or the call of a function) of a host's process."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Sequence
from typing import NoReturn

from netns_fixtures.agent.call import serve_call
from netns_fixtures.agent.mounts import make_own_mounts
from netns_fixtures.agent.syscalls import CLONE_NEWNET, setns
from netns_fixtures.errors import CommandFailed
from netns_fixtures.messages import Spawn

#: Where descriptors are parked while the low numbers are laid out: above all that are being laid out.
_PARKING = 64
#: How many descriptors the caller may open; the agent itself raises its own limit (see ``raise_file_limit``).
_FILE_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)
#: The status that a shell gives where a program cannot be started.
_CANNOT_START = 127
#: Descriptors of a started process: 0, 1, 2, then these.
_STATUS_FD = 3
_PAYLOAD_FD, _RESULT_FD = 3, 4


def start(request: Spawn, namespace: int, fds: Sequence[int]) -> int:
    """Fork, and start the program (or, without argv, the function in ``fds[3]``) in a network namespace.

    Returns its pid. Raises CommandFailed when the program cannot be started.
    """
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    with open(status_read, "rb") as status:
        pid = os.fork()
        if pid == 0:
            _in_child(request, namespace, fds, status_write)
        os.close(status_write)
        # A call keeps no copy of this pipe: end of file comes at once. A program's copy closes at exec.
        problem = status.read().decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
        raise CommandFailed(request.argv, _CANNOT_START, problem)
    return pid


def raise_file_limit() -> None:
    """Let this process open as many descriptors as it may: a node takes two or three. Started ones do not."""
    hard = _FILE_LIMIT[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lay_out(fds: Sequence[int]) -> None:
    """Make the descriptors 0, 1, 2, ... and close everything else; those above 2 are not inherited."""
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PARKING) for fd in fds]
    for number, fd in enumerate(parked):
        os.dup2(fd, number, inheritable=number < 3)
    os.closerange(len(fds), os.sysconf("SC_OPEN_MAX"))


def _in_child(request: Spawn, namespace: int, fds: Sequence[int], problem: int) -> NoReturn:
    """Never returns, and never lets an exception travel up into the code that forked.

    What goes wrong before the program starts is written to ``problem``.
    """
    status = _CANNOT_START
    try:
        setns(namespace, CLONE_NEWNET)
        try:
            make_own_mounts(request.files)
        except OSError as error:
            os.write(problem, f"{error.strerror}; its own /etc/resolv.conf cannot be put there".encode())
            raise  # no further than the os._exit below
        lay_out([*fds, problem] if request.argv else fds)
        _become_ordinary()
        status = _exec(request) if request.argv else _call(request)
    finally:
        os._exit(status)


def _become_ordinary() -> None:
    """A session of its own, and ordinary signals."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_NOFILE, _FILE_LIMIT)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


def _exec(request: Spawn) -> int:
    try:
        os.chdir(request.cwd)
        os.execvpe(request.argv[0], request.argv, dict(request.env))
    except OSError as error:
        os.write(_STATUS_FD, f"{error.strerror}: {error.filename or request.argv[0]}".encode())
    return _CANNOT_START


def _call(request: Spawn) -> int:
    # A Python that started normally turns Ctrl-C into KeyboardInterrupt; the agent ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    return serve_call(_PAYLOAD_FD, _RESULT_FD)
