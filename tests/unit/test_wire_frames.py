"""netns_fixtures.wire.frames: whom a wire spares, and how it damages a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_frames import ETHERNET, arp, ipv4, ipv6

from netns_fixtures.wire.frames import ETHERNET_HEADER, flip_bit, is_housekeeping


@pytest.mark.parametrize(
    ("frame", "spared"),
    [
        pytest.param(arp(), True, id="arp"),
        pytest.param(ETHERNET + b"\x88\xcc" + bytes(50), True, id="lldp"),
        pytest.param(ipv4(1, protocol=2), True, id="igmp"),
        pytest.param(ipv4(1, protocol=17), False, id="udp"),
        pytest.param(ipv4(1, protocol=1), False, id="ping"),
        pytest.param(ipv6(58, 133), True, id="router-solicitation"),
        pytest.param(ipv6(58, 134), True, id="router-advertisement"),
        pytest.param(ipv6(58, 135), True, id="neighbour-solicitation"),
        pytest.param(ipv6(58, 136), True, id="neighbour-advertisement"),
        pytest.param(ipv6(0, 58), True, id="mld-behind-router-alert"),
        pytest.param(ipv6(58, 128), False, id="ping6"),
        pytest.param(ipv6(58, 2), False, id="packet-too-big"),
        pytest.param(ipv6(17, 135), False, id="udp6"),
        pytest.param(ipv6(0, 17), False, id="udp6-behind-options"),
    ],
)
def test_only_frames_that_keep_the_link_going_are_spared(frame: bytes, spared: bool) -> None:
    """Loss is for traffic; address resolution and multicast membership keep working."""
    assert is_housekeeping(frame) is spared


@given(st.binary(max_size=80))
def test_any_bytes_have_an_answer(frame: bytes) -> None:
    """Whatever comes out of a TAP is housekeeping or not, and never an exception."""
    assert is_housekeeping(frame) in (True, False)


@given(st.binary(min_size=ETHERNET_HEADER + 1, max_size=200), st.floats(0, 1, exclude_max=True))
def test_flip_bit_changes_one_bit_behind_the_header(frame: bytes, where: float) -> None:
    """Damage is one bit, and the frame still finds its way."""
    damaged = flip_bit(frame, where)

    difference = int.from_bytes(frame, "big") ^ int.from_bytes(damaged, "big")
    assert difference.bit_count() == 1
    assert damaged[:ETHERNET_HEADER] == frame[:ETHERNET_HEADER]


@given(st.binary(max_size=ETHERNET_HEADER), st.floats(0, 1, exclude_max=True))
def test_flip_bit_leaves_a_bare_header_alone(frame: bytes, where: float) -> None:
    """Without a payload there is nothing to damage."""
    assert flip_bit(frame, where) == frame
