"""Running code in a host: sockets, functions, programs, and the calling thread itself."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from netns_fixtures import CommandFailed, Host, Lab

PATIENCE = 5.0


class OwnError(Exception):
    """An exception type of the test module."""


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("hosts") as lab:
        yield lab


@pytest.fixture
def host(net: Lab) -> Host:
    return net.host("laptop", uplink=net.router("home"))


def interfaces() -> set[str]:
    return {name for _index, name in socket.if_nameindex()}


def test_socket_lives_in_the_host_and_works_here(net: Lab, host: Host) -> None:
    """Bound to an address that only the host has, used by the test's own thread; the test stays where it is."""
    before = interfaces()
    net.build()
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
        inside.bind((host.ip, 0))
        inside.settimeout(PATIENCE)
        inside.sendto(b"x", inside.getsockname())
        assert inside.recv(10) == b"x"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside, pytest.raises(OSError) as caught:  # noqa: PT011
        outside.bind((host.ip, 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert interfaces() == before


@pytest.mark.parametrize(
    ("family", "kind", "proto"),
    [
        (socket.AF_INET6, socket.SOCK_STREAM, 0),
        (socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE),
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        (socket.AF_PACKET, socket.SOCK_RAW, 0),
    ],
    ids=["tcp6", "netlink", "raw-icmp", "ping", "packet"],
)
def test_all_families_of_sockets_open(host: Host, family: int, kind: int, proto: int) -> None:
    """Also those that need rights which only the agent has."""
    with host.socket(family, kind, proto) as sock:
        assert (sock.family, sock.type) == (family, kind)
        assert sock.proto == proto or not proto


def test_impossible_socket_raises_as_the_kernel_does(host: Host) -> None:
    """An OSError, and the agent lives on."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        host.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP)
    assert caught.value.errno == errno.EPROTONOSUPPORT
    with host.socket(socket.AF_INET, socket.SOCK_STREAM):
        pass


async def test_sockets_of_two_hosts_serve_one_event_loop(net: Lab, host: Host) -> None:
    """asyncio drives both ends of a TCP connection between two hosts."""
    server = net.host("server", uplink=net.router("centre"))
    loop = asyncio.get_running_loop()
    listening = server.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setblocking(False)
    listening.bind((server.ip, 0))
    listening.listen()
    client = host.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(False)
    with listening, client:
        await asyncio.wait_for(loop.sock_connect(client, listening.getsockname()), PATIENCE)
        accepted, address = await asyncio.wait_for(loop.sock_accept(listening), PATIENCE)
        with accepted:
            assert address[0] == host.ip
            await loop.sock_sendall(client, b"hello")
            assert await asyncio.wait_for(loop.sock_recv(accepted, 10), PATIENCE) == b"hello"


def test_function_runs_in_the_host_with_closure_and_result(host: Host) -> None:
    """A closure travels, its result comes back, and it saw the host's network as the same user."""
    offset = 40

    def look(number: int, *, sign: int) -> tuple[int, set[str], int]:
        return sign * (number + offset), interfaces(), os.getuid()

    assert host.run(look, 2, sign=-1) == (-42, {"lo", "eth0"}, os.getuid())


def test_coroutine_function_is_awaited(host: Host) -> None:
    """run() takes async functions, too."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert host.run(answer) == 42


def test_exception_comes_back_as_itself_with_the_remote_traceback(host: Host) -> None:
    """The very class of the test module; the note says where in the host it came from."""

    def fail() -> None:
        raise OwnError("no luck")

    with pytest.raises(OwnError, match="no luck") as caught:
        host.run(fail)
    assert "in laptop" in caught.value.__notes__[0]
    assert "raise OwnError" in caught.value.__notes__[0]


def test_function_that_takes_too_long_is_killed(host: Host) -> None:
    """TimeoutError quotes what it wrote, and nothing of it goes on."""

    def hang() -> None:
        print("about to hang", os.getpid(), flush=True)
        signal.pause()

    with pytest.raises(TimeoutError, match="about to hang"):
        host.run(hang, timeout=0.5)


def test_function_whose_process_dies_is_one_clear_error(host: Host) -> None:
    """CommandFailed with the signal."""
    with pytest.raises(CommandFailed) as caught:
        host.run(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert caught.value.returncode == -signal.SIGKILL
    assert caught.value.node == "laptop"


def test_large_arguments_and_results_travel(host: Host) -> None:
    """Megabytes each way."""
    data = os.urandom(5_000_000)
    assert host.run(lambda blob: blob[::-1], data) == data[::-1]


def test_program_output_is_captured_and_logged(host: Host) -> None:
    """stdout and stderr in order, per process and in the host's log, complete at the end."""
    first = host.popen(["sh", "-c", "echo one; echo two >&2; exit 3"])
    assert first.wait(PATIENCE) == 3
    assert (first.returncode, first.poll()) == (3, 3)
    assert first.output == first.stdout == "one\ntwo\n"
    assert host.popen(["echo", "three"]).check(PATIENCE) == "three\n"
    assert host.log == "one\ntwo\nthree\n"
    with pytest.raises(CommandFailed, match="two"):
        first.check()


def test_large_output_of_many_programs_is_complete(host: Host) -> None:
    """Nothing is lost at the end of a process."""
    running = [host.popen(["seq", "1", "20000"]) for _ in range(4)]
    expected = "".join(f"{n}\n" for n in range(1, 20001))
    assert all(process.check(PATIENCE) == expected for process in running)


def test_waiting_for_output_matches_a_line(host: Host) -> None:
    """wait_for_output gives the match; a process that ends without it fails at once, a silent one in time."""
    process = host.popen(["sh", "-c", "echo port=7777; read line"], stdin=subprocess.PIPE)
    assert process.wait_for_output(r"^port=(\d+)$", PATIENCE)[1] == "7777"
    with pytest.raises(TimeoutError, match="port=7777"):
        process.wait_for_output("never", 0.05)
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    with pytest.raises(CommandFailed, match="never wrote 'never'"):
        process.wait_for_output("never", PATIENCE)


def test_signals_reach_the_process(host: Host) -> None:
    """terminate and kill end it with their signal; afterwards they do nothing."""
    for verb, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        process = host.popen(["sleep", "1000"])
        os.kill(process.pid, 0)
        getattr(process, verb)()
        assert process.wait(PATIENCE) == -number
        getattr(process, verb)()


def test_program_that_does_not_exist_is_one_clear_error(host: Host) -> None:
    """CommandFailed names it; so does a directory that does not exist."""
    with pytest.raises(CommandFailed, match="no-such-program"):
        host.popen(["no-such-program"])
    with pytest.raises(CommandFailed, match="no-such-dir"):
        host.popen(["true"], cwd="/no-such-dir")
    with pytest.raises(TypeError, match="a list"):
        host.popen("ls -l")


def test_program_gets_environment_directory_and_input(host: Host, tmp_path: os.PathLike[str]) -> None:
    """env and cwd default to the caller's; stdin may be a file."""
    command = ["sh", "-c", "echo $MARK; pwd; cat"]
    source = os.path.join(tmp_path, "input")
    with open(source, "w") as file:
        file.write("from a file")
    with open(source) as file:
        process = host.popen(command, env={**os.environ, "MARK": "here"}, cwd=tmp_path, stdin=file)
        assert process.check(PATIENCE) == f"here\n{tmp_path}\nfrom a file"
    assert host.popen(["pwd"]).check(PATIENCE).strip() == os.getcwd()


def test_process_sees_itself_in_proc(host: Host) -> None:
    """/proc is the one of its own process numbers (psutil and others look there)."""
    assert host.run(lambda: os.readlink("/proc/self") == str(os.getpid()))


def test_no_descriptor_of_ours_leaks_into_a_program(host: Host) -> None:
    """It has its three and nothing of the agent or the test."""
    listed = host.popen(["ls", "/proc/self/fd"]).check(PATIENCE).split()
    assert listed == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may move its own threads (host.run needs no rights)")
def test_thread_enters_and_comes_back(host: Host) -> None:
    """Inside of enter() this thread is in the host, others are not."""
    before = interfaces()
    seen_by_other: list[set[str]] = []
    entered = threading.Event()

    def look() -> None:
        entered.wait(PATIENCE)
        seen_by_other.append(interfaces())

    # Started before: a thread that is started inside begins in the namespace of the thread that starts it.
    other = threading.Thread(target=look)
    other.start()
    with host.enter():
        assert interfaces() == {"lo", "eth0"}
        entered.set()
        other.join()
    assert interfaces() == before
    assert seen_by_other == [before]


def test_processes_end_with_their_lab(net: Lab, host: Host) -> None:
    """Daemons of daemons, too."""
    script = "setsid sh -c 'echo daemon $$; exec sleep 1000' & wait"
    process = host.popen(["sh", "-c", script])
    process.wait_for_output("daemon", PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while not (daemons := _processes_running("sleep 1000")):  # it says so just before it becomes `sleep`
        assert time.monotonic() < deadline
    net.close()
    assert not _processes_running("sleep 1000") & daemons
    assert process.wait(PATIENCE) == -signal.SIGKILL


def test_resolve_knows_nodes_and_literals(net: Lab, host: Host) -> None:
    """Names of hosts and routers, and addresses as they are."""
    assert host.resolve("laptop") == [host.ip, host.ip6]
    assert host.resolve("home")[0] == net.routers["home"].ip
    assert host.resolve("2001:DB8::1") == ["2001:db8::1"]
    with pytest.raises(socket.gaierror, match="nowhere"):
        host.resolve("nowhere")


def _processes_running(command: str) -> set[int]:
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if file.read().replace(b"\0", b" ").strip() == command.encode():
                    found.add(int(name))
        except OSError:
            continue  # it ended while we looked
    return found
