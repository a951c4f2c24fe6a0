"""iroh_py.proto.quic.ecn: counting marks, and whether to send with them (RFC 9000 section 13.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.proto.quic.ecn import CE, ECT_0, ECT_1, Arriving, CountedRanges, EcnCounts, EcnState, EcnTrust


def path_under_test(sent: int = 10) -> EcnTrust:
    """A path on which so many marked packets are under way."""
    trust = EcnTrust()
    trust.use_path("a", next_number=5)
    trust.handle_sent(sent)
    return trust


def test_marks_are_counted_by_packet() -> None:
    """A datagram's mark counts for each packet number that came with it, in runs and one by one."""
    arriving = Arriving()
    ranges = CountedRanges(arriving)
    ranges.add(0)
    assert ranges.counts is None
    arriving.codepoint = ECT_0
    ranges.add(1, 10)
    arriving.codepoint = CE
    ranges.add(10)
    arriving.codepoint = ECT_1
    ranges.add(11, 13)
    assert ranges.counts == (9, 2, 1)
    assert list(ranges) == [range(13)]


def test_path_whose_marks_are_reported_is_capable() -> None:
    """Until then it is tested, with marks."""
    trust = path_under_test()
    assert (trust.state, trust.marking, trust.begin) == (EcnState.TESTING, True, 5)
    assert not trust.handle_ack(EcnCounts(ect0=4), 4, newest=True)
    assert trust.state is EcnState.CAPABLE


def test_marks_of_congestion_are_reported_once() -> None:
    """Only what is new says that the network is congested now."""
    trust = path_under_test()
    assert trust.handle_ack(EcnCounts(ect0=3, ce=1), 4, newest=True)
    assert not trust.handle_ack(EcnCounts(ect0=5, ce=1), 2, newest=True)
    assert trust.handle_ack(EcnCounts(ect0=5, ce=2), 1, newest=True)
    assert trust.state is EcnState.CAPABLE


@pytest.mark.parametrize(
    ("counts", "acked"),
    [
        (None, 1),  # cleared on the way, or the peer cannot tell
        (EcnCounts(ect0=2), 3),  # some were cleared
        (EcnCounts(ect0=3, ect1=1), 3),  # nobody sends ECT(1)
        (EcnCounts(ect0=11), 3),  # more than were sent
        (EcnCounts(ce=(1 << 62) - 1), 3),
        (EcnCounts(ect0=1), 2),
    ],
)
def test_counts_that_do_not_add_up_end_marking(counts: EcnCounts | None, acked: int) -> None:
    """Whatever the reason, the path is not trusted, and no congestion is believed."""
    trust = path_under_test()
    assert not trust.handle_ack(counts, acked, newest=True)
    assert (trust.state, trust.marking) == (EcnState.FAILED, False)


def test_counts_that_shrink_end_marking() -> None:
    """Counters only grow."""
    trust = path_under_test()
    trust.handle_ack(EcnCounts(ect0=4), 4, newest=True)
    trust.handle_ack(EcnCounts(ect0=3), 0, newest=True)
    assert trust.state is EcnState.FAILED


def test_late_acknowledgement_proves_nothing() -> None:
    """One that was overtaken has older counts (section 13.4.2.1)."""
    trust = path_under_test()
    trust.handle_ack(EcnCounts(ect0=6), 6, newest=True)
    assert not trust.handle_ack(EcnCounts(ect0=2), 2, newest=False)
    assert not trust.handle_ack(None, 2, newest=False)
    assert trust.state is EcnState.CAPABLE


def test_new_path_is_tested_anew_and_a_failed_one_only_after_another() -> None:
    """Doubt about a path (several at once) does not give it another chance; another path in between does."""
    trust = path_under_test()
    trust.handle_ack(None, 1, newest=True)
    states = []
    for path, number in ((None, 20), ("a", 21)):
        trust.use_path(path, number)
        states.append(trust.state)
    assert states == [EcnState.OFF, EcnState.FAILED]
    trust.use_path("b", 30)
    assert (trust.state, trust.begin) == (EcnState.TESTING, 30)
    trust.use_path("a", 40)
    assert trust.state is EcnState.TESTING


def test_silence_is_blamed_on_marks_at_once_in_a_test_and_later_on_a_proven_path() -> None:
    """A network that eats ECT costs one probe timeout; an outage of a proven path is more likely just that."""
    trust = path_under_test()
    trust.handle_timeout()
    assert trust.state is EcnState.FAILED
    unused = EcnTrust()
    unused.use_path("a", next_number=5)
    unused.handle_timeout()
    assert unused.state is EcnState.TESTING  # nothing was marked yet
    proven = path_under_test()
    proven.handle_ack(EcnCounts(ect0=4), 4, newest=True)
    states = []
    for _timeout in range(3):
        proven.handle_timeout()
        states.append(proven.state)
    assert states == [EcnState.CAPABLE, EcnState.CAPABLE, EcnState.FAILED]


COUNT = st.integers(0, (1 << 62) - 1)


@given(
    st.lists(
        st.tuples(st.none() | st.builds(EcnCounts, COUNT, COUNT, COUNT), st.integers(0, 100), st.booleans())
    )
)
def test_any_counts_leave_a_state_and_never_congestion_without_trust(
    acks: list[tuple[EcnCounts | None, int, bool]],
) -> None:
    """Hostile peers choose the counts; a path that failed stays so, and more marks than packets are no congestion."""
    trust = path_under_test(sent=100)
    for counts, acked, newest in acks:
        failed = trust.state is EcnState.FAILED
        congested = trust.handle_ack(counts, acked, newest=newest)
        assert not (failed and (congested or trust.marking))
        assert not congested or (counts is not None and counts.ce <= 100)
