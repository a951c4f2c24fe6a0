"""The test process's hold on its lab agent: one per process, started when needed, shared by all labs."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Any

from netns_fixtures.errors import AgentDied, LabError
from netns_fixtures.messages import Hello, Reply, Request, encode, receive, send_encoded

# Where this package is imported from, so that the agent finds the very same one.
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: An agent at its socket's end leaves at once; it has processes to kill at most.
_EXIT_TIMEOUT = 5.0


class Agent:
    """A running agent. Requests are one round trip of about 0.1 ms; safe to use from several threads."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket, errors: IO[bytes]) -> None:
        self._process = process
        self._channel = channel
        self._errors = errors
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._obituary = ""
        self.mode = ""

    @classmethod
    def start(cls) -> Agent:
        """Start an agent and wait until it serves. Raises MissingCapability, AgentDied."""
        ours, theirs = socket.socketpair()
        errors = open(os.memfd_create("lab-agent-stderr"), "w+b")  # noqa: SIM115 - lives as long as the agent
        path = os.pathsep.join(filter(None, (_PACKAGE_ROOT, os.environ.get("PYTHONPATH"))))
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "netns_fixtures.agent", str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs.fileno(),),
            )
        agent = cls(process, ours, errors)
        hello = agent._hello()
        if hello.error is not None:
            agent.close()
            raise hello.error
        agent.mode = hello.mode
        return agent

    @property
    def pid(self) -> int:
        """The agent's process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it serves this very process (a forked child must not use its parent's agent)."""
        return not self._obituary and self._owner == os.getpid() and self._process.poll() is None

    def request(self, request: Request, fds: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """The reply's value and descriptors. Raises what the agent raised, or AgentDied."""
        if self._owner != os.getpid():
            raise LabError("this lab belongs to the process that made it; a forked child cannot use it")
        with self._lock:
            if self._obituary:
                raise AgentDied(self._obituary)
            packet = encode(request)  # an error in this harms nothing
            try:
                send_encoded(self._channel, packet, fds)
                reply, received = receive(self._channel)
            except (EOFError, OSError):
                raise self._died() from None
            except BaseException as error:
                self._forsake(error)
                raise
        assert isinstance(reply, Reply)
        if reply.error is not None:
            raise reply.error
        return reply.value, received

    def close(self) -> None:
        """End the agent and everything that it holds; does nothing the second time."""
        if self._owner != os.getpid():
            return  # the copy of a forked child
        with self._lock:
            if not self._obituary:
                self._obituary = "the lab agent was closed"
                self._end()

    def _hello(self) -> Hello:
        try:
            hello, _fds = receive(self._channel)
        except (EOFError, OSError):
            raise self._died() from None
        except BaseException as error:
            self._forsake(error)
            raise
        assert isinstance(hello, Hello)
        return hello

    def _end(self) -> None:
        self._hang_up()
        self._errors.close()

    def _hang_up(self) -> None:
        self._channel.close()
        try:
            self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            # Stuck; the kernel does the rest: its processes and namespaces die with it.
            self._process.kill()
            self._process.wait()

    def _forsake(self, error: BaseException) -> None:
        """A request was interrupted (Ctrl-C, a test's timeout): its reply would be taken for that of the next one."""
        self._obituary = (
            f"a request to the lab agent (pid {self.pid}) was interrupted ({type(error).__name__}), and the agent"
            " ended; every namespace and process of its labs is gone with it, make a new Lab"
        )
        self._end()

    def _died(self) -> AgentDied:
        self._hang_up()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        said = f", its last words: {words[-1]}" if words else ""
        status = self._process.returncode
        self._obituary = (
            f"the lab agent (pid {self.pid}) died with status {status}{said};"
            " every namespace and process of its labs is gone with it, make a new Lab"
        )
        return AgentDied(self._obituary)


_shared: Agent | None = None
_shared_lock = threading.Lock()


def shared_agent() -> Agent:
    """The agent of this process; a new one where there is none, or the last one died."""
    global _shared
    with _shared_lock:
        if _shared is None or not _shared.alive:
            if _shared is None:
                atexit.register(close_shared_agent)
            _shared = Agent.start()
        return _shared


def close_shared_agent() -> None:
    """End this process's agent, if one runs; the next lab starts another. For the end of a test session."""
    with _shared_lock:
        if _shared is not None:
            _shared.close()
