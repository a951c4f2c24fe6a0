"""One run of a scenario: the lab, its programs and its timeline, until the program that counts has ended."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from netns_fixtures.cli.evidence import EvidenceFiles
from netns_fixtures.cli.main import SIGNALLED
from netns_fixtures.cli.showing import Show
from netns_fixtures.cli.terminal import attach, on_terminal
from netns_fixtures.errors import LabError, TimelineError, TopologyError
from netns_fixtures.lab import Lab
from netns_fixtures.node import Node
from netns_fixtures.playing import Playing
from netns_fixtures.process import HostProcess
from netns_fixtures.scenario import Scenario
from netns_fixtures.stdio import start

#: Seconds that programs have to end by themselves before they are killed.
GRACE = 3.0

#: A program or the timeline that ended, or the number of a signal that came.
_News = HostProcess | Playing | int


class Session:
    """Runs a scenario. Use with ``with``; everything ends with the block, and evidence is saved."""

    def __init__(
        self,
        scenario: Scenario,
        show: Show,
        evidence: Path | None,
        seed: int | None = None,
        link_engine: str | None = None,
    ) -> None:
        self._scenario = scenario
        self._show = show
        self.lab: Lab = scenario.lab(seed=seed, link_engine=link_engine)
        self._evidence = EvidenceFiles(self.lab, evidence) if evidence is not None else None
        self._programs: list[HostProcess] = []
        self._followers: list[threading.Thread] = []
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()

    def __enter__(self) -> Session:
        self.lab.on_event(self._show.event)
        try:
            self._scenario.set_up(self.lab)
            self._scenario.start(self.lab)
        except BaseException:
            with contextlib.suppress(LabError):  # of a lab that is closed already; why is what counts
                self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._end()

    def node(self, name: str | None) -> Node:
        """A host or router; the first host where None. Raises TopologyError naming those that exist."""
        nodes: dict[str, Any] = {**self.lab.hosts, **self.lab.routers}
        if not nodes:
            raise TopologyError("this scenario has no host to run a program in")
        if name is not None and name not in nodes:
            raise TopologyError(f"no host named {name!r}; there are {', '.join(nodes)}")
        found: Node = nodes[name] if name is not None else next(iter(nodes.values()))
        return found

    def play(
        self, front: tuple[str | None, Sequence[str]] | None, beside: Sequence[tuple[str, list[str]]]
    ) -> int:
        """Do the timeline, and run programs meanwhile; returns the exit status of the one that counts.

        ``front``: a host and a program on our terminal, or our input and output; when it ends, all ends. Without
        it the programs ``beside`` count, whose output is shown line by line: the first that failed. Without any
        program it is 0, when the timeline is over. Raises TimelineError, CommandFailed.
        """
        for host, argv in beside:
            self._watch(self._beside(host, argv))
        playing = self._scenario.timeline(self.lab).running().start()
        self._show.zero = playing.started
        with _signals(self._news.put):
            self._when_over(playing.finish, playing)
            try:
                program = self._in_front(self.node(front[0]), front[1]) if front is not None else None
                return self._until_the_end(program, playing)
            finally:
                playing.cancel()

    def _until_the_end(self, front: HostProcess | None, playing: Playing) -> int:
        interrupted = 0
        counting = [front] if front is not None else list(self._programs)
        while any(program.poll() is None for program in counting) or not (counting or playing.over):
            news = self._news.get()
            if isinstance(news, Playing):
                news.finish()  # raises what went wrong in it
            elif isinstance(news, int):
                self._signal(signal.SIGKILL if interrupted else news)
                interrupted = news
                playing.cancel()
        if playing.over and not interrupted:
            with (
                contextlib.suppress(TimelineError) if front and front.returncode else contextlib.nullcontext()
            ):
                playing.finish()
        failed = [program.returncode for program in counting if program.returncode]
        if interrupted and not failed:
            return SIGNALLED + interrupted
        return _status(failed[0] or 0) if failed else 0

    def _beside(self, host: str, argv: Sequence[str]) -> HostProcess:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            program = start(self.node(host), argv, (null, write_end, write_end))
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(null)
            os.close(write_end)
        stream = open(read_end, "rb")  # noqa: SIM115 - the thread that reads closes it
        self._followers.append(self._show.follow(host, stream))
        return program

    def _in_front(self, node: Node, argv: Sequence[str]) -> HostProcess:
        if self._show.as_json:
            return self._watch(self._beside(node.name, argv))
        if not on_terminal():
            fds = (sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno())
            return self._watch(start(node, argv, fds))
        started: list[HostProcess] = []

        def begin(terminal: int) -> int:
            program = start(node, argv, (terminal,) * 3, terminal=True)
            started.append(self._watch(program))
            return os.pidfd_open(program.pid)

        attach(begin)
        started[0].wait()
        return started[0]

    def _watch(self, program: HostProcess) -> HostProcess:
        self._programs.append(program)
        self._when_over(program.wait, program)
        return program

    def _when_over(self, wait: Callable[[], object], what: HostProcess | Playing) -> None:
        def tell() -> None:
            with contextlib.suppress(TimelineError):  # whoever gets the news asks again
                wait()
            self._news.put(what)

        threading.Thread(target=tell, name="netns-lab-waiting", daemon=True).start()

    def _signal(self, number: int) -> None:
        for program in self._programs:
            program.send_signal(number)

    def _end(self) -> None:
        try:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            for program in self._programs:
                with contextlib.suppress(TimeoutError):  # the end of the lab kills it
                    program.wait(max(0.0, deadline - time.monotonic()))
            if self._evidence is not None:
                self._evidence.save(self._scenario)
        finally:
            self.lab.close()
        for thread in self._followers:
            thread.join(GRACE)


@contextlib.contextmanager
def _signals(tell: Callable[[int], None]) -> Iterator[None]:
    """Signals that want us to end are passed on to the programs, which decide what they do."""

    def handle(number: int, _frame: FrameType | None) -> None:
        tell(number)

    before = {
        number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(returncode: int) -> int:
    """The exit status as a shell shows it: that of a program that was killed is 128 and the signal."""
    return returncode if returncode >= 0 else SIGNALLED - returncode
