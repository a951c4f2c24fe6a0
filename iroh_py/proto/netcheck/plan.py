"""Which probes are sent when (PROTOCOL.md 5.4). Pure functions; all times in seconds from the run's start."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iroh_py.network import Family
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

#: Between attempts while nothing is known, and with a known latency beyond 1.2 times of it (5.2).
INITIAL_RETRANSMIT = 0.1
ACTIVE_RETRANSMIT = 0.2
RETRANSMIT_EXTRA = 0.05
LATENCY_FACTOR = 1.2
#: Attempts of a first plan, and of later ones for the home relay (it must not be lost by chance), the next
#: best, and the rest.
INITIAL_ATTEMPTS = 3
HOME_ATTEMPTS = 4
NEAR_ATTEMPTS = 2
FAR_ATTEMPTS = 1
#: Relays asked in an incremental run, and as many answers are enough for any run (5.2).
ENOUGH_RELAYS = 3


class ProbeKind(enum.Enum):
    """How a relay is asked."""

    STUN4 = "stun4"
    STUN6 = "stun6"
    HTTPS = "https"
    ICMP4 = "icmp4"
    ICMP6 = "icmp6"

    @property
    def family(self) -> Family | None:
        """The address family, None if any will do."""
        return _FAMILIES[self]

    @property
    def is_stun(self) -> bool:
        """Whether it goes out by the endpoint's own UDP sockets, and tells our address."""
        return self in (ProbeKind.STUN4, ProbeKind.STUN6)

    @property
    def is_icmp(self) -> bool:
        """Whether it needs a right that this process may not have."""
        return self in (ProbeKind.ICMP4, ProbeKind.ICMP6)


_FAMILIES = {
    ProbeKind.STUN4: Family.V4,
    ProbeKind.STUN6: Family.V6,
    ProbeKind.HTTPS: None,
    ProbeKind.ICMP4: Family.V4,
    ProbeKind.ICMP6: Family.V6,
}
_STUN = {Family.V4: ProbeKind.STUN4, Family.V6: ProbeKind.STUN6}
_ICMP = {Family.V4: ProbeKind.ICMP4, Family.V6: ProbeKind.ICMP6}


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """One relay asked in one way, several times; the first answer ends it.

    ``always``: also when the relay's latency is known already, since the question is whether this way works.
    """

    kind: ProbeKind
    relay: RelayNode
    delays: tuple[float, ...]
    always: bool = False


def initial_plan(relays: Sequence[RelayNode], families: Sequence[Family]) -> list[ProbeSet]:
    """Every relay, first by STUN, then by whatever else may work where UDP does not."""
    stun = _steps(INITIAL_RETRANSMIT)
    other = _steps(INITIAL_RETRANSMIT, after=INITIAL_ATTEMPTS * INITIAL_RETRANSMIT)
    sets = []
    for relay in relays:
        sets += _stun_sets(relay, families, stun)
        sets += _other_sets(relay, families, other)
    return sets


def failover_plan(relays: Sequence[RelayNode], families: Sequence[Family]) -> list[ProbeSet]:
    """The home relay cannot be reached: which relays take TCP connections? Asked at once, of all."""
    https = tuple(n * ENOUGH_RELAYS * INITIAL_RETRANSMIT for n in range(NEAR_ATTEMPTS))
    sets = [ProbeSet(ProbeKind.HTTPS, relay, https, always=True) for relay in relays if not relay.stun_only]
    for relay in relays:
        sets += _stun_sets(relay, families, _steps(INITIAL_RETRANSMIT))
    return sets


def incremental_plan(
    relays: Sequence[RelayNode],
    families: Sequence[Family],
    *,
    latency: Mapping[RelayUrl, float],
    family_latency: Mapping[Family, Mapping[RelayUrl, float]],
    preferred: RelayUrl | None,
) -> list[ProbeSet]:
    """The nearest three relays of the last report; the home relay is always among them.

    The original leaves the home relay out when three others were nearer last time, and so cannot tell that it
    is still there.
    """
    order = sorted(relays, key=lambda r: (latency.get(r.url, float("inf")), r.url))
    chosen = order[:ENOUGH_RELAYS]
    home = next((r for r in order if r.url == preferred), None)
    if home is not None and home not in chosen:
        chosen[-1] = home
    dual = len(families) > 1 and all(family_latency.get(family) for family in families)
    stun: list[tuple[RelayNode, list[Family], int, float, tuple[float, ...]]] = []
    for index, relay in enumerate(chosen):
        asked = list(families)
        if index >= 2 and dual:
            asked = [families[index % 2]]
        elif index >= 2 and not family_latency.get(Family.V6):
            asked = [family for family in families if family is not Family.V6]
        attempts = NEAR_ATTEMPTS if index < 2 else FAR_ATTEMPTS
        if relay.url == preferred:
            attempts = HOME_ATTEMPTS
        known = latency.get(relay.url)
        wait = ACTIVE_RETRANSMIT if known is None else LATENCY_FACTOR * known
        delays = tuple(n * (wait + RETRANSMIT_EXTRA) for n in range(attempts))
        stun.append((relay, asked, attempts, wait, delays))
    after = stun[0][4][-1] if stun else 0.0
    sets = []
    for relay, asked, attempts, wait, delays in stun:
        sets += _stun_sets(relay, asked, delays)
        later = tuple(after + n * wait + (n + 1) * RETRANSMIT_EXTRA for n in range(attempts))
        sets += _other_sets(relay, asked, later)
    return sets


def _steps(interval: float, *, after: float = 0.0) -> tuple[float, ...]:
    return tuple(after + n * interval for n in range(INITIAL_ATTEMPTS))


def _stun_sets(relay: RelayNode, families: Sequence[Family], delays: tuple[float, ...]) -> list[ProbeSet]:
    if relay.stun_port is None:
        return []
    return [ProbeSet(_STUN[family], relay, delays) for family in families]


def _other_sets(relay: RelayNode, families: Sequence[Family], delays: tuple[float, ...]) -> list[ProbeSet]:
    if relay.stun_only:
        return []
    icmp = [ProbeSet(_ICMP[family], relay, delays) for family in families]
    return [ProbeSet(ProbeKind.HTTPS, relay, delays), *icmp]
