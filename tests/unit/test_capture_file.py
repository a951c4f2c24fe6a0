"""Captures as files: which event becomes the comment of which packet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from scapy.utils import RawPcapNgReader

from netns_fixtures.capture import Capture
from netns_fixtures.capture_file import MAX_COMMENTS, save, save_each
from netns_fixtures.events import LabEvent
from netns_fixtures.tap import Frame, Tap


@dataclass
class FakeLab:
    """As much of a lab as a file's heading names."""

    events: tuple[LabEvent, ...] = ()
    name: str = "lab"
    seed: int = 1
    link_engine: str = "veth"


@dataclass
class FakeCapture:
    """Frames and taps without a kernel."""

    frames: list[Frame]
    lab: FakeLab = field(default_factory=FakeLab)

    notes: tuple[LabEvent, ...] = ()

    def taps(self) -> list[Tap]:
        return [Tap("laptop", "eth0", "02:00:00:00:00:01", "home"), Tap("..odd*", "wan")]


def frame(time: float, node: str = "laptop", interface: str = "eth0") -> Frame:
    return Frame(time, int(time * 1e9), node, interface, True, bytes(60), 60)


def event(time: float, text: str) -> LabEvent:
    return LabEvent(1, time, "link_down", "laptop", text)


def as_capture(fake: FakeCapture) -> Capture:
    return cast(Capture, fake)


def comments(path: Path) -> list[list[str]]:
    with RawPcapNgReader(str(path)) as reader:
        metas: list[Any] = [meta for _data, meta in reader]
    return [[c.decode() for c in meta.comments or []] for meta in metas]


def test_an_event_comments_the_packet_after_it(tmp_path: Path) -> None:
    """Each event stands once, at the first packet that follows; late ones at the last packet, marked as
    such.
    """
    events = (event(1.0, "one"), event(2.0, "two"), event(2.5, "three"), event(9.0, "four"))
    fake = FakeCapture([frame(1.5), frame(3.0), frame(4.0)], FakeLab(events))
    path = save(as_capture(fake), tmp_path / "a.pcapng", annotate=lambda f: "hi" if f.time == 3.0 else None)
    assert comments(path) == [
        ["lab +0.000000 s: one"],
        ["lab +1.000000 s: two", "lab +1.500000 s: three", "hi"],
        ["lab +8.000000 s: after this packet: four"],
    ]


def test_a_storm_of_events_keeps_the_newest(tmp_path: Path) -> None:
    """Thousands of events between two packets do not make a packet that nothing can open."""
    events = tuple(event(1.0 + i / 1e4, f"event {i}") for i in range(5000))
    path = save(as_capture(FakeCapture([frame(3.0)], FakeLab(events))), tmp_path / "a.pcapng")
    (found,) = comments(path)
    assert len(found) == MAX_COMMENTS + 1
    assert found[0] == f"lab: {5000 - MAX_COMMENTS} events left out"
    assert found[-1].endswith("event 4999")


def test_each_interface_gets_a_file_of_its_own(tmp_path: Path) -> None:
    """One file per interface that saw a frame, under a name that stays in the directory."""
    fake = FakeCapture([frame(1.0), frame(2.0, "..odd*", "wan"), frame(3.0)])
    paths = save_each(as_capture(fake), tmp_path / "deep" / "pcap")
    assert [path.name for path in paths] == ["laptop-eth0.pcapng", "odd_-wan.pcapng"]
    assert [len(comments(path)) for path in paths] == [2, 1]
    assert all(path.parent == tmp_path / "deep" / "pcap" for path in paths)
