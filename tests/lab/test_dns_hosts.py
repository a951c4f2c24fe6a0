"""Programs in hosts resolve through the lab's name server, by files that only they see."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures import CommandFailed, Lab

PATIENCE = 30.0
FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")

PYTHON = "import socket; print(sorted({a[4][0] for a in socket.getaddrinfo('server.lab', 80)}))"
NODE = (
    "require('dns').lookup('server.lab', {all: true}, (e, all) => console.log(e || all.map(a => a.address)))"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(name="programs") as lab:
        lab.host("laptop", uplink=lab.router("home", nat="moderate"))
        lab.host("server", uplink=lab.router("centre"))
        yield lab


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here; install it to test with it")
    return found


@pytest.mark.parametrize(("name", "script"), [("python3", ["-c", PYTHON]), ("node", ["-e", NODE])])
def test_program_resolves_by_the_lab(lab: Lab, name: str, script: list[str]) -> None:
    """Python by glibc, Node.js by its threads: the addresses of the node."""
    laptop, server = lab.hosts["laptop"], lab.hosts["server"]
    output = laptop.popen([program(name), *script]).check(PATIENCE)
    assert server.ip in output
    assert str(server.ip6) in output


def test_curl_fetches_by_name(lab: Lab) -> None:
    """The bare name, through the search domain."""
    curl = program("curl")
    web = lab.hosts["server"].popen([sys.executable, "-u", "-m", "http.server", "8000", "--bind", "0.0.0.0"])
    try:
        web.wait_for_output("Serving", PATIENCE)
        curled = lab.hosts["laptop"].popen(
            [curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://server:8000/"]
        )
        assert curled.check(PATIENCE) == "200"
    finally:
        web.kill_and_wait()


def test_curl_reaches_an_ipv4_host_from_an_ipv6_network_by_name() -> None:
    """DNS64 and NAT64 of one router fit together: the phone has no IPv4, the server no IPv6."""
    curl = program("curl")
    with Lab(name="six") as lab:
        phone = lab.host("phone", uplink=lab.router("mobile", nat="moderate", family="v6", nat64=True))
        server = lab.host("server", uplink=lab.router("centre", ipv6=False))
        web = server.popen([sys.executable, "-u", "-m", "http.server", "8000", "--bind", "0.0.0.0"])
        web.wait_for_output("Serving", PATIENCE)
        seen = phone.popen([curl, "-sS", "-o", "/dev/null", "-w", "%{remote_ip}", "http://server:8000/"])
        assert lab.routers["mobile"].nat64 is not None
        assert seen.check(PATIENCE) == lab.routers["mobile"].nat64.address(server.ip)


def test_function_resolves_by_the_lab(lab: Lab) -> None:
    """``host.run``, also in a router; names that were set; and back from an address."""
    server = lab.hosts["server"]
    lab.dns.set("set.example", "A", "198.18.7.7")
    for node in (lab.hosts["laptop"], lab.routers["home"]):
        assert node.run(socket.gethostbyname, "set.example", timeout=PATIENCE) == "198.18.7.7"
    assert lab.hosts["laptop"].run(socket.gethostbyaddr, server.ip, timeout=PATIENCE)[0] == "server.lab"


def test_program_learns_of_a_failure_and_of_its_end(lab: Lab) -> None:
    """SERVFAIL is "try again", and trying again helps."""
    laptop = lab.hosts["laptop"]
    lab.dns.fail("server.lab", "servfail")
    with pytest.raises(socket.gaierror) as caught:
        laptop.run(socket.gethostbyname, "server.lab.", timeout=PATIENCE)
    assert caught.value.errno == socket.EAI_AGAIN
    lab.dns.heal()
    assert laptop.run(socket.gethostbyname, "server.lab.", timeout=PATIENCE) == lab.hosts["server"].ip


def test_program_knows_itself_and_localhost_without_asking(lab: Lab) -> None:
    """By /etc/hosts, also while the name server is dead."""
    lab.dns.fail("*", "timeout")
    try:
        own = lab.hosts["laptop"].run(lambda: socket.gethostbyname(socket.gethostname()), timeout=PATIENCE)
        assert own.startswith("127.")
        assert lab.hosts["laptop"].run(socket.gethostbyname, "localhost", timeout=PATIENCE) == "127.0.0.1"
    finally:
        lab.dns.heal()


def test_machine_keeps_its_own_files(lab: Lab) -> None:
    """The test process and everybody else see what they saw; a host's process sees the lab's."""
    before = [Path(path).read_text() for path in FILES if os.path.exists(path)]
    seen = lab.hosts["laptop"].popen(["cat", "/etc/resolv.conf"]).check(PATIENCE)
    assert f"nameserver {lab.dns.ip}\n" in seen
    assert "search lab\n" in seen
    assert [Path(path).read_text() for path in FILES if os.path.exists(path)] == before


def test_file_that_the_machine_lacks_is_there_for_the_program(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /etc/resolv.conf may be missing in a container; nothing appears on the machine's disk."""
    laptop = lab.hosts["laptop"]
    files = (("/etc/not-there-for-tests", "hello"), *laptop.lab.dns.files(laptop))
    monkeypatch.setattr(type(lab.dns), "files", lambda _dns, _node: files)
    try:
        shown = laptop.popen(["cat", "/etc/not-there-for-tests", "/etc/resolv.conf"]).check(PATIENCE)
    except CommandFailed as failure:
        pytest.skip(
            f"no overlay file systems for us here ({failure}); they are only needed for missing files"
        )
    assert shown.startswith("hello")
    assert lab.dns.ip in shown
    assert not os.path.exists("/etc/not-there-for-tests")


def test_file_that_cannot_be_put_there_is_an_error_with_its_reason(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not a program that silently asks the machine's name server."""
    monkeypatch.setattr(type(lab.dns), "files", lambda _dns, _node: (("/no/such/directory/file", ""),))
    laptop = lab.hosts["laptop"]
    with pytest.raises(CommandFailed, match=r"resolv\.conf"):
        laptop.popen(["true"])
    with pytest.raises(CommandFailed, match=r"resolv\.conf"):
        laptop.run(os.getpid)


KILLED = """
    import os, time
    from netns_fixtures import Lab
    lab = Lab(name="killed")
    laptop = lab.host("laptop", uplink=lab.router("home"))
    sleeping = laptop.popen(["sh", "-c", "cat /etc/resolv.conf; exec sleep 1000"])
    sleeping.wait_for_output("nameserver")
    print(sleeping.pid, flush=True)
    time.sleep(1000)
"""


def test_nothing_is_left_after_a_kill(tmp_path: Path) -> None:
    """The process with the files is gone, and they with it; temporary directories are as they were."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        pidfd = os.pidfd_open(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    gone = poll.poll(PATIENCE * 1000)
    os.close(pidfd)
    assert gone
    assert os.listdir(tmp_path) == []
