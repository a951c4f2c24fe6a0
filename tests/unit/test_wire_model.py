"""netns_fixtures.wire.model: fate and time of each frame, under a clock of our own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_frames import arp, ipv4, number_of

from netns_fixtures.ecn import Ecn, EcnMiddlebox
from netns_fixtures.link import LinkCondition
from netns_fixtures.wire import model as model_module
from netns_fixtures.wire.model import LinkModel

END = 1e9  # later than anything is due

ROUGH = LinkCondition(
    delay=0.05, jitter=0.02, loss=0.1, burst=3, rate=20e6, queue=1, reorder=0.05, duplicate=0.05, corrupt=0.05
)


def feed(model: LinkModel, count: int, interval: float = 0.001, start: float = 0.0) -> None:
    """Send numbered frames at a steady pace."""
    for number in range(count):
        model.handle_frame(start + number * interval, ipv4(number))


def arrivals(model: LinkModel) -> list[tuple[float, bytes]]:
    """Every frame under way, with the time at which it is due."""
    found: list[tuple[float, bytes]] = []
    while (due := model.next_due) is not None:
        found += [(due, frame) for frame in model.poll(due)]
    return found


def numbers(model: LinkModel) -> list[int]:
    """The numbers of the frames in the order of arrival."""
    return [number_of(frame) for _, frame in arrivals(model)]


def test_clear_link_delivers_at_once_and_unchanged() -> None:
    """With the default condition, a frame is due when it comes."""
    model = LinkModel(LinkCondition(), seed=1)

    model.handle_frame(5.0, ipv4(1))

    assert model.next_due == 5.0
    assert model.poll(5.0) == [ipv4(1)]
    assert model.next_due is None


def test_delayed_frame_is_due_after_the_delay_and_not_before() -> None:
    """The delay is exact in the model."""
    model = LinkModel(LinkCondition(delay=0.030), seed=1)
    model.handle_frame(1.0, ipv4(1))

    assert model.next_due == pytest.approx(1.030)
    assert model.poll(1.029) == []
    assert model.poll(1.031) == [ipv4(1)]


def test_jitter_stays_within_its_bounds_around_the_delay() -> None:
    """Frames far apart take delay ± jitter, and use all of that range."""
    model = LinkModel(LinkCondition(delay=0.1, jitter=0.04), seed=1)
    feed(model, 2000, interval=1.0)

    trips = [due - number_of(frame) for due, frame in arrivals(model)]

    assert 0.06 <= min(trips) < 0.062
    assert 0.138 < max(trips) <= 0.14
    assert sum(trips) / len(trips) == pytest.approx(0.1, abs=0.002)


def test_jitter_above_the_delay_never_delivers_into_the_past() -> None:
    """A draw below zero counts as zero."""
    model = LinkModel(LinkCondition(delay=0.001, jitter=0.1), seed=1)
    feed(model, 300, interval=1.0)

    assert all(due >= number_of(frame) for due, frame in arrivals(model))


def test_jitter_keeps_the_order() -> None:
    """However the draws fall, no frame overtakes another."""
    model = LinkModel(LinkCondition(delay=0.05, jitter=0.05), seed=1)
    feed(model, 500)

    assert numbers(model) == list(range(500))


def test_reordered_frames_arrive_after_their_successors_and_none_is_missing() -> None:
    """A frame held back is overtaken, and still comes."""
    model = LinkModel(LinkCondition(reorder=0.1), seed=1)
    feed(model, 500)
    got = numbers(model)

    assert sorted(got) == list(range(500))
    late = [number for place, number in enumerate(got[1:], 1) if number < max(got[:place])]
    assert len(late) == pytest.approx(model.counters.reordered, abs=2)  # the last ones have no successor
    assert model.counters.reordered == pytest.approx(50, abs=20)


def test_reordering_works_on_a_slow_link() -> None:
    """Also where one frame takes longer on the line than the shortest hold."""
    model = LinkModel(LinkCondition(rate=256_000, queue=10, reorder=0.2), seed=1)
    feed(model, 100)

    assert numbers(model) != sorted(range(100))


def test_duplicated_frames_arrive_twice_in_a_row() -> None:
    """A copy follows right behind its original."""
    model = LinkModel(LinkCondition(delay=0.01, duplicate=0.2), seed=1)
    feed(model, 300)
    got = numbers(model)

    assert got == sorted(got)
    assert set(got) == set(range(300))
    assert len(got) - 300 == model.counters.duplicated == pytest.approx(60, abs=25)


def test_corrupted_frames_differ_in_one_bit() -> None:
    """Corruption is one bit, and counted."""
    model = LinkModel(LinkCondition(corrupt=1), seed=1)
    original = ipv4(7)
    model.handle_frame(0.0, original)
    [(_, frame)] = arrivals(model)

    difference = int.from_bytes(frame, "big") ^ int.from_bytes(original, "big")
    assert difference.bit_count() == 1
    assert model.counters.corrupted == 1


def test_rate_shapes_to_the_bits_per_second() -> None:
    """Frames offered faster leave at the rate of the line."""
    model = LinkModel(LinkCondition(rate=9.6e6, queue=5), seed=1)  # 1 ms for each frame of 1200 bytes
    feed(model, 1000, interval=0.0001)

    times = [due for due, _ in arrivals(model)]

    assert len(times) == 1000
    assert times[-1] == pytest.approx(1.0, rel=1e-6)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) == pytest.approx(0.001) == max(gaps)


def test_full_queue_drops_the_newest_frame() -> None:
    """No frame waits longer than the queue before it is sent; the rest is dropped at the tail."""
    model = LinkModel(LinkCondition(rate=9.6e6, queue=0.050, delay=0.2), seed=1)
    feed(model, 1000, interval=0.0)

    got = arrivals(model)

    assert [number_of(frame) for _, frame in got] == list(range(len(got)))
    assert len(got) == pytest.approx(51, abs=1)
    assert got[-1][0] <= 0.2 + 0.050 + 0.0011
    assert model.counters.queue_dropped == 1000 - len(got)


def test_idle_line_takes_a_frame_with_no_queue_at_all() -> None:
    """A queue of zero is a line without a buffer, and not a dead one."""
    model = LinkModel(LinkCondition(rate=9.6e6, queue=0), seed=1)
    feed(model, 3, interval=0.0011)

    assert numbers(model) == [0, 1, 2]


def test_slow_rate_keeps_the_pace_after_a_pause() -> None:
    """An idle line saves up nothing: there is no burst above the rate."""
    model = LinkModel(LinkCondition(rate=9.6e6, queue=1), seed=1)
    model.handle_frame(0.0, ipv4(0))
    model.handle_frame(10.0, ipv4(1))
    model.handle_frame(10.0, ipv4(2))

    assert [due for due, _ in arrivals(model)] == pytest.approx([0.001, 10.001, 10.002])


def fates(condition: LinkCondition, seed: int, interval: float = 0.001) -> list[bytes]:
    """What arrives of 400 frames, by number and content, whatever the order."""
    model = LinkModel(condition, seed)
    feed(model, 400, interval)
    return sorted((frame for _, frame in arrivals(model)), key=lambda frame: (number_of(frame), frame))


def test_same_seed_gives_the_same_fates_whatever_the_timing() -> None:
    """Seed, condition and order decide what is lost, doubled and damaged, and time does not."""
    assert fates(ROUGH, 7, 0.001) == fates(ROUGH, 7, 0.1)


def test_other_seed_gives_other_fates() -> None:
    """The seed is really used."""
    assert fates(ROUGH, 7) != fates(ROUGH, 8)


def test_changing_one_field_leaves_the_other_fates_alone() -> None:
    """Jitter, duplicates and reordering do not shift which frames are lost."""
    lossy = LinkCondition(loss=0.2)
    lost = set(range(400)) - {number_of(frame) for frame in fates(lossy, 7)}

    for changes in ({"jitter": 0.01, "delay": 0.02}, {"duplicate": 0.3}, {"reorder": 0.3}, {"rate": 1e9}):
        still = fates(lossy.with_(**changes), 7)
        assert set(range(400)) - {number_of(frame) for frame in still} == lost


def test_tail_drop_does_not_shift_the_lottery() -> None:
    """A frame dropped by the queue has drawn its lots all the same."""
    free = LinkModel(LinkCondition(loss=0.3), seed=3)
    full = LinkModel(LinkCondition(loss=0.3, rate=1e6, queue=0.01), seed=3)
    feed(free, 300)
    feed(full, 300)

    assert full.counters.queue_dropped > 0
    assert full.counters.lost == free.counters.lost
    assert set(numbers(full)) < set(numbers(free))


def test_arp_survives_total_loss_and_shifts_nothing() -> None:
    """Address resolution is delayed with the rest, never lost, and takes no draw."""
    condition = LinkCondition(delay=0.03, loss=0.5, corrupt=1, duplicate=1)
    plain, chatty = LinkModel(condition, seed=5), LinkModel(condition, seed=5)
    feed(plain, 100)
    for number in range(100):
        chatty.handle_frame(number * 0.001, arp())
        chatty.handle_frame(number * 0.001, ipv4(number))

    got = [frame for _, frame in arrivals(chatty)]

    assert got.count(arp()) == 100
    assert [frame for frame in got if frame != arp()] == [frame for _, frame in arrivals(plain)]
    dead = LinkModel(LinkCondition(loss=1, delay=0.03), seed=5)
    dead.handle_frame(1.0, arp())
    assert dead.next_due == pytest.approx(1.03)


def test_frames_under_way_keep_their_time_when_the_condition_changes() -> None:
    """A shorter delay lets nobody overtake those already on the link."""
    model = LinkModel(LinkCondition(delay=0.5), seed=1)
    model.handle_frame(0.0, ipv4(0))

    model.condition = LinkCondition(delay=0.1)
    model.handle_frame(0.1, ipv4(1))
    model.handle_frame(0.6, ipv4(2))

    assert [due for due, _ in arrivals(model)] == pytest.approx([0.5, 0.5, 0.7])


def test_lifted_rate_limit_still_sends_the_backlog_first() -> None:
    """Frames queued at the slow rate come at their time, and new ones right behind."""
    model = LinkModel(LinkCondition(rate=9.6e6, queue=1), seed=1)
    feed(model, 100, interval=0.0)

    model.condition = LinkCondition()
    model.handle_frame(0.001, ipv4(100))

    assert not model.is_idle_and_clear
    assert numbers(model) == list(range(101))
    assert model.is_idle_and_clear


def test_rate_that_comes_back_starts_with_an_empty_queue() -> None:
    """A backlog from before an unlimited time is not held against new frames."""
    model = LinkModel(LinkCondition(rate=1e6, queue=5), seed=1)
    feed(model, 100, interval=0.0)
    model.condition = LinkCondition()
    model.poll(END)

    model.condition = LinkCondition(rate=9.6e6, queue=0.01)
    model.handle_frame(50.0, ipv4(1))

    assert model.next_due == pytest.approx(50.001)


def test_memory_is_bounded_and_the_excess_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood into a long delay is dropped beyond the bound, and said to be."""
    monkeypatch.setattr(model_module, "MAX_PENDING_BYTES", 12_000)
    model = LinkModel(LinkCondition(delay=1), seed=1)
    feed(model, 25, interval=0.0)

    assert numbers(model) == list(range(10))
    assert model.counters.overflowed == 15
    model.handle_frame(5.0, ipv4(99))
    assert model.next_due == pytest.approx(6.0)


def test_forgotten_frames_never_arrive_and_leave_no_backlog() -> None:
    """A cut cable loses what is on it; afterwards the line is idle."""
    model = LinkModel(LinkCondition(delay=0.1, rate=1e6, queue=5), seed=1)
    feed(model, 10, interval=0.0)

    assert model.forget_frames() == 10
    assert model.poll(END) == []
    model.handle_frame(0.01, ipv4(1))
    assert model.next_due == pytest.approx(0.01 + 0.0096 + 0.1)


probabilities = st.floats(0, 0.4)
conditions = st.builds(
    LinkCondition,
    delay=st.floats(0, 0.5),
    jitter=st.floats(0, 0.2),
    loss=probabilities,
    burst=st.floats(1, 20),
    rate=st.none() | st.floats(1e5, 1e9),
    queue=st.floats(0, 1),
    reorder=probabilities,
    duplicate=probabilities,
    corrupt=probabilities,
    ecn=st.none()
    | st.builds(Ecn, mark=probabilities, drop_others=st.booleans(), middlebox=st.sampled_from(EcnMiddlebox)),
)


@given(
    condition=conditions,
    seed=st.integers(0, 2**32),
    gaps=st.lists(st.tuples(st.floats(0, 0.1), st.booleans()), max_size=60),
)
def test_every_frame_is_accounted_for(
    condition: LinkCondition, seed: int, gaps: list[tuple[float, bool]]
) -> None:
    """Whatever the condition, each frame is delivered or counted as dropped, and none comes from the past."""
    model, now = LinkModel(condition, seed), 0.0
    for number, (gap, is_arp) in enumerate(gaps):
        now += gap
        model.handle_frame(now, arp() if is_arp else ipv4(number, size=100))
        assert model.next_due is None or model.next_due >= 0
    got = arrivals(model)

    counters = model.counters
    assert [due for due, _ in got] == sorted(due for due, _ in got)
    assert counters.delivered == len(got)
    assert counters.delivered == (
        counters.frames + counters.duplicated - counters.lost - counters.queue_dropped - counters.ecn_dropped
    )
    assert sum(frame == arp() for _, frame in got) == sum(is_arp for _, is_arp in gaps)
