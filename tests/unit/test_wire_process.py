"""netns_fixtures.wire: the process and its client, with socket pairs in place of TAPs (no rights needed)."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from wire_frames import arp, ipv4, number_of

from netns_fixtures import errors
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.client import WireProcess

CLEAR = LinkCondition()
DEADLINE = 5.0


@dataclass(frozen=True)
class Cable:
    """Two sockets that play the hosts, and the descriptors that play their TAPs."""

    a: socket.socket
    b: socket.socket
    tap_a: socket.socket
    tap_b: socket.socket

    @classmethod
    def open(cls) -> Cable:
        a, tap_a = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        b, tap_b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        a.settimeout(DEADLINE)
        b.settimeout(DEADLINE)
        return cls(a, b, tap_a, tap_b)

    def plug_into(
        self, wire: WireProcess, number: int, forward: LinkCondition, backward: LinkCondition = CLEAR
    ) -> None:
        """Hand the TAPs over, as a lab does that keeps no copies."""
        wire.add_link(number, self.tap_a.fileno(), self.tap_b.fileno(), forward, backward, seed=7)
        self.tap_a.close()
        self.tap_b.close()

    def close(self) -> None:
        for end in (self.a, self.b, self.tap_a, self.tap_b):
            end.close()


@pytest.fixture(scope="module")
def shared_wire() -> Iterator[WireProcess]:
    """One process for the tests that leave it alive: starting costs 0.1 s."""
    wire = WireProcess.spawn()
    yield wire
    wire.close()


@pytest.fixture
def wire() -> Iterator[WireProcess]:
    """A process of the test's own, to be killed."""
    wire = WireProcess.spawn()
    yield wire
    wire.close()


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A cable that no wire has yet."""
    cable = Cable.open()
    yield cable
    cable.close()


def send(sender: socket.socket, count: int) -> None:
    """Send numbered frames; small ones, so that a socket pair holds them all."""
    for number in range(count):
        sender.send(ipv4(number, size=60))


def receive(receiver: socket.socket, count: int) -> list[int]:
    """The numbers of the next frames."""
    return [number_of(receiver.recv(2048)) for _ in range(count)]


def wait_frames(wire: WireProcess, number: int, count: int) -> dict[str, int]:
    """The forward counters once that many frames have come in."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        counters: dict[str, int] = wire.stats(number)["forward"]
        if counters["frames"] + counters["cut"] >= count:
            return counters
    raise AssertionError(f"the wire did not see {count} frames: {counters}")


def test_clear_link_carries_frames_both_ways(shared_wire: WireProcess, cable: Cable) -> None:
    """Frames cross unchanged, and each direction counts its own."""
    cable.plug_into(shared_wire, 1, CLEAR)

    send(cable.a, 100)
    assert receive(cable.b, 100) == list(range(100))
    cable.b.send(ipv4(5))
    assert cable.a.recv(2048) == ipv4(5)

    stats = shared_wire.stats(1)
    assert stats["forward"]["frames"] == stats["forward"]["delivered"] == 100
    assert stats["forward"]["bytes"] == 6000
    assert stats["backward"]["delivered"] == 1
    assert stats["connected"] is True
    shared_wire.remove_link(1)


def test_delay_holds_each_frame_for_that_time_in_that_direction(
    shared_wire: WireProcess, cable: Cable
) -> None:
    """Forward is slow, backward is not."""
    cable.plug_into(shared_wire, 2, LinkCondition(delay=0.05))

    for sender, receiver, least in ((cable.a, cable.b, 0.0499), (cable.b, cable.a, 0.0)):
        sent = time.monotonic()
        sender.send(ipv4(1))
        receiver.recv(2048)
        assert least <= time.monotonic() - sent < least + 0.045
    shared_wire.remove_link(2)


def test_same_seed_loses_the_same_frames(shared_wire: WireProcess) -> None:
    """Two links with one seed treat the same frames alike."""
    survivors = []
    for number in (3, 4):
        cable = Cable.open()
        cable.plug_into(shared_wire, number, LinkCondition(loss=0.5, burst=2))
        send(cable.a, 100)
        counters = wait_frames(shared_wire, number, 100)
        survivors.append(receive(cable.b, 100 - counters["lost"]))
        shared_wire.remove_link(number)
        cable.close()

    assert survivors[0] == survivors[1]
    assert 20 < len(survivors[0]) < 80


def test_condition_changes_while_running_and_one_direction_may_stay(
    shared_wire: WireProcess, cable: Cable
) -> None:
    """None leaves a direction as it is; the other one changes at once."""
    cable.plug_into(shared_wire, 5, CLEAR, LinkCondition(loss=1))

    shared_wire.set_condition(5, LinkCondition(loss=1), None)
    send(cable.a, 10)
    send(cable.b, 10)
    assert wait_frames(shared_wire, 5, 10)["lost"] == 10
    assert shared_wire.stats(5)["backward"]["lost"] == 10

    shared_wire.set_condition(5, CLEAR, None)
    send(cable.a, 3)
    assert receive(cable.b, 3) == [0, 1, 2]
    shared_wire.remove_link(5)


def test_cut_link_swallows_everything_until_joined_again(shared_wire: WireProcess, cable: Cable) -> None:
    """A cut takes ARP and frames under way too, and the link works again afterwards."""
    cable.plug_into(shared_wire, 6, LinkCondition(delay=10))
    send(cable.a, 4)
    wait_frames(shared_wire, 6, 4)

    shared_wire.set_connected(6, False)
    cable.a.send(arp())
    assert wait_frames(shared_wire, 6, 4 + 5)["cut"] == 5
    assert shared_wire.stats(6)["connected"] is False

    shared_wire.set_connected(6, True)
    shared_wire.set_condition(6, CLEAR, CLEAR)
    cable.a.send(arp())
    assert cable.b.recv(2048) == arp()
    shared_wire.remove_link(6)


def test_removed_link_closes_both_ends(shared_wire: WireProcess, cable: Cable) -> None:
    """The process holds no copy of a descriptor whose link is gone, and the number is free again."""
    cable.plug_into(shared_wire, 7, LinkCondition(delay=10))
    send(cable.a, 1)
    wait_frames(shared_wire, 7, 1)

    shared_wire.remove_link(7)

    assert cable.a.recv(1) == cable.b.recv(1) == b""
    with pytest.raises(LinkEngineError, match="no link 7"):
        shared_wire.stats(7)


def test_end_that_vanishes_harms_nobody(shared_wire: WireProcess, cable: Cable) -> None:
    """A device deleted under the wire stops its own link; frames to it are counted, others go on."""
    cable.plug_into(shared_wire, 8, CLEAR)
    other = Cable.open()
    other.plug_into(shared_wire, 9, CLEAR)

    cable.b.close()
    send(cable.a, 5)
    assert wait_frames(shared_wire, 8, 5)["write_failed"] == 5

    send(other.a, 5)
    assert receive(other.b, 5) == [0, 1, 2, 3, 4]
    busy = cpu_time(shared_wire.pid)
    for _ in range(50):
        shared_wire.stats(9)
    assert cpu_time(shared_wire.pid) - busy < 0.5  # it does not spin on the dead end
    for number in (8, 9):
        shared_wire.remove_link(number)
    other.close()


def cpu_time(pid: int) -> float:
    """Seconds of processor time that the process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_link_number_in_use_is_refused(shared_wire: WireProcess, cable: Cable) -> None:
    """Two links with one number are a mistake of the lab, and the first one goes on."""
    cable.plug_into(shared_wire, 10, CLEAR)
    with pytest.raises(LinkEngineError, match="has a link 10 already"):
        shared_wire.add_link(10, cable.a.fileno(), cable.b.fileno(), CLEAR, CLEAR, seed=1)

    send(cable.a, 1)
    assert receive(cable.b, 1) == [0]
    shared_wire.remove_link(10)


def test_descriptor_that_cannot_be_waited_on_is_refused(shared_wire: WireProcess) -> None:
    """A regular file is no device; the refused copies of the descriptors are closed again."""
    before = open_descriptors(shared_wire)
    with tempfile.TemporaryFile() as file, pytest.raises(LinkEngineError, match="not a device to wait on"):
        shared_wire.add_link(11, file.fileno(), file.fileno(), CLEAR, CLEAR, seed=1)

    assert shared_wire.alive
    assert open_descriptors(shared_wire) == before


def open_descriptors(wire: WireProcess) -> list[str]:
    """The numbers of the descriptors that the process has open, once it serves."""
    with pytest.raises(LinkEngineError):
        wire.stats(404)
    return sorted(os.listdir(f"/proc/{wire.pid}/fd"))


def test_links_come_and_go_without_leaking_descriptors(shared_wire: WireProcess) -> None:
    """A hundred links later, the process has as many descriptors open as before."""
    before = open_descriptors(shared_wire)
    for _ in range(100):
        cable = Cable.open()
        cable.plug_into(shared_wire, 12, CLEAR)
        shared_wire.remove_link(12)
        cable.close()

    assert open_descriptors(shared_wire) == before


def test_killed_process_is_a_clear_error(wire: WireProcess, cable: Cable) -> None:
    """A wire that died says so on the next verb, with its status, and closing it is fine."""
    cable.plug_into(wire, 1, CLEAR)

    os.kill(wire.pid, signal.SIGKILL)

    with pytest.raises(LinkEngineError, match=r"the wire process died \(status -9\)"):
        wire.stats(1)
    assert not wire.alive


def test_crashed_process_tells_its_last_words(wire: WireProcess) -> None:
    """Whatever a dying wire wrote stands in the error."""
    os.kill(wire.pid, signal.SIGSTOP)
    with open(f"/proc/{wire.pid}/fd/2", "w") as stderr:
        stderr.write("something broke")
    os.kill(wire.pid, signal.SIGKILL)

    with pytest.raises(LinkEngineError, match="something broke"):
        wire.stats(1)


def test_closed_wire_is_gone_with_its_links(wire: WireProcess, cable: Cable) -> None:
    """close() ends the process at once, twice does no harm, and verbs are refused."""
    cable.plug_into(wire, 1, CLEAR)
    pid = wire.pid

    wire.close()
    wire.close()

    assert cable.a.recv(1) == b""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(LinkEngineError, match="closed"):
        wire.stats(1)


def test_wire_dies_with_its_parent() -> None:
    """kill -9 on the lab takes the wire along."""
    code = (
        "import os, time\n"
        "from netns_fixtures.errors import LinkEngineError\n"
        "from netns_fixtures.wire.client import WireProcess\n"
        "wire = WireProcess.spawn()\n"
        "try: wire.stats(1)\n"
        "except LinkEngineError: pass\n"  # it serves, so it has told the kernel whose child it is
        "print(wire.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=child_environment())
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.kill()
        parent.wait()

    try:
        assert select.select([descriptor], [], [], DEADLINE)[0], "the wire outlived its parent"
    finally:
        os.close(descriptor)


def child_environment() -> dict[str, str]:
    """The environment of a child that imports the same package as we do."""
    return {**os.environ, "PYTHONPATH": str(Path(errors.__file__).parent.parent)}
