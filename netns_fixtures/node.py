"""What hosts and routers share: a namespace in which sockets can be opened and code can run."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

from netns_fixtures.call import run_call
from netns_fixtures.entering import Entered
from netns_fixtures.messages import OpenNamespace, OpenSocket, Reap, Spawn
from netns_fixtures.process import HostProcess, Plumbing, watch

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

T = TypeVar("T")

#: The log of a host keeps its newest part.
MAX_LOG = 16 << 20


class Node:
    """A host or a router: one network namespace."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        self.lab = lab
        self.name = name
        self.number = number
        self._log = bytearray()
        self._log_lock = threading.Lock()

    @property
    def log(self) -> str:
        """Everything that processes in this node wrote, in order of arrival."""
        with self._log_lock:
            return self._log.decode(errors="replace")

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """A new socket of this node, also AF_NETLINK, AF_PACKET and raw ones; it keeps its network for life.

        Usable from any thread and event loop of the caller. Raises OSError as ``socket.socket`` does.
        """
        request = OpenSocket(self.lab.ready(), self.number, int(family), int(type), proto)
        _value, (fd,) = self.lab.request(request)
        return socket.socket(fileno=fd)

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: int | IO[bytes] | IO[str] | None = None,
        text: bool = True,
    ) -> HostProcess:
        """Start a program in this node, as the caller's user; its output is captured and goes to ``log``,
        too.

        ``env`` and ``cwd`` default to the caller's. ``stdin`` is None (empty), ``subprocess.PIPE``, or a
        file. ``text`` is accepted for likeness with subprocess: output is there as ``output`` and
        ``output_bytes``. Raises CommandFailed when the program cannot be started.
        """
        if isinstance(argv, str) or not argv:
            raise TypeError(f"argv is a list such as ['ping', '-c1', '192.0.2.1'], not {argv!r}")
        return self.spawn(tuple(map(str, argv)), env, cwd, Plumbing(stdin))

    @overload
    def run(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    def run(self, fn: Callable[..., T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T: ...

    def run(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Call a function in a process of its own in this node; returns its result (awaited, if a coroutine).

        The function and its arguments travel by cloudpickle, so closures and lambdas work. An exception
        comes back as itself, with the remote traceback as a note. Raises TimeoutError after ``timeout``
        seconds, having killed it, and CommandFailed when the process died.
        """
        return run_call(self, fn, args, kwargs, timeout)

    def enter(self) -> Entered:
        """``with host.enter():`` moves the calling thread into this node, and back at the end.

        Only for synchronous code, and only where the process itself has the rights (as root); raises
        MissingCapability elsewhere. ``socket`` and ``run`` work everywhere.
        """
        _value, (fd,) = self.lab.request(OpenNamespace(self.lab.ready(), self.number))
        return Entered(fd, self.name)

    def resolve(self, host: str) -> list[str]:
        """Addresses of a name, as the lab's name server answers this node: real DNS packets.

        IPv4 comes first, unless the node has none. An IP literal gives itself. Blocks for some seconds
        where no answer comes. Raises gaierror (an OSError): EAI_NONAME for a name without addresses,
        EAI_AGAIN where the name server could not tell.
        """
        return self.lab.dns.resolve(self, host)

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Addresses of the name server, best first: those in this node's /etc/resolv.conf."""
        return self.lab.dns.addresses_for(self)

    def spawn(
        self,
        argv: tuple[str, ...],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        plumbing: Plumbing,
        more: Sequence[int] = (),
        label: str = "",
    ) -> HostProcess:
        """Start a program, or without ``argv`` the call whose descriptors are in ``more``."""
        self._check_awake()
        environment = tuple((os.environ if env is None else env).items())
        directory = os.fspath(cwd) if cwd is not None else os.getcwd()
        with plumbing:
            files = self.lab.dns.files(self)
            request = Spawn(self.lab.ready(), self.number, argv, environment, directory, files)
            pid, (pidfd,) = self.lab.request(request, (*plumbing.theirs, *more))
            process = HostProcess(
                argv or (label,),
                self.name,
                pid,
                pidfd,
                stdin=plumbing.stdin,
                ended=self._ended,
                log=self._append_log,
                timeout_scale=self.lab.timeout_scale,
            )
        shown = " ".join(process.argv)
        self.lab.log_event(
            "process_started", self.name, f"{self.name} started {shown}", pid=pid, argv=process.argv
        )
        watch(process, plumbing.output, pidfd)
        return process

    def _check_awake(self) -> None:
        """Raises HostFrozen where nothing can start now."""

    def _ended(self, process: HostProcess) -> int:
        status, _fds = self.lab.request(Reap(self.lab.number, process.pid))
        returncode: int = -9 if status is None else status
        text = f"{self.name}: {' '.join(process.argv)} ended with status {returncode}"
        self.lab.log_event("process_ended", self.name, text, pid=process.pid, returncode=returncode)
        return returncode

    def _append_log(self, data: bytes) -> None:
        with self._log_lock:
            self._log += data
            if len(self._log) > MAX_LOG:
                del self._log[: len(self._log) - MAX_LOG]
