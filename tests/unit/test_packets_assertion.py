"""The assertions about packets: when they hold, and what they say when not."""

from __future__ import annotations

import re

import pytest
from packet_kit import ALICE, captured, sealed, udp
from scapy.layers.inet import UDP

from iroh_py.proto import disco
from pytest_iroh.packets import Disco, PacketAssertionError, assert_no_packet, assert_packet, find

CAPTURE = captured(
    udp(b"\x40a", 1.0), udp(b"\x40b", 2.0, dport=6000), udp(sealed(disco.Ping(bytes(12), ALICE.node_id)), 3.0)
)


def test_assert_packet_returns_the_first_one() -> None:
    """As a scapy packet, whether the filter is text or a function of one."""
    assert assert_packet(CAPTURE, "udp")[UDP].dport == 5000
    assert assert_packet(CAPTURE, lambda p: p[UDP].dport == 6000)[UDP].load == b"\x40b"
    assert Disco in assert_packet(CAPTURE, "disco", count=1)


def test_a_missing_packet_fails_with_what_was_captured() -> None:
    """The failure lists the flows that were there instead."""
    with pytest.raises(PacketAssertionError) as failure:
        assert_packet(CAPTURE, "tcp port 443")
    text = str(failure.value)
    assert text.startswith("no packet passes 'tcp port 443'\ncaptured were 3 packets:\n")
    assert "1 x laptop eth0 udp 192.168.1.10:4000 > 198.18.1.10:6000 quic" in text


def test_a_wrong_count_fails_with_the_packets() -> None:
    """Too many and too few."""
    with pytest.raises(PacketAssertionError, match="3 packets, not 2, pass 'udp'"):
        assert_packet(CAPTURE, "udp", count=2)
    with pytest.raises(PacketAssertionError, match="3 packets, not 4, pass 'udp'"):
        assert_packet(CAPTURE, "udp", count=4)


def test_an_unwanted_packet_fails_with_the_event_before_it() -> None:
    """Each packet is placed on the lab's timeline and described."""
    assert_no_packet(CAPTURE, "tcp")
    with pytest.raises(PacketAssertionError) as failure:
        assert_no_packet(CAPTURE, "disco")
    assert re.fullmatch(
        "1 packet passes 'disco'\n  2500.0 ms after 'laptop eth0 went down': laptop eth0 sent udp "
        r"192\.168\.1\.10:4000 > 198\.18\.1\.10:5000, \d+ bytes, sealed disco packet from [0-9a-f]{10}",
        str(failure.value),
    )


def test_many_packets_are_not_all_listed() -> None:
    """Ten, and how many more."""
    many = captured(*(udp(b"\x40", 1 + i) for i in range(25)))
    with pytest.raises(PacketAssertionError, match=r"25 packets pass 'udp'(?s:.*)\.\.\. and 15 more"):
        assert_no_packet(many, "udp")


def test_a_capture_with_gaps_proves_no_absence() -> None:
    """Neither dropped packets nor a recording that never began may make a test green."""
    with pytest.raises(PacketAssertionError, match=r"nothing proves(?s:.*)7 packets are missing"):
        assert_no_packet(captured(missed=7), "udp")
    with pytest.raises(PacketAssertionError, match=r"nothing proves(?s:.*)no sockets here"):
        assert_no_packet(captured(trouble="no sockets here"), "udp")
    with pytest.raises(PacketAssertionError, match="nothing at all was captured"):
        assert_packet(captured(), "udp")


def test_since_and_until_take_events_and_seconds() -> None:
    """Only the packets between two moments count."""
    assert [f.time for f in find(CAPTURE, "udp", since=CAPTURE.lab.events[0], until=2.5)] == [1.0, 2.0]
    assert [f.time for f in find(CAPTURE, "udp", since=2.0)] == [2.0, 3.0]
