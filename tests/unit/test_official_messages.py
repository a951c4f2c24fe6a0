"""What a ticker's log and an address say."""

from __future__ import annotations

import dataclasses

from pytest_iroh import official
from pytest_iroh.official.messages import OfficialAddr, TickerLog, address_arguments


def log(echoes: list[tuple[int, float]], *, at: float = 1.0) -> TickerLog:
    """A log of ten messages, one each 0.1 s from 0."""
    return TickerLog(tuple(n / 10 for n in range(10)), tuple(echoes), at, None)


def test_silence_between_two_echoes_is_a_gap() -> None:
    """A gap runs from the last echo before a silence to the first after it."""
    assert log([(0, 0.01), (1, 0.11), (2, 0.71), (9, 0.95)]).gaps(0.25) == ((0.11, 0.71),)


def test_silence_that_lasts_until_now_is_a_gap() -> None:
    """A ticker that never hears anything again shows it, and one that never did as well."""
    assert log([(0, 0.01)], at=5.0).gaps(1.0) == ((0.01, 5.0),)
    assert log([], at=5.0).gaps(1.0) == ((0.0, 5.0),)


def test_healing_counts_only_messages_sent_after_the_event() -> None:
    """An echo that was under way when the event came is no proof of healing."""
    ticker = log([(4, 0.46), (5, 0.72), (6, 0.73)])
    assert ticker.healed_at(0.45) == 0.72
    assert ticker.healed_at(0.95) is None


def test_doubled_or_lost_message_is_not_in_order() -> None:
    """In order means each message once, from the first."""
    assert log([(0, 0.1), (1, 0.2)]).in_order
    assert not log([(0, 0.1), (0, 0.2)]).in_order
    assert not log([(1, 0.2)]).in_order
    assert log([(0, 0.1)]).unanswered == 9


@dataclasses.dataclass(frozen=True)
class ForeignAddr:
    """An address class of somebody else."""

    node_id: str
    relay_url: None
    direct_addresses: frozenset[tuple[str, int]]


def test_addresses_of_any_shape_become_text() -> None:
    """Tuples and text both arrive at the runner as ip:port, v6 in brackets."""
    pairs = address_arguments(ForeignAddr("ab", None, frozenset({("fd00::1", 5)})))
    assert pairs == {"node_id": "ab", "relay_url": None, "direct_addresses": ["[fd00::1]:5"]}
    texts = address_arguments(OfficialAddr("ab", "http://relay", ("1.2.3.4:5",)))
    assert texts == {"node_id": "ab", "relay_url": "http://relay", "direct_addresses": ["1.2.3.4:5"]}


def test_every_public_name_can_be_imported() -> None:
    """The lazy imports of the package name things that exist."""
    assert sorted(official._HOMES) == sorted(official.__all__)
    assert all(getattr(official, name) is not None for name in official.__all__)
