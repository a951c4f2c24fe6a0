"""Nothing is left behind, whoever is killed: the test process, the agent, or neither."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from netns_fixtures import AgentDied, Host, Lab, LabError
from netns_fixtures.client import Agent

PATIENCE = 10.0

#: Runs in a process of its own: a lab with a wire, a program, and a daemon that left its session.
SCRIPT = """
    import os, signal, sys
    from netns_fixtures import Lab
    from netns_fixtures.client import shared_agent

    lab = Lab()
    router = lab.router("home", nat="moderate", delay=0.001)
    host = lab.host("laptop", uplink=router)
    process = host.popen(["sh", "-c", "(setsid setsid sh -c 'echo ready; exec sleep 999') & sleep 999"])
    process.wait_for_output("ready", 10)
    print(shared_agent().pid, flush=True)
    sys.stdin.readline()
    ENDING
"""


class Victim:
    """That process, its agent, and everything below them."""

    def __init__(self, ending: str) -> None:
        script = textwrap.dedent(SCRIPT).replace("ENDING", ending)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        self.agent = int(words[0])
        self.family = {pid: os.pidfd_open(pid) for pid in descendants(self.process.pid)}

    def go_on(self) -> None:
        """Let the script come to its ending."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_all_gone(self) -> None:
        """Every process that was there has ended. Raises AssertionError naming those that have not."""
        for pid, fd in self.family.items():
            assert select.select([fd], [], [], PATIENCE)[0], f"{command(pid)} is still there"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        for fd in self.family.values():
            os.close(fd)


def descendants(root: int) -> list[int]:
    """All processes below one, itself excluded."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
    found, new = [], [root]
    while new:
        new = [pid for pid, parent in parents.items() if parent in new]
        found += new
    return found


def command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return f"{pid} {file.read()!r}"
    except OSError:
        return str(pid)


@pytest.fixture
def victim() -> Iterator[Callable[[str], Victim]]:
    victims: list[Victim] = []

    def start(ending: str) -> Victim:
        victims.append(Victim(ending))
        return victims[-1]

    yield start
    for one in victims:
        one.close()


WAIT = "sys.stdin.readline()"


def test_killed_test_process_takes_everything_along(victim: Callable[[str], Victim]) -> None:
    """kill -9 of the test process: agent, wire, init, programs and daemons are gone."""
    one = victim(WAIT)
    assert len(one.family) >= 7
    one.process.kill()
    one.wait_all_gone()


def test_killed_agent_takes_everything_below_along(victim: Callable[[str], Victim]) -> None:
    """kill -9 of the agent: wire, init, programs and daemons are gone; the test process lives."""
    one = victim(WAIT)
    os.kill(one.agent, signal.SIGKILL)
    one.wait_all_gone()
    assert one.process.poll() is None


@pytest.mark.parametrize(
    "ending",
    ["lab.close()", "raise SystemExit(3)", "raise ValueError", "os._exit(0)"],
    ids=["close", "exit", "error", "abrupt"],
)
def test_ended_test_process_leaves_nothing(victim: Callable[[str], Victim], ending: str) -> None:
    """A normal end, an exit, an exception, an end without any clean-up."""
    one = victim(ending)
    one.go_on()
    one.wait_all_gone()


def test_forked_child_that_lives_on_does_not_keep_the_agent(victim: Callable[[str], Victim]) -> None:
    """multiprocessing's fork copies the socket to the agent; the agent watches the process itself."""
    one = victim("pid = os.fork() or signal.pause(); print(pid, flush=True); sys.stdin.readline()")
    one.go_on()
    assert one.process.stdout is not None
    child = int(one.process.stdout.readline())
    try:
        one.process.kill()
        one.wait_all_gone()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def doomed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """An agent for this test alone, so that killing it harms no other test."""
    agent = Agent.start()
    monkeypatch.setattr("netns_fixtures.running_lab.shared_agent", lambda: agent)
    yield agent
    agent.close()


def build(lab: Lab) -> Host:
    host = lab.host("laptop", uplink=lab.router("home"))
    lab.build()
    return host


def test_verbs_after_the_agents_death_say_so(doomed: Agent) -> None:
    """Each later verb is AgentDied, with one clear sentence; closing the lab is fine."""
    lab = Lab()
    host = build(lab)
    running = host.popen(["sleep", "999"])
    os.kill(doomed.pid, signal.SIGKILL)
    for verb in (host.link.down, host.renumber, lambda: host.popen(["true"]), lambda: host.socket(2, 2)):
        with pytest.raises(
            AgentDied, match=rf"agent \(pid {doomed.pid}\) died with status -9.*make a new Lab"
        ):
            verb()
    assert running.wait(PATIENCE) == -signal.SIGKILL
    lab.close()


def test_new_lab_after_the_agents_death_works() -> None:
    """The next lab starts an agent of its own."""
    with Lab() as first:
        build(first)
    from netns_fixtures.client import shared_agent

    agent = shared_agent()
    os.kill(agent.pid, signal.SIGKILL)
    select.select([os.pidfd_open(agent.pid)], [], [], PATIENCE)
    with pytest.raises(AgentDied):
        agent.request(None)  # type: ignore[arg-type]
    with Lab() as second:
        assert build(second).run(lambda: 42) == 42


def test_forked_child_cannot_use_its_parents_lab() -> None:
    """One clear error instead of two processes talking into one socket."""
    with Lab() as lab:
        host = build(lab)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                host.link.down()
            except LabError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with open(read) as pipe:
            assert "belongs to the process that made it" in pipe.read()
        os.waitpid(pid, 0)
        host.link.down()


def test_failing_request_does_not_end_the_agent(doomed: Agent) -> None:
    """A request that the kernel refuses is one error; the next one works."""
    with Lab() as lab:
        host = build(lab)
        host.lab.topology.routers["home"].lan.index = 999_999  # no such interface
        with pytest.raises(LabError):
            lab.routers["home"].downlink.down()
        host.link.down()
        assert doomed.alive


def test_interrupted_request_ends_the_agent(doomed: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, or the timeout of a test, in the middle of a verb: nobody takes the late reply for another's."""

    def interrupted(channel: socket.socket) -> tuple[object, list[int]]:
        select.select([channel], [], [])  # the reply is there, and is not read
        raise KeyboardInterrupt

    with Lab() as lab:
        host = build(lab)
        with monkeypatch.context() as patch:
            patch.setattr("netns_fixtures.client.receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                host.link.down()
        assert not doomed.alive
        with pytest.raises(AgentDied, match=r"was interrupted \(KeyboardInterrupt\).*make a new Lab"):
            host.link.up()


def test_many_labs_in_a_row_leave_nothing_open(doomed: Agent) -> None:
    """Descriptors here and in the agent are as before, and no process stays."""

    def one_lab() -> None:
        with Lab() as lab:
            lab.host("laptop", uplink=lab.router("home", nat="moderate")).popen(["true"]).wait(PATIENCE)

    def opened() -> tuple[int, int]:
        gc.collect()  # what earlier tests of this process left to the collector
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{doomed.pid}/fd"))

    one_lab()
    deadline = time.monotonic() + PATIENCE
    at_once = opened()
    while opened()[1] >= at_once[1] and time.monotonic() < deadline:
        select.select([], [], [], 0.02)  # the agent gives closed labs back when idle
    ours, agents = opened()
    for _ in range(20):
        one_lab()
    deadline = time.monotonic() + PATIENCE
    while opened()[1] > agents and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    now = opened()
    assert now[0] <= ours
    assert now[1] <= agents
    assert descendants(doomed.pid) == []
