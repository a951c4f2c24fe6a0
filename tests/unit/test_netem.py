"""Conditions as netem and tbf take them, byte by byte, read back by pyroute2 where it knows them."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from pyroute2.netlink.rtnl.tcmsg.common import percent2u32
from pyroute2.netlink.rtnl.tcmsg.sched_netem import get_parameters, options

from netns_fixtures.ecn import Ecn
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition
from netns_fixtures.netem import (
    LIMIT,
    encode_netem,
    encode_tbf,
    netem_parameters,
    tbf_parameters,
)
from netns_fixtures.qdiscs import RTM_NEWQDISC, RTM_NEWTFILTER, QdiscMessage, qdisc_messages
from netns_fixtures.wire.frames import is_housekeeping

ALL = 2**32 - 1


def read(body: bytes) -> Any:
    """A message as pyroute2 reads it."""
    header = struct.pack("=IHHII", 16 + len(body), RTM_NEWQDISC, 0, 1, 0)
    message = tcmsg(header + body)
    message.decode()
    return message


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by number, without any library."""
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def test_delay_and_jitter_are_nanoseconds_and_keep_the_order() -> None:
    """Ticks of 64 ns for old kernels, ns for others, and the rate that keeps frames in order."""
    data = encode_netem(netem_parameters(LinkCondition(delay=0.02, jitter=0.005), 7))
    assert struct.unpack_from("=6I", data) == (20_000_000 // 64, LIMIT, 0, 0, 0, 5_000_000 // 64)
    found = attributes(data[24:])
    assert struct.unpack("=q", found[10]) == (20_000_000,)
    assert struct.unpack("=q", found[11]) == (5_000_000,)
    assert struct.unpack("=IiIi", found[6]) == (ALL, 0, 0, 0)
    assert struct.unpack("=Q", found[14]) == (7,)


def test_everything_is_told_also_what_is_nothing() -> None:
    """Netem keeps what it is not told: a link that was corrupt would stay so."""
    found = attributes(encode_netem(netem_parameters(LinkCondition(), 7))[24:])
    assert struct.unpack("=2I", found[3]) == struct.unpack("=2I", found[4]) == (0, 0)
    assert struct.unpack("=IiIi", found[6])[0] == ALL


def test_bursts_are_a_gilbert_elliott_chain() -> None:
    """5 % lost in bursts of 10: into the bad state with 0.05 / (10 * 0.95), out of it with 1 / 10."""
    parameters = netem_parameters(LinkCondition(loss=0.05, burst=10), 0)
    p, r, h, k1 = parameters.gemodel or (0, 0, 0, 0)
    assert (p, r, h, k1) == (round(0.05 / 9.5 * ALL), round(0.1 * ALL), 0, 0)
    assert p / (p + r) == pytest.approx(0.05, abs=1e-6)  # the share of time in the bad state is the loss
    assert parameters.loss == 0
    nested = attributes(attributes(encode_netem(parameters)[24:])[5])
    assert struct.unpack("=4I", nested[2]) == (p, r, 0, 0)


@pytest.mark.parametrize(("loss", "burst"), [(0.25, 1), (1.0, 8)])
def test_loss_without_bursts_is_random(loss: float, burst: float) -> None:
    """Also where everything is lost: a chain that never leaves its bad state is none."""
    parameters = netem_parameters(LinkCondition(loss=loss, burst=burst), 0)
    assert parameters.loss == round(loss * ALL)
    assert parameters.gemodel is None


def test_message_says_what_pyroute2_would_say() -> None:
    """Its encoder and ours agree on all that it knows; its decoder reads the whole message."""
    condition = LinkCondition(delay=0.1, loss=0.5, reorder=0.125, corrupt=0.0625)
    theirs: Any = options()
    theirs.setvalue(get_parameters({"loss": 50, "prob_reorder": 12.5, "prob_corrupt": 6.25, "limit": LIMIT}))
    theirs.encode()
    ours = encode_netem(netem_parameters(condition, 1))
    known = attributes(bytes(theirs.data)[4 + 24 :])
    found = attributes(ours[24:])
    for kind, value in known.items():
        assert struct.unpack("=2I", found[kind]) == pytest.approx(struct.unpack("=2I", value), abs=1)
    message, _tbf = qdisc_messages(12, condition, 1, fresh=False)
    decoded = read(message.body)
    assert (decoded["index"], decoded["handle"], decoded["parent"]) == (12, 0x30000, 0x20001)
    assert decoded.get_attr("TCA_KIND") == "netem"
    inside = decoded.get_attr("TCA_OPTIONS")
    assert (inside["limit"], inside["gap"]) == (LIMIT, 1)
    assert inside["loss"] == pytest.approx(percent2u32(50), abs=1)
    assert inside.get_attr("TCA_NETEM_REORDER")["prob_reorder"] == round(0.125 * ALL)


def test_rate_is_a_tbf_behind_the_netem() -> None:
    """10 Mbit/s with 100 ms of queue: 1.25 MB/s, 125 kB and the burst."""
    _netem, second = qdisc_messages(12, LinkCondition(rate=10e6, queue=0.1), 1, fresh=False)
    decoded = read(second.body)
    assert (decoded["handle"], decoded["parent"]) == (0x40000, 0x30001)
    assert decoded.get_attr("TCA_KIND") == "tbf"
    parameters = tbf_parameters(LinkCondition(rate=10e6, queue=0.1))
    found = attributes(encode_tbf(parameters))
    assert struct.unpack("=BBHhHI", found[1][:12]) == (0, 1, 0, 0, 0, 1_250_000)
    assert struct.unpack("=3I", found[1][24:]) == (125_000 + 1600, 0, 0)
    assert struct.unpack("=I", found[6]) == (1600,)


def test_rate_above_32_bits_goes_by_its_own_attribute() -> None:
    """100 Gbit/s are 12.5 GB/s."""
    parameters = tbf_parameters(LinkCondition(rate=100e9, queue=0.01))
    found = attributes(encode_tbf(parameters))
    assert struct.unpack("=Q", found[4]) == (12_500_000_000,)
    assert struct.unpack("=I", found[1][8:12]) == (ALL,)


def kinds(messages: list[QdiscMessage]) -> list[tuple[str, int, int]]:
    """Kind, handle and parent of each queueing discipline."""
    decoded = [read(message.body) for message in messages if message.kind == RTM_NEWQDISC]
    return [(each.get_attr("TCA_KIND"), each["handle"] >> 16, each["parent"]) for each in decoded]


def test_first_condition_makes_the_tree_and_later_ones_change_it() -> None:
    """A clear link, too, is a change: what is under way must not be deleted with the queues."""
    fresh = qdisc_messages(5, LinkCondition(delay=0.1), 1, fresh=True)
    assert kinds(fresh) == [
        ("prio", 1, ALL),
        ("tbf", 2, 0x10001),
        ("netem", 3, 0x20001),
        ("tbf", 4, 0x30001),
    ]
    assert kinds(qdisc_messages(5, LinkCondition(), 1, fresh=False)) == [
        ("netem", 3, 0x20001),
        ("tbf", 4, 0x30001),
    ]


def sorted_to(frame: bytes) -> int:
    """The class that the filters choose for a frame, as the kernel reads them; 2 is prio's own choice."""
    packet = frame[14:] + bytes(64)
    for message in qdisc_messages(5, LinkCondition(loss=1), 1, fresh=True):
        if message.kind != RTM_NEWTFILTER:
            continue
        (info,) = struct.unpack_from("=I", message.body, 16)
        options = attributes(attributes(message.body[20:])[2])
        (target,) = struct.unpack("=I", options[1])
        _flags, _shift, count = struct.unpack_from("=BBB", options[5])
        keys = [
            (
                *struct.unpack_from(">II", options[5], 16 + 16 * n),
                *struct.unpack_from("=i", options[5], 24 + 16 * n),
            )
            for n in range(count)
        ]
        fits = all(struct.unpack_from(">I", packet, at)[0] & mask == value for mask, value, at in keys)
        if socket.htons(info & 0xFFFF) == int.from_bytes(frame[12:14], "big") and fits:
            return int(target & 0xFFFF)
    return 2


def frame(kind: int, protocol: int, first: int) -> bytes:
    """An Ethernet frame with an IP packet of a protocol, whose content begins with a byte."""
    if kind == 0x0800:
        return (
            bytes(12)
            + struct.pack(">H", kind)
            + bytes([0x45, *[0] * 8, protocol, *[0] * 10, first, *[0] * 30])
        )
    return (
        bytes(12)
        + struct.pack(">H", kind)
        + bytes([0x60, 0, 0, 0, 0, 40, protocol, *[0] * 33, first, *[0] * 39])
    )


@given(
    kind=st.sampled_from([0x0800, 0x86DD, 0x0806, 0x88CC]),
    protocol=st.sampled_from([0, 1, 2, 6, 17, 43, 58, 255]),
    first=st.integers(0, 255),
)
def test_filters_spare_what_the_wire_spares(kind: int, protocol: int, first: int) -> None:
    """ARP, IGMP, MLD and neighbour discovery: both engines call the same frames housekeeping."""
    made = frame(kind, protocol, first)
    assert (sorted_to(made) == 2) == is_housekeeping(made)


@pytest.mark.parametrize(("loss", "duplicate"), [(0.2, 0.1), (0.01, 0.5), (0.5, 0.01), (0.3, 0), (0, 0.7)])
def test_loss_and_duplicates_are_told_so_that_both_shares_come_out(loss: float, duplicate: float) -> None:
    """Netem doubles, loses one of the copies, and the second begins anew: x (1 - y) vanish, (1 - x)^2 y come twice."""
    told = netem_parameters(LinkCondition(loss=loss, duplicate=duplicate), 1)
    x, y = told.loss / ALL, told.duplicate / ALL
    assert x * (1 - y) == pytest.approx(loss, abs=1e-6)
    assert (1 - x) ** 2 * y == pytest.approx((1 - loss) * duplicate, abs=1e-6)


def test_dead_link_passes_no_duplicates() -> None:
    """Nothing is nothing, also twice."""
    told = netem_parameters(LinkCondition(loss=1, duplicate=0.5), 1)
    assert (told.loss, told.duplicate) == (ALL, 0)


def test_random_marks_are_losses_with_the_ecn_flag() -> None:
    """sch_netem marks what it would lose and loses what cannot be marked: ``mark`` with ``drop_others``."""
    parameters = netem_parameters(LinkCondition(ecn=Ecn(mark=0.25, drop_others=True)), 0)
    assert (parameters.loss, parameters.ecn) == (round(0.25 * ALL), True)
    assert attributes(encode_netem(parameters)[24:])[7] == struct.pack("=I", 1)
    without = encode_netem(netem_parameters(LinkCondition(loss=0.25), 0))
    assert attributes(without[24:])[7] == struct.pack("=I", 0)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (LinkCondition(reorder=0.1), "reorder needs a delay"),
        (LinkCondition(delay=5, jitter=3), "jitter of more than 2 s"),
        (LinkCondition(loss=0.3, duplicate=0.5), "one copy of a doubled frame"),
        (LinkCondition(loss=0.01, burst=4, duplicate=0.01), "in bursts of 4"),
        (LinkCondition(rate=4), "less than one"),
        (LinkCondition(rate=1e12, queue=10), "cannot hold"),
        (LinkCondition(ecn=Ecn(mark=0.1)), "marks at random what it would lose"),
        (LinkCondition(ecn=Ecn(mark=0.1, drop_others=True), loss=0.1), "marks at random what it would lose"),
        (LinkCondition(ecn=Ecn(mark=0.1, drop_others=True, l4s_only=True)), "link_engine='wire'"),
        (LinkCondition(ecn=Ecn.preset("bleach")), "ECN bleached"),
        (LinkCondition(ecn=Ecn.preset("classic"), rate=1e6), "marked CE above 5 ms"),
    ],
)
def test_what_netem_cannot_say_is_an_error(condition: LinkCondition, message: str) -> None:
    """Never another link than the one asked for."""
    with pytest.raises(LinkEngineError, match=message):
        qdisc_messages(1, condition, 1, fresh=False)
