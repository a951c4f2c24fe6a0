"""Link conditions known by name, each with the place its numbers come from.

All numbers are one way and for one direction; put them on both directions for the usual meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from netns_fixtures.errors import TopologyError
from netns_fixtures.link import LinkCondition

PATCHBAY_LINKS = "patchbay 0.7 link presets (LAB 2.4)"
IROH_DEGRADE = "iroh a05c9c4142 patchbay tests, degrade ladder, round trip halved (LAB 2.10)"

# The ladder names no buffer; 400 ms is what patchbay 0.1 gave its rate limiter (LAB 2.4). With less, the
# slowest level (256 kbit/s) could not even hold the three packets of a QUIC handshake flight.
DEGRADE_QUEUE = 0.4


@dataclass(frozen=True, slots=True)
class LinkPreset:
    """A named condition of one direction, and where its numbers come from."""

    name: str
    condition: LinkCondition
    source: str


def link(name: str) -> LinkCondition:
    """The condition known by that name; raises TopologyError naming those that exist."""
    try:
        return LINKS[name].condition
    except KeyError:
        raise TopologyError(f"no link preset {name!r}; there are {', '.join(LINKS)}") from None


def degrade(level: int) -> LinkCondition:
    """Rung 0 (good wifi) to 8 (absurd) of iroh's ladder; raises TopologyError for another number."""
    if not 0 <= level < len(DEGRADE_LEVELS):
        raise TopologyError(f"no degrade level {level}; there are 0 to {len(DEGRADE_LEVELS) - 1}")
    return DEGRADE_LEVELS[level].condition


def _patchbay(
    name: str, mbit: float | None, delay: float, jitter: float, loss: float, burst: float, queue: float
) -> LinkPreset:
    """One row of patchbay's table: Mbit/s, ms, ms, percent, frames, ms."""
    return LinkPreset(
        name,
        LinkCondition(
            rate=None if mbit is None else mbit * 1e6,
            delay=delay / 1e3,
            jitter=jitter / 1e3,
            loss=loss / 100,
            burst=burst,
            queue=queue / 1e3,
        ),
        PATCHBAY_LINKS,
    )


def _rung(level: int, name: str, mbit: float, round_trip: float, loss: float, burst: float) -> LinkPreset:
    """One rung of the ladder: Mbit/s, ms there and back, percent, frames."""
    return LinkPreset(
        f"degrade-{level}-{name}",
        LinkCondition(
            rate=mbit * 1e6, delay=round_trip / 2e3, loss=loss / 100, burst=burst, queue=DEGRADE_QUEUE
        ),
        IROH_DEGRADE,
    )


# fmt: off
_PATCHBAY = (
    #                        Mbit  delay jitter loss burst queue
    _patchbay("lan",           None,   1,  0, 0.0, 1, 100),
    _patchbay("wifi",           200,   4,  2, 0.1, 5,  15),
    _patchbay("wifi-bad",        25,  25, 15, 1.5, 8,  60),
    _patchbay("mobile-4g",       40,  25, 10, 0.3, 6, 100),
    _patchbay("mobile-3g",        3,  80, 25, 0.5, 6, 250),
    _patchbay("satellite",      100,  22, 10, 0.5, 4,  50),
    _patchbay("satellite-geo",   25, 300, 20, 0.3, 4, 600),
)

DEGRADE_LEVELS: tuple[LinkPreset, ...] = (
    #                                   Mbit   rtt  loss burst
    _rung(0, "good-wifi",              100.0,   16,  0.1,  1),
    _rung(1, "congested-wifi",          25.0,   40,  1.0,  6),
    _rung(2, "weak-4g",                  8.0,   90,  2.0,  8),
    _rung(3, "slow-3g",                  3.0,  200,  3.0, 10),
    _rung(4, "congested-cellular",       1.5,  300,  5.0, 12),
    _rung(5, "very-bad-cellular",        0.8,  450,  8.0, 20),
    _rung(6, "satellite",               25.0,  600,  1.5,  6),
    _rung(7, "barely-usable",            0.5,  450, 12.0, 25),
    _rung(8, "absurd",                 0.256,  800, 25.0, 40),
)
# fmt: on

LINKS: Mapping[str, LinkPreset] = MappingProxyType(
    {preset.name: preset for preset in (*_PATCHBAY, *DEGRADE_LEVELS)}
)
