"""Conditions as netem and tbf take them, byte by byte, read back by pyroute2 where it knows them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from pyroute2.netlink.rtnl.tcmsg.common import percent2u32
from pyroute2.netlink.rtnl.tcmsg.sched_netem import get_parameters, options

from netns_fixtures.ecn import Ecn
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition
from netns_fixtures.netem import (
    LIMIT,
    RTM_DELQDISC,
    RTM_NEWQDISC,
    encode_netem,
    encode_tbf,
    netem_parameters,
    qdisc_messages,
    tbf_parameters,
)

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
    assert 6 not in attributes(encode_netem(netem_parameters(LinkCondition(delay=0.02), 7))[24:])


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
    condition = LinkCondition(delay=0.1, loss=0.5, duplicate=0.25, reorder=0.125, corrupt=0.0625)
    theirs: Any = options()
    theirs.setvalue(
        get_parameters(
            {"loss": 50, "duplicate": 25, "prob_reorder": 12.5, "prob_corrupt": 6.25, "limit": LIMIT}
        )
    )
    theirs.encode()
    ours = encode_netem(netem_parameters(condition, 1))
    known = attributes(bytes(theirs.data)[4 + 24 :])
    found = attributes(ours[24:])
    for kind, value in known.items():
        assert struct.unpack("=2I", found[kind]) == pytest.approx(struct.unpack("=2I", value), abs=1)
    (message,) = (m for m in qdisc_messages(12, condition, 1) if m.create)
    decoded = read(message.body)
    assert (decoded["index"], decoded["handle"], decoded["parent"]) == (12, 0x10000, ALL)
    assert decoded.get_attr("TCA_KIND") == "netem"
    inside = decoded.get_attr("TCA_OPTIONS")
    assert (inside["limit"], inside["gap"]) == (LIMIT, 1)
    assert inside["loss"] == pytest.approx(percent2u32(50), abs=1)
    assert inside.get_attr("TCA_NETEM_REORDER")["prob_reorder"] == round(0.125 * ALL)


def test_rate_is_a_tbf_behind_the_netem() -> None:
    """10 Mbit/s with 100 ms of queue: 1.25 MB/s, 125 kB and the burst."""
    first, second = qdisc_messages(12, LinkCondition(rate=10e6, queue=0.1), 1)
    decoded = read(second.body)
    assert (first.kind, second.kind, second.create) == (RTM_NEWQDISC, RTM_NEWQDISC, True)
    assert (decoded["handle"], decoded["parent"]) == (0x100000, 0x10001)
    assert decoded.get_attr("TCA_KIND") == "tbf"
    parameters = tbf_parameters(LinkCondition(rate=10e6, queue=0.1))
    assert parameters is not None
    found = attributes(encode_tbf(parameters))
    assert struct.unpack("=BBHhHI", found[1][:12]) == (0, 1, 0, 0, 0, 1_250_000)
    assert struct.unpack("=3I", found[1][24:]) == (125_000 + 1600, 0, 0)
    assert struct.unpack("=I", found[6]) == (1600,)


def test_rate_above_32_bits_goes_by_its_own_attribute() -> None:
    """100 Gbit/s are 12.5 GB/s."""
    parameters = tbf_parameters(LinkCondition(rate=100e9, queue=0.01))
    assert parameters is not None
    found = attributes(encode_tbf(parameters))
    assert struct.unpack("=Q", found[4]) == (12_500_000_000,)
    assert struct.unpack("=I", found[1][8:12]) == (ALL,)


def test_lifted_rate_and_clear_link_delete_what_was_there() -> None:
    """The tbf goes when the rate does, everything when the condition is clear."""
    kinds = [(m.kind, m.create) for m in qdisc_messages(1, LinkCondition(delay=0.1), 1)]
    assert kinds == [(RTM_NEWQDISC, True), (RTM_DELQDISC, False)]
    (only,) = qdisc_messages(1, LinkCondition(), 1)
    assert only.kind == RTM_DELQDISC
    assert read(only.body)["parent"] == ALL


def test_random_marks_are_losses_with_the_ecn_flag() -> None:
    """sch_netem marks what it would lose and loses what cannot be marked: ``mark`` with ``drop_others``."""
    parameters = netem_parameters(LinkCondition(ecn=Ecn(mark=0.25, drop_others=True)), 0)
    assert (parameters.loss, parameters.ecn) == (round(0.25 * ALL), True)
    assert attributes(encode_netem(parameters)[24:])[7] == struct.pack("=I", 1)
    assert 7 not in attributes(encode_netem(netem_parameters(LinkCondition(loss=0.25), 0))[24:])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (LinkCondition(reorder=0.1), "reorder needs a delay"),
        (LinkCondition(delay=5, jitter=3), "jitter of more than 2 s"),
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
        qdisc_messages(1, condition, 1)
