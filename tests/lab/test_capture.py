"""Captures in a real lab."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.utils import RawPcapNgReader

from netns_fixtures import Host, Lab, TopologyError
from netns_fixtures.capture import capture
from netns_fixtures.drain import Drain
from netns_fixtures.messages import TakeRing
from netns_fixtures.recording import record


class Pair:
    """Two hosts in networks of their own, the first behind a NAT, and a UDP socket in each."""

    def __init__(self, lab: Lab) -> None:
        self.home = lab.router("home", nat="moderate", ipv6=False)
        self.laptop: Host = lab.host("laptop", uplink=self.home)
        self.server: Host = lab.host("server", uplink=lab.router("dc", ipv6=False))
        lab.build()
        self.here = self.laptop.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.there = self.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.there.bind(("0.0.0.0", 4000))
        self.there.settimeout(5)

    def send(self, data: bytes) -> None:
        """One datagram from the laptop to the server; returns when it arrived."""
        self.here.sendto(data, (self.server.ip, 4000))
        assert self.there.recv(4096) == data

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
    Drain.shared().join(5)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    pair = Pair(lab)
    yield pair
    pair.close()


def payloads(found: list[object]) -> list[bytes]:
    return [bytes(packet[UDP].payload) for packet in found if UDP in packet]  # type: ignore[operator,index]


def test_capture_sees_what_the_host_sends_and_nothing_else(lab: Lab, pair: Pair) -> None:
    """Frames of the host's own interface, with direction, on the clock of the lab's events."""
    with capture(pair.laptop) as found:
        pair.send(b"one")
        lab.log_event("mark", "", "between")
        pair.send(b"two")
    frames = [frame for frame in found.frames if frame.data[12:14] == b"\x08\x00"]
    assert payloads(found.packets) == [b"one", b"two"]
    assert {(frame.where, frame.outgoing) for frame in frames} == {("laptop eth0", True)}
    assert frames[0].time < lab.events[-1].time < frames[1].time
    assert found.missed == 0


def test_a_packet_is_there_as_soon_as_it_was_sent(pair: Pair) -> None:
    """`count` and `packets` wait for the kernel's last block, while the capture runs on."""
    with capture(pair.laptop, "eth0") as found:
        for number in range(20):
            pair.send(b"%d" % number)
            assert payloads(found.packets)[-1] == b"%d" % number
        assert found.running
    assert not found.running


def test_a_router_shows_both_sides_of_its_nat(pair: Pair) -> None:
    """The same datagram leaves the WAN with another source address than it came with."""
    with capture(pair.home) as found:
        pair.send(b"through")
    sources = {packet.sniffed_on: packet[IP].src for packet in found.packets if UDP in packet}
    assert sources == {"home lan": pair.laptop.ip, "home wan": pair.home.ip}


def test_loopback_traffic_is_captured_on_demand(pair: Pair) -> None:
    """An interface that is no cable is captured inside the host; each frame once."""
    with (
        capture(pair.laptop, "lo") as found,
        pair.laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(("127.0.0.1", 0))
        sock.sendto(b"me", sock.getsockname())
    assert payloads(found.packets) == [b"me"]


def test_an_unknown_interface_is_named_in_the_error(pair: Pair) -> None:
    """The error says which node lacks which interface."""
    with pytest.raises(TopologyError, match="laptop has no interface 'wlan7'"):
        capture(pair.laptop, "wlan7")


def test_a_capture_survives_replugging(lab: Lab, pair: Pair) -> None:
    """The cable keeps being watched when it goes to another router, or down and up."""
    hotspot = lab.router("hotspot", nat="strict", ipv6=False)
    with capture(pair.laptop) as found:
        pair.laptop.replug(hotspot)
        pair.send(b"after the replug")
        pair.laptop.link.down()
        pair.laptop.link.up()
        pair.send(b"after down and up")
    assert payloads(found.packets) == [b"after the replug", b"after down and up"]


def test_a_capture_forgets_its_oldest_frames(pair: Pair) -> None:
    """Memory is bounded; what was forgotten is counted as missed."""
    with capture(pair.laptop, max_bytes=40_000) as found:
        for number in range(400):
            pair.send(b"%03d" % number + bytes(1000))
    kept = payloads(found.packets)
    assert kept[-1].startswith(b"399")
    assert len(kept) < 300
    assert found.missed >= 100


def test_a_recording_begins_with_the_lab(tmp_path: Path) -> None:
    """Made before the lab is built, it has a file per interface, with the lab's events as comments."""
    with Lab() as lab:
        recording = record(lab)
        pair = Pair(lab)
        pair.send(b"one")
        pair.laptop.link.down()
        pair.laptop.link.up()
        pair.send(b"two")
        pair.close()
        paths = recording.save_each(tmp_path)
    names = {path.name for path in paths}
    assert {"laptop-eth0.pcapng", "home-lan.pcapng", "home-wan.pcapng", "server-eth0.pcapng"} <= names
    with RawPcapNgReader(str(tmp_path / "server-eth0.pcapng")) as reader:
        metas: list[Any] = [meta for _data, meta in reader]
    comments = [c.decode() for meta in metas for c in meta.comments or []]
    assert any(comment.endswith("laptop eth0 went down") for comment in comments)
    assert recording.missed == 0


def test_recording_into_a_directory_writes_at_its_end(tmp_path: Path) -> None:
    """`with record(lab, directory)` leaves the files behind."""
    with Lab() as lab, record(lab, tmp_path / "pcap"):
        pair = Pair(lab)
        pair.send(b"one")
        pair.close()
    assert (tmp_path / "pcap" / "laptop-eth0.pcapng").stat().st_size > 100


def test_a_recording_ends_with_its_lab_and_leaks_nothing() -> None:
    """A closed lab's capture gives socket, memory and thread back; its frames can still be read."""
    with Lab() as lab:  # the shared agent starts here
        lab.router("r")
        lab.build()
    before = len(os.listdir("/proc/self/fd"))
    with Lab() as lab:
        recording = record(lab)
        pair = Pair(lab)
        pair.send(b"one")
        assert recording.count > 0
        pair.close()
    Drain.shared().join(5)
    assert not recording.running
    assert recording.count > 0
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the drain's own epoll and eventfd, kept
    assert not [t for t in threading.enumerate() if t.name == "netns-fixtures-packets"]


def test_recording_never_breaks_the_verb_that_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses, the lab is built all the same, and the recording says why it is empty."""
    monkeypatch.setattr("netns_fixtures.recording.TakeRing", lambda lab, _node: TakeRing(lab, 99))
    with Lab() as lab:
        recording = record(lab)
        lab.router("r")
        lab.build()
        assert (
            recording.trouble == "no packets were recorded: no packet ring was prepared in node 99 of lab lab"
        )
        assert recording.frames == []


def test_a_flood_is_not_recorded_but_said(tmp_path: Path) -> None:
    """Above the rate bulk frames are left out, the small ones kept, and the file says from when on."""
    with Lab() as lab:
        recording = record(lab, max_rate=300)
        pair = Pair(lab)
        for _ in range(200):
            pair.send(bytes(1000))
        deadline = time.monotonic() + 5
        while not recording.trouble and recording.wait(deadline - time.monotonic()):
            pass
        assert "bulk packets were left out" in recording.trouble
        pair.close()
        recording.save_each(tmp_path)
    with RawPcapNgReader(str(tmp_path / "laptop-eth0.pcapng")) as reader:
        metas: list[Any] = [meta for _data, meta in reader]
    comments = [c.decode() for meta in metas for c in meta.comments or []]
    assert any("a flood: only frames up to 300 bytes recorded from here" in comment for comment in comments)


def test_the_kernel_sorts_frames_by_interface_and_size(pair: Pair) -> None:
    """The filter in the kernel passes on what was asked for, and nothing else."""
    with capture(pair.laptop) as found:
        ring = found._ring
        assert ring is not None
        for largest, wanted in ((None, [10, 1000]), (300, [10]), (0, [])):
            ring.limit(largest)
            before = len(payloads(found.packets))
            pair.send(bytes(10))
            pair.send(bytes(1000))
            assert [len(payload) for payload in payloads(found.packets)[before:]] == wanted
