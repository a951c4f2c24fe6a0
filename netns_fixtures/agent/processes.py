"""The processes of one lab, in a PID namespace of their own, so that none of them can outlive it.

::

    agent --- keeper --- init (pid 1 of the namespace) --- the hosts' processes, daemons and all

The keeper exists because an unprivileged process can make a PID namespace for its children only once, and
never come back from it. It and init die with their parents (PDEATHSIG); when init dies, also on ``kill -9``
of the agent, the kernel kills everything in the namespace. Init starts processes at the agent's request and
reaps.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from netns_fixtures.agent.child import lay_out, start
from netns_fixtures.agent.syscalls import CLONE_NEWPID, die_with_parent, set_process_name, unshare
from netns_fixtures.errors import LabError
from netns_fixtures.messages import Reply, Spawn, receive, send

#: Number of the socket in keeper and init, after standard input, output and error.
_CHANNEL_FD = 3


@dataclass(frozen=True, slots=True)
class _Status:
    """Asks init for a process's exit status; ``pid`` is the number inside."""

    pid: int


class LabProcesses:
    """The agent's end. Process numbers are those that the test process sees."""

    def __init__(self, label: str) -> None:
        self._channel, theirs = socket.socketpair()
        agent = os.pidfd_open(os.getpid())
        self._keeper = os.fork()
        if self._keeper == 0:
            _run_keeper(label, theirs.fileno(), agent)
        os.close(agent)
        theirs.close()
        _hello, (self._init,) = receive(self._channel)
        #: The number inside of each started process.
        self._inside: dict[int, int] = {}

    def spawn(self, request: Spawn, namespace: int, fds: Sequence[int]) -> tuple[int, int]:
        """Start a process in a network namespace; returns its pid and its pidfd. Raises CommandFailed."""
        inside, (pidfd,) = self._ask(request, (namespace, *fds))
        pid = _pid_of(pidfd)
        self._inside[pid] = inside
        return pid, pidfd

    @property
    def init_pid(self) -> int:
        """The first process of the lab's PID namespace, by the number that the agent sees."""
        return _pid_of(self._init)

    def status(self, pid: int) -> int | None:
        """The exit status of a process (negative: the signal), None while it runs."""
        if pid not in self._inside:
            return None
        status, _fds = self._ask(_Status(self._inside[pid]), ())
        if status is None:
            return None
        del self._inside[pid]
        return int(status)

    def kill(self) -> None:
        """Kill every process, and wait until they are gone."""
        signal.pidfd_send_signal(self._init, signal.SIGKILL)
        os.waitpid(self._keeper, 0)
        os.close(self._init)
        self._channel.close()

    def _ask(self, request: object, fds: Sequence[int]) -> tuple[Any, list[int]]:
        try:
            send(self._channel, request, fds)
            reply, received = receive(self._channel)
        except (EOFError, OSError):
            raise LabError(
                "the first process of this lab's hosts was killed, and all others with it"
            ) from None
        assert isinstance(reply, Reply)
        if reply.error is not None:
            raise reply.error
        return reply.value, received


def _pid_of(pidfd: int) -> int:
    """Init can only tell its own numbers; the descriptor knows ours."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _run_keeper(label: str, channel: int, agent: int) -> NoReturn:
    try:
        die_with_parent(signal.SIGKILL)
        if not select.select([agent], [], [], 0)[0]:  # else the agent died before we asked for the signal
            null = os.open(os.devnull, os.O_RDWR)
            lay_out((null, null, null, channel))
            os.setsid()
            _keep(label)
    finally:
        os._exit(0)


def _keep(label: str) -> None:
    unshare(CLONE_NEWPID)
    alive = os.pidfd_open(os.getpid())
    init = os.fork()
    if init == 0:
        _run_init(label, alive)
    os.close(alive)
    set_process_name(f"{label} keeper")
    os.close(_CHANNEL_FD)  # init's end alone must decide when the agent reads end of file
    os.waitpid(init, 0)


def _run_init(label: str, keeper: int) -> NoReturn:
    try:
        die_with_parent(signal.SIGKILL)
        if not select.select([keeper], [], [], 0)[0]:
            os.close(keeper)
            set_process_name(f"{label} init")
            _Init(socket.socket(fileno=_CHANNEL_FD)).run()
    finally:
        os._exit(0)


class _Init:
    """Process number 1 of a lab: starts processes, adopts orphans, reaps all."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._channel.set_inheritable(False)
        self._wake, notify = socket.socketpair()
        self._notify = notify
        for end in (self._wake, notify):
            end.setblocking(False)
        #: Exit status of what was started at request, None while it runs. Orphans are not in here.
        self._started: dict[int, int | None] = {}

    def run(self) -> None:
        """Serve until the agent closes its end."""
        signal.set_wakeup_fd(self._notify.fileno())
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        send(self._channel, Reply(), (os.pidfd_open(os.getpid()),))
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        with contextlib.suppress(EOFError, ConnectionError):  # the agent is gone, and so are we
            while True:
                ready = {fd for fd, _events in poll.poll()}
                if self._wake.fileno() in ready:
                    self._wake.recv(4096)
                    self._reap()
                if self._channel.fileno() in ready:
                    self._serve()

    def _serve(self) -> None:
        request, fds = receive(self._channel)
        out: list[int] = []
        try:
            if isinstance(request, Spawn):
                pid = start(request, fds[0], fds[1:])
                self._started[pid] = None
                out = [os.pidfd_open(pid)]
                reply = Reply(pid)
            else:
                self._reap()
                status = self._started.get(request.pid)
                if status is not None:
                    del self._started[request.pid]  # the kernel may give the number out again
                reply = Reply(status)
        except (LabError, OSError) as error:
            reply = Reply(error=error)
        send(self._channel, reply, out)
        for fd in (*fds, *out):
            os.close(fd)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # no children at all
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self._started:
                    self._started[pid] = os.waitstatus_to_exitcode(status)
