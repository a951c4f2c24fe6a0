"""netns_fixtures.ecn and netns_fixtures.wire.ecn: what a link does to the ECN field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from netns_fixtures.ecn import ECN_PRESETS, Ecn, EcnMiddlebox
from netns_fixtures.errors import TopologyError
from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.ecn import CE, ECT_0, ECT_1, NOT_ECT, codepoint_of, rewritten, with_codepoint
from netns_fixtures.wire.model import LinkModel

SLOW = LinkCondition(rate=9.6e6, queue=0.050)  # 1 ms for each frame of 1200 bytes
CODEPOINTS = (NOT_ECT, ECT_1, ECT_0, CE)


def frame(codepoint: int, number: int = 0, *, v6: bool = False, dscp: int = 0, size: int = 1200) -> bytes:
    """A UDP packet with that ECN field."""
    tos = dscp << 2 | codepoint
    ip = (
        IPv6(src="2001:db8::1", dst="2001:db8::2", tc=tos)
        if v6
        else IP(src="10.0.0.1", dst="10.0.0.2", tos=tos)
    )
    head = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / UDP(sport=1, dport=2)
    return bytes(head / (bytes(size - len(head) - 4) + number.to_bytes(4, "big")))


def through(condition: LinkCondition, frames: list[bytes], *, seed: int = 1, gap: float = 1.0) -> LinkModel:
    """A link that these frames entered, so many seconds apart."""
    model = LinkModel(condition, seed)
    for number, each in enumerate(frames):
        model.handle_frame(number * gap, each)
    return model


def fields(model: LinkModel) -> list[int | None]:
    """The ECN fields of all that arrives."""
    return [codepoint_of(each) for each in model.poll(1e9)]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("codepoint", CODEPOINTS)
@pytest.mark.parametrize("dscp", [0, 46, 63])
def test_changed_field_leaves_the_rest_and_a_right_checksum(v6: bool, codepoint: int, dscp: int) -> None:
    """Only two bits and the IPv4 header checksum change, and a receiver computes the same checksum."""
    before = frame(ECT_0, v6=v6, dscp=dscp)
    after = with_codepoint(before, codepoint)
    assert codepoint_of(after) == codepoint
    assert after == frame(codepoint, v6=v6, dscp=dscp)


@given(st.binary(min_size=20, max_size=60), st.sampled_from(CODEPOINTS))
def test_wrong_checksum_stays_as_wrong_as_it_was(header: bytes, codepoint: int) -> None:
    """The checksum is changed incrementally (RFC 1624): there and back is the same header, whatever it was."""
    before = bytes(12) + b"\x08\x00" + header
    original = codepoint_of(before)
    assert original is not None
    there = with_codepoint(before, codepoint)
    assert _sum(there) % 0xFFFF == _sum(before) % 0xFFFF
    back = with_codepoint(there, original)
    assert (back[:24], back[26:]) == (before[:24], before[26:])


def _sum(data: bytes) -> int:
    """Of the first 20 bytes of the IPv4 header, in one's complement."""
    return sum(int.from_bytes(data[14 + n : 16 + n]) for n in range(0, 20, 2))


@given(st.binary(max_size=60))
def test_any_bytes_have_a_field_or_none(data: bytes) -> None:
    """Short frames and other protocols have none, and that is all."""
    assert codepoint_of(data) in (None, *CODEPOINTS)
    assert codepoint_of(bytes(12) + b"\x08\x00" + data[:19]) is None
    assert codepoint_of(bytes(12) + b"\x86\xdd" + data[:39]) is None


@pytest.mark.parametrize("v6", [False, True])
def test_marked_packets_are_ecn_capable_ones_and_none_is_lost(v6: bool) -> None:
    """CE instead of ECT(0) and ECT(1); who is not ECN-capable passes."""
    model = through(LinkCondition(ecn=Ecn(mark=1.0)), [frame(each, v6=v6) for each in CODEPOINTS])
    assert fields(model) == [NOT_ECT, CE, CE, CE]
    assert (model.counters.marked, model.counters.ecn_dropped, model.counters.lost) == (2, 0, 0)


def test_others_are_dropped_where_a_router_would_have_marked() -> None:
    """As active queue management does with those that cannot be told (RFC 3168 section 5)."""
    model = through(LinkCondition(ecn=Ecn(mark=1.0, drop_others=True)), [frame(each) for each in CODEPOINTS])
    assert fields(model) == [CE, CE, CE]
    assert model.counters.ecn_dropped == 1


def test_share_of_marks_is_the_probability_and_repeats_by_seed() -> None:
    """A tenth of the packets, the same ones each time, another tenth by another seed."""
    condition = LinkCondition(ecn=Ecn(mark=0.1))
    sent = [frame(ECT_0, number) for number in range(1000)]
    marks = [
        fields(through(condition, sent, seed=seed, gap=gap)) for seed, gap in ((1, 1.0), (1, 0.1), (2, 1.0))
    ]
    assert marks[0] == marks[1] != marks[2]
    assert marks[0].count(CE) == pytest.approx(100, abs=35)


def test_marking_does_not_shift_who_is_lost() -> None:
    """ECN draws lots of its own."""
    lossy = LinkCondition(loss=0.3, duplicate=0.2)
    sent = [frame(ECT_0, number) for number in range(300)]
    plain = [each[-4:] for each in through(lossy, sent).poll(1e9)]
    marked = [each[-4:] for each in through(lossy.with_(ecn=Ecn(mark=0.5)), sent).poll(1e9)]
    assert plain == marked


def test_step_marks_who_waits_longer_than_the_threshold() -> None:
    """DCTCP: of a burst, the first that wait at most 5 ms pass, all later ones are marked, none is lost."""
    model = through(SLOW.with_(ecn=Ecn(mark_above=0.005)), [frame(ECT_0, size=1200)] * 20, gap=0.0)
    assert fields(model) == [ECT_0] * 6 + [CE] * 14
    assert model.counters.marked == 14


def test_frame_that_finds_no_room_is_dropped_and_not_marked() -> None:
    """Beyond the queue a packet is lost, ECN-capable or not."""
    model = through(SLOW.with_(ecn=Ecn(mark_above=0.005)), [frame(ECT_0)] * 100, gap=0.0)
    counters, got = model.counters, fields(model)
    assert counters.queue_dropped == pytest.approx(49, abs=1)
    assert counters.marked == got.count(CE) == len(got) - 6
    assert len(got) + counters.queue_dropped == 100


def test_ramp_marks_the_more_the_longer_the_queue() -> None:
    """RED: nobody below the lower threshold, everybody above the upper one, a growing share between."""
    ecn = Ecn(mark_above=0.010, mark_all_above=0.030)
    waits = (0.0, 0.010, 0.020, 0.030, 0.040)
    assert [ecn.chance(wait) for wait in waits] == pytest.approx([0, 0, 0.5, 1, 1])
    assert Ecn(mark=0.7, mark_above=0.010, mark_all_above=0.030).chance(0.012) == 0.7
    model = through(SLOW.with_(ecn=ecn), [frame(ECT_0)] * 50, gap=0.0)
    got = fields(model)
    assert CE not in got[:10]
    assert 0 < got[11:31].count(CE) < 20
    assert set(got[31:]) == {CE}


def test_queue_for_l4s_marks_only_ect1() -> None:
    """RFC 9331: ECT(0) is not L4S, and counts among the others."""
    sent = [frame(each) for each in CODEPOINTS]
    assert fields(through(LinkCondition(ecn=Ecn(mark=1, l4s_only=True)), sent)) == [NOT_ECT, CE, ECT_0, CE]
    dropping = LinkCondition(ecn=Ecn(mark=1, l4s_only=True, drop_others=True))
    assert fields(through(dropping, sent)) == [CE, CE]


@pytest.mark.parametrize(
    ("middlebox", "after"),
    [
        ("none", [NOT_ECT, ECT_1, ECT_0, CE]),
        ("bleach", [NOT_ECT, NOT_ECT, NOT_ECT, NOT_ECT]),
        ("ect1-to-ect0", [NOT_ECT, ECT_0, ECT_0, CE]),
        ("drop-ect", [NOT_ECT]),
    ],
)
@pytest.mark.parametrize("v6", [False, True])
def test_middleboxes_do_what_those_of_the_field_do(middlebox: str, after: list[int], v6: bool) -> None:
    """Bleaching, re-marking, and the black hole for ECN; who does not use ECN never notices."""
    condition = LinkCondition(ecn=Ecn(middlebox=EcnMiddlebox(middlebox)))
    model = through(condition, [frame(each, v6=v6) for each in CODEPOINTS])
    assert fields(model) == after
    assert model.counters.ecn_dropped == 4 - len(after)
    changed = sum(a != b for a, b in zip(CODEPOINTS, after, strict=False))
    assert model.counters.ecn_rewritten == (changed if middlebox != "drop-ect" else 0)
    assert [rewritten(EcnMiddlebox(middlebox), each) for each in CODEPOINTS].count(None) == 4 - len(after)


def test_bleached_packet_is_not_marked_behind_the_middlebox() -> None:
    """The middlebox stands before the queue: what it cleared cannot be marked, and is dropped instead if so asked."""
    bleach = Ecn(middlebox=EcnMiddlebox.BLEACH, mark=1.0)
    assert fields(through(LinkCondition(ecn=bleach), [frame(ECT_0)])) == [NOT_ECT]
    dropping = Ecn(middlebox=EcnMiddlebox.BLEACH, mark=1.0, drop_others=True)
    assert fields(through(LinkCondition(ecn=dropping), [frame(ECT_0)])) == []


@pytest.mark.parametrize("name", ECN_PRESETS)
def test_preset_is_found_by_name_and_survives_json(name: str) -> None:
    """In a condition, as a name and as what went through a file or to the wire process."""
    condition = SLOW.with_(ecn=name)
    assert condition.ecn == Ecn.preset(name)
    assert not condition.is_clear
    assert LinkCondition(**json.loads(json.dumps(condition.as_dict()))) == condition


def test_condition_says_what_it_does_to_ecn() -> None:
    """The sentences of events and reports."""
    assert str(SLOW.with_(ecn="l4s")) == (
        "9.6 Mbit/s with a queue of 50 ms, ECT(1) marked CE above 0.8 ms of queue, all above 1.2 ms"
    )
    assert str(LinkCondition(ecn=Ecn(mark=0.1, drop_others=True))) == "0.1 marked CE, others dropped instead"
    assert str(LinkCondition(ecn=Ecn.preset("ect1-to-ect0"))) == "ECT(1) made ECT(0)"
    assert (str(Ecn()), str(LinkCondition(ecn=Ecn()))) == ("as it is", "clear")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"mark": 2}, "mark is a probability"),
        ({"mark": True}, "mark is a probability"),
        ({"mark_above": -1}, "mark_above is seconds"),
        ({"mark_above": "5ms"}, "mark_above is seconds"),
        ({"mark_all_above": 0.1}, "more than mark_above"),
        ({"mark_above": 0.1, "mark_all_above": 0.1}, "more than mark_above"),
        ({"drop_others": 1}, "true or false"),
        ({"middlebox": "eats"}, "one of none, bleach, ect1-to-ect0, drop-ect"),
        ({"bleach": True}, "ecn: .*bleach"),
    ],
)
def test_wrong_value_raises_and_names_what_is_right(given: dict[str, Any], complaint: str) -> None:
    """Before anything is changed."""
    with pytest.raises(TopologyError, match=complaint):
        Ecn.of(given)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ecn": Ecn(mark_above=0.01)}, "needs a rate"),
        ({"ecn": Ecn(mark_above=0.1), "rate": 1e6}, "needs a longer queue than 0.1 s"),
        ({"ecn": "red"}, "no ECN preset 'red'; there are l4s"),
        ({"ecn": 0.1}, "ecn is an Ecn, or one of l4s"),
    ],
)
def test_marks_that_could_never_be_made_are_refused(changes: dict[str, Any], complaint: str) -> None:
    """A threshold that no packet can wait for would be a test that tests nothing."""
    with pytest.raises(TopologyError, match=complaint):
        LinkCondition().with_(**changes)
