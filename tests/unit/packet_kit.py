"""Frames for tests of packet code, made by scapy, and a capture that holds them without a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from iroh_py.keys import SecretKey
from iroh_py.proto import disco
from netns_fixtures.capture import Capture
from netns_fixtures.events import LabEvent
from netns_fixtures.tap import Frame
from pytest_iroh.packets.dissection import dissect

ALICE = SecretKey(bytes(range(32)))
BOB = SecretKey(bytes(range(1, 33)))
EVE = SecretKey(bytes(range(2, 34)))
LAPTOP, SERVER = "192.168.1.10", "198.18.1.10"


def frame(packet: Any, time: float = 1.0, *, outgoing: bool = True, interface: str = "eth0") -> Frame:
    """A scapy packet (without Ethernet) as a captured frame of the laptop."""
    data = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)
    return Frame(time, int(time * 1e9), "laptop", interface, outgoing, data, len(data))


def udp(
    payload: bytes, time: float = 1.0, *, sport: int = 4000, dport: int = 5000, outgoing: bool = True
) -> Frame:
    """A datagram from the laptop to the server."""
    return frame(
        IP(src=LAPTOP, dst=SERVER) / UDP(sport=sport, dport=dport) / payload, time, outgoing=outgoing
    )


def udp6(payload: bytes, time: float = 1.0) -> Frame:
    """The same over IPv6."""
    return frame(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=4000, dport=5000) / payload, time)


def tcp(payload: bytes, seq: int, time: float = 1.0, *, flags: str = "PA", upward: bool = True) -> Frame:
    """A segment between the laptop (port 40000) and a relay at the server (port 3340)."""
    src, dst, sport, dport = (LAPTOP, SERVER, 40000, 3340) if upward else (SERVER, LAPTOP, 3340, 40000)
    packet = IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, seq=seq % (1 << 32), flags=flags) / payload
    return frame(packet, time, outgoing=upward)


def sealed(message: disco.Message, sender: SecretKey = ALICE, receiver: SecretKey = BOB) -> bytes:
    """A disco packet."""
    box_key = sender.box_key(receiver.node_id)
    return disco.seal(box_key, sender.node_id, bytes(24), disco.encode(message))


@dataclass
class FakeLab:
    """As much of a lab as assertions quote."""

    events: tuple[LabEvent, ...] = (LabEvent(1, 0.5, "link_down", "laptop", "laptop eth0 went down"),)


@dataclass
class FakeCapture:
    """Frames that are all there already."""

    frames: list[Frame]
    missed: int = 0
    trouble: str = ""
    running: bool = False
    lab: FakeLab = field(default_factory=FakeLab)

    def packet(self, frame: Frame) -> Any:
        return dissect(frame)

    def wait(self, timeout: float) -> bool:
        raise AssertionError("it does not run")


def captured(*frames: Frame, missed: int = 0, trouble: str = "") -> Capture:
    """A capture of these frames."""
    return cast(Capture, FakeCapture(list(frames), missed, trouble))
