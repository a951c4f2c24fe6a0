"""Suspended hosts: processes stop, the kernel's network does not, and connections heal after the thaw."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from udp_kit import PATIENCE, close_all, udp

from netns_fixtures import Host, HostFrozen, HostProcess, Lab

#: What a Python process takes to start on a busy machine.
STARTING = 20.0
#: Longer than a heartbeat's silence, shorter than a QUIC connection's idle timeout.
SUSPENDED = 3.0

#: Starts a child in a session of its own, which starts another one; each counts in a socket of its own.
COUNTING = """
import os, socket, sys
def count(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    os.write(1, b"counting %d\\n" % port)  # in one piece: three processes share this pipe
    n = 0
    while True:
        data, source = sock.recvfrom(100)
        n += 1
        sock.sendto(b"%d" % n, source)
if os.fork():
    count(7001)
os.setsid()
count(7003 if os.fork() else 7002)
"""


def counting(host: Host) -> HostProcess:
    """Three processes of one program, of which two left their parent's session."""
    process = host.popen([sys.executable, "-c", COUNTING])
    for port in (7001, 7002, 7003):
        process.wait_for_output(rf"^counting {port}$", STARTING)
    return process


def test_frozen_processes_answer_after_the_thaw(lab: Lab) -> None:
    """All of a program's processes stand still; what came meanwhile waited in their sockets, in order."""
    router = lab.router("router")
    laptop, server = lab.host("laptop", uplink=router), lab.host("server", uplink=router)
    counting(server)
    asking = udp(laptop)
    try:
        with server.frozen():
            assert server.is_frozen
            for port in (7001, 7002, 7003):
                asking.sendto(b"?", (server.ip, port))
                asking.sendto(b"?", (server.ip, port))
            asking.settimeout(0.3)
            with pytest.raises(TimeoutError):
                asking.recv(100)
        asking.settimeout(PATIENCE)
        answers = [asking.recv(100) for _ in range(6)]
    finally:
        close_all()
    assert sorted(answers) == [b"1", b"1", b"1", b"2", b"2", b"2"]
    frozen = next(event for event in lab.events if event.kind == "frozen")
    assert frozen.text == "server frozen: 3 processes"
    assert not server.is_frozen


def test_other_hosts_of_the_lab_go_on(lab: Lab) -> None:
    """A freeze is one host's."""
    router = lab.router("router")
    laptop, server = lab.host("laptop", uplink=router), lab.host("server", uplink=router)
    counting(server)
    asking = udp(laptop)
    try:
        laptop.freeze()
        asking.sendto(b"?", (server.ip, 7001))  # a socket of the test process, which nothing freezes
        assert asking.recv(100) == b"1"
        laptop.thaw()
    finally:
        close_all()


def test_nothing_starts_in_a_frozen_host(lab: Lab) -> None:
    """A program that started would run in a suspended machine: that is refused, with what helps."""
    laptop = lab.host("laptop", uplink=lab.router("router"))
    laptop.freeze()
    with pytest.raises(HostFrozen, match=r"before laptop\.thaw\(\)"):
        laptop.popen(["true"])
    with pytest.raises(HostFrozen):
        laptop.run(lambda: None)
    laptop.thaw()
    laptop.popen(["true"]).check(STARTING)


def test_lab_with_a_frozen_host_closes() -> None:
    """Stopped processes die like others."""
    with Lab("frozen") as lab:
        laptop = lab.host("laptop", uplink=lab.router("router"))
        process = laptop.popen(["sleep", "1000"])
        laptop.freeze()
    assert process.wait(STARTING) < 0


def test_killed_while_frozen_ends_at_once(lab: Lab) -> None:
    """SIGKILL needs no thaw."""
    laptop = lab.host("laptop", uplink=lab.router("router"))
    process = laptop.popen(["sleep", "1000"])
    with laptop.frozen():
        assert process.kill_and_wait() == -9


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_connection_heals_after_a_suspend(lab: Lab, family: str) -> None:
    """An iroh-py process sleeps for three seconds: the same connection goes on, over IPv4 and over IPv6."""
    home, centre = lab.router("home", family=family), lab.router("centre", family=family)
    laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=centre)
    listener = iroh_py(server, "listen")
    ticket = listener.wait_for_output(r"^ticket +(\S+)$", STARTING)[1]
    pinging = iroh_py(laptop, "connect", "--ping", "--interval", "0.1", ticket)
    pinging.wait_for_output(r"^2: [\d.]+ ms, direct to ", STARTING)
    lab.timeline().at(0, laptop.freeze).at(SUSPENDED, laptop.thaw).run()
    last = max(map(int, re.findall(r"^(\d+): ", pinging.output, re.MULTILINE)))
    pinging.wait_for_output(rf"^{last + 5}: [\d.]+ ms, direct to ", STARTING)
    assert pinging.returncode is None
    assert "connection closed" not in listener.output


def iroh_py(host: Host, *arguments: str) -> HostProcess:
    """The command line in a host; its input is open until the lab ends."""
    return host.popen([sys.executable, "-m", "iroh_py.cli", *arguments], stdin=subprocess.PIPE)
