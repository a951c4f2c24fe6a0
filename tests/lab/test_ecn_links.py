"""ECN on lab links: real sockets send ECT, and read what arrived."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from netns_fixtures import Ecn, Host, Lab, LinkCondition, Scenario, TopologyError

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
SILENT = None
#: What must arrive has this long, on a busy machine; what does not arrive is waited for a moment.
PATIENCE, SILENCE = 5.0, 0.15
#: linux/in.h, linux/in6.h
IP_RECVTOS, IPV6_RECVTCLASS = 13, 66


class Probe:
    """A pair of UDP sockets that send and read the ECN field of one family."""

    def __init__(self, sender: Host, receiver: Host, version: int) -> None:
        self._v6 = version == 6
        family = socket.AF_INET6 if self._v6 else socket.AF_INET
        self._out = sender.socket(family, socket.SOCK_DGRAM)
        self._in = receiver.socket(family, socket.SOCK_DGRAM)
        self._in.bind(("::" if self._v6 else "0.0.0.0", 0))
        self._in.setsockopt(*self._level(IP_RECVTOS, IPV6_RECVTCLASS), 1)
        self._to = (receiver.ip6 if self._v6 else receiver.ip, self._in.getsockname()[1])

    def _level(self, v4: int, v6: int) -> tuple[int, int]:
        return (socket.IPPROTO_IPV6, v6) if self._v6 else (socket.IPPROTO_IP, v4)

    def send(self, codepoint: int) -> None:
        """One packet with that ECN field."""
        self._out.setsockopt(*self._level(socket.IP_TOS, socket.IPV6_TCLASS), codepoint)
        self._out.sendto(b"x" * 1000, self._to)

    def read(self, patience: float = PATIENCE) -> int | None:
        """The ECN field of the next packet, None where none comes."""
        self._in.settimeout(patience)
        try:
            _data, control, _flags, _from = self._in.recvmsg(2000, socket.CMSG_SPACE(4))
        except TimeoutError:
            return SILENT
        return control[0][2][0] & 0b11

    def across(self, codepoint: int, *, arrives: bool = True) -> int | None:
        """What becomes of the ECN field of a packet on its way."""
        self.send(codepoint)
        return self.read(PATIENCE if arrives else SILENCE)

    def close(self) -> None:
        """Close both."""
        self._out.close()
        self._in.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two hosts on one router."""
    with Lab(seed=7) as lab:
        home = lab.router("home")
        lab.host("laptop", uplink=home)
        lab.host("server", uplink=home)
        yield lab


@pytest.fixture(params=[4, 6])
def probe(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Probe]:
    """From the laptop to the server, in each family."""
    probe = Probe(lab.hosts["laptop"], lab.hosts["server"], request.param)
    yield probe
    probe.close()


def test_capable_packets_are_marked_and_arrive(lab: Lab, probe: Probe) -> None:
    """CE instead of a loss; a kernel that checks header checksums takes every packet."""
    assert probe.across(ECT_0) == ECT_0
    lab.hosts["laptop"].link.condition(ecn=Ecn(mark=1.0), direction="egress")
    assert [probe.across(each) for each in (NOT_ECT, ECT_1, ECT_0, CE)] == [NOT_ECT, CE, CE, CE]
    assert lab.hosts["laptop"].link.counters("egress").marked == 2
    assert lab.hosts["laptop"].link.counters("ingress").marked == 0
    assert "1 marked CE (egress)" in lab.events[-1].text


def test_broken_middleboxes_are_felt_by_sockets(lab: Lab, probe: Probe) -> None:
    """Bleaching, re-marking and the black hole, one after the other on a running link."""
    link = lab.hosts["server"].link
    link.condition(ecn="bleach")
    assert [probe.across(each) for each in (ECT_0, ECT_1, CE)] == [NOT_ECT] * 3
    link.condition(ecn="ect1-to-ect0")
    assert [probe.across(each) for each in (ECT_0, ECT_1, CE)] == [ECT_0, ECT_0, CE]
    link.condition(ecn="drop-ect")
    assert probe.across(NOT_ECT) == NOT_ECT
    assert probe.across(ECT_0, arrives=False) is SILENT
    assert link.counters("ingress").ecn_dropped == 1
    link.condition(None)
    assert probe.across(ECT_1) == ECT_1


def test_long_queue_marks_instead_of_losing(lab: Lab, probe: Probe) -> None:
    """Of a burst, packets that wait longer than the threshold are marked, and all arrive."""
    lab.hosts["laptop"].link.condition(rate=2e6, queue=1.0, ecn=Ecn(mark_above=0.020))
    for _ in range(40):  # 4 ms each
        probe.send(ECT_0)
    got = [probe.read() for _ in range(40)]
    assert got[0] == ECT_0
    assert got[-1] == CE
    assert got == sorted(got, key=lambda field: field == CE)
    assert lab.hosts["laptop"].link.counters().marked == got.count(CE)


def test_tcp_of_the_kernel_answers_marks(lab: Lab) -> None:
    """A connection negotiates ECN (RFC 3168 section 6), and its packets are marked where others would be lost."""
    laptop, server = lab.hosts["laptop"], lab.hosts["server"]
    laptop.link.condition(ecn=Ecn(mark=0.05), delay=0.002)
    for host in (laptop, server):
        host.popen(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_ecn"]).check(PATIENCE)
    with server.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        listener.listen()
        with laptop.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            client.connect((server.ip, listener.getsockname()[1]))
            served, _peer = listener.accept()
            with served:
                served.settimeout(PATIENCE)
                client.sendall(bytes(50_000))
                left = 50_000
                while left:
                    left -= len(served.recv(65536))
    counters = laptop.link.counters("egress")
    assert counters.marked > 0
    assert counters.lost == counters.ecn_dropped == 0


def test_condition_with_ecn_is_a_verb_of_files_and_replays() -> None:
    """By the name of a preset, and by its fields; what was recorded is the same network again."""
    text = """
scenario: 1
name: marks
routers: {home: {}}
hosts:
  laptop: {uplink: home, condition: {rate: 10000000, ecn: l4s}}
timeline:
- {at: 0.0, do: laptop.link.condition, args: {ecn: {mark: 0.5, drop_others: true}}}
- {at: 0.0, do: laptop.link.condition, args: {rate: 1000000, ecn: classic}}
"""
    scenario = Scenario.parse(text)
    with scenario.build() as lab:
        link = lab.hosts["laptop"].link
        assert link.egress_condition == LinkCondition(rate=10e6, ecn=Ecn.preset("l4s"))
        scenario.timeline(lab).run()
        assert link.egress_condition == LinkCondition(rate=1e6, ecn=Ecn.preset("classic"))
        again = Scenario.parse(str(Scenario.of(lab)))
    first, *others = (action.args for action in again.actions)
    assert first == {
        "condition": {"rate": 10e6, "ecn": {"mark_above": 8e-4, "mark_all_above": 12e-4, "l4s_only": True}}
    }
    assert others == [action.args for action in scenario.actions]


def test_counters_of_a_link_without_a_wire_are_refused(lab: Lab) -> None:
    """Nothing counts on a plain cable; zeros would be a lie."""
    with pytest.raises(TopologyError, match="no wire that counts"):
        lab.hosts["laptop"].link.counters()
    with pytest.raises(TopologyError, match="'egress' or 'ingress'"):
        lab.hosts["laptop"].link.counters("both")  # type: ignore[arg-type]
