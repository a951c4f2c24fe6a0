"""io/links.py: what link flags mean in view of the link's past; rtnetlink's message splitting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iroh_py.io import rtnetlink
from iroh_py.io.links import MAX_REMEMBERED, LinkHistory
from iroh_py.io.rtnetlink import IFF_DORMANT, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, Link

DOWN = 0
DARK = IFF_UP
FRESH = IFF_UP | IFF_LOWER_UP
READY = IFF_UP | IFF_LOWER_UP | IFF_RUNNING


def look(history: LinkHistory, flags: int, carrier_ups: int = 0, index: int = 2) -> tuple[bool, int]:
    """A look that finds one link: whether it is running, and its generation."""
    history.look([Link(index, "wlan0", "", flags, carrier_ups)])
    return history.running(index), history.generation(index)


def test_link_that_is_ready_is_running() -> None:
    """Carrier and an open queue: packets pass."""
    assert look(LinkHistory(), READY) == (True, 1)


def test_link_brought_up_runs_before_the_kernel_announces_it() -> None:
    """After administrative up the queue is open at once, IFF_RUNNING follows up to a second later."""
    history = LinkHistory()
    look(history, DOWN)
    assert look(history, FRESH) == (True, 1)


def test_returned_carrier_counts_with_its_announcement() -> None:
    """After a lost carrier the queue stays shut until the kernel announces the return."""
    history = LinkHistory()
    look(history, READY)
    assert look(history, DARK)[0] is False
    assert look(history, FRESH)[0] is False
    assert look(history, READY) == (True, 2)


def test_unauthenticated_link_is_not_running() -> None:
    """A dormant link (Wi-Fi before its handshake, 802.1X) has carrier but lets nothing pass."""
    assert look(LinkHistory(), FRESH | IFF_DORMANT)[0] is False


def test_flap_between_looks_raises_the_generation() -> None:
    """Down and up in one batch of events looks the same as before, but is another generation."""
    history = LinkHistory()
    assert look(history, READY) == (True, 1)
    for flags in (DARK, READY):
        history.event(2, flags)
    assert look(history, READY) == (True, 2)
    assert look(history, READY) == (True, 2)


def test_flap_without_events_raises_the_generation() -> None:
    """The kernel's own count of carriers tells of flaps whose events were lost."""
    history = LinkHistory()
    look(history, READY, carrier_ups=5)
    assert look(history, READY, carrier_ups=7) == (True, 2)


def test_link_that_was_gone_is_of_a_new_generation() -> None:
    """An adapter plugged in again under the same index may lead elsewhere."""
    history = LinkHistory()
    look(history, READY)
    history.look([])
    assert look(history, READY) == (True, 2)


def test_carrier_is_followed_by_bare_flags() -> None:
    """A glance at the flags finds a lost carrier, and its return once the queue is open."""
    history = LinkHistory()
    look(history, READY)
    assert not history.glance([(2, READY), (9, READY)])
    assert history.glance([(2, DARK)])
    look(history, DARK)
    assert not history.glance([(2, FRESH)])
    assert history.glance([(2, READY)])
    assert look(history, READY) == (True, 2)
    assert not history.glance([(2, READY)])


def test_memory_is_bounded() -> None:
    """Links that come and go for days do not pile up (Never 10)."""
    history = LinkHistory()
    for index in range(2, 2 * MAX_REMEMBERED):
        look(history, READY, index=index)
    assert history.remembered <= MAX_REMEMBERED + 1


@given(st.binary(max_size=200))
def test_any_bytes_split_into_whole_messages(data: bytes) -> None:
    """The splitter gives whole messages or ends, whatever it is fed."""
    for _, _, message in rtnetlink.messages(data):
        assert len(message) >= rtnetlink.HEADER.size
