"""The probe plans, as tables (PROTOCOL.md 5.4)."""

from __future__ import annotations

import pytest

from iroh_py.network import Family
from iroh_py.proto.netcheck.plan import (
    ProbeKind,
    ProbeSet,
    failover_plan,
    incremental_plan,
    initial_plan,
)
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

V4, V6 = Family.V4, Family.V6
STUN4, STUN6, HTTPS = ProbeKind.STUN4, ProbeKind.STUN6, ProbeKind.HTTPS
ICMP4, ICMP6 = ProbeKind.ICMP4, ProbeKind.ICMP6
RELAYS = [RelayNode(RelayUrl(f"http://relay{n}.test./")) for n in range(5)]
URLS = [relay.url for relay in RELAYS]


def delays(plan: list[ProbeSet], relay: RelayNode, kind: ProbeKind) -> tuple[float, ...] | None:
    """When a relay is asked in some way, in seconds rounded to 1 ms."""
    found = [one.delays for one in plan if one.relay == relay and one.kind is kind]
    return tuple(round(delay, 3) for delay in found[0]) if found else None


@pytest.mark.parametrize(
    ("families", "kinds"),
    [
        ((V4,), {STUN4, HTTPS, ICMP4}),
        ((V6,), {STUN6, HTTPS, ICMP6}),
        ((V4, V6), {STUN4, STUN6, HTTPS, ICMP4, ICMP6}),
        ((), {HTTPS}),
    ],
)
def test_initial_plan_asks_every_relay_in_every_possible_way(
    families: tuple[Family, ...], kinds: set[ProbeKind]
) -> None:
    """STUN at 0, 100, 200 ms; whatever works without UDP at 300, 400, 500 ms."""
    plan = initial_plan(RELAYS, families)
    for relay in RELAYS:
        assert {one.kind for one in plan if one.relay == relay} == kinds
    for one in plan:
        expected = (0.0, 0.1, 0.2) if one.kind.is_stun else (0.3, 0.4, 0.5)
        assert one.delays == pytest.approx(expected)


def test_relay_for_stun_only_gets_nothing_else() -> None:
    """``stun_only`` relays serve no HTTP, and are asked by no ping."""
    relay = RelayNode(RelayUrl("http://stun.test./"), stun_only=True)
    assert {one.kind for one in initial_plan([relay], (V4, V6))} == {STUN4, STUN6}


def test_relay_without_stun_is_asked_over_tcp() -> None:
    """``stun_port`` None means no STUN probe."""
    relay = RelayNode(RelayUrl("http://tcp.test./"), stun_port=None)
    assert {one.kind for one in initial_plan([relay], (V4,))} == {HTTPS, ICMP4}


def test_incremental_plan_asks_the_nearest_three() -> None:
    """Sorted by the last latency; unknown ones last."""
    latency = {URLS[3]: 0.01, URLS[1]: 0.02, URLS[4]: 0.03}
    plan = incremental_plan(RELAYS, (V4,), latency=latency, family_latency={V4: latency}, preferred=URLS[3])
    assert [one.relay for one in plan if one.kind is STUN4] == [RELAYS[3], RELAYS[1], RELAYS[4]]


def test_incremental_plan_repeats_by_the_known_latency() -> None:
    """Home relay 4 attempts, the next 2, the third 1; each at n * (1.2 * latency + 50 ms)."""
    latency = {URLS[0]: 0.1, URLS[1]: 0.2, URLS[2]: 0.3}
    plan = incremental_plan(RELAYS, (V4,), latency=latency, family_latency={V4: latency}, preferred=URLS[0])
    assert delays(plan, RELAYS[0], STUN4) == (0.0, 0.17, 0.34, 0.51)
    assert delays(plan, RELAYS[1], STUN4) == (0.0, 0.29)
    assert delays(plan, RELAYS[2], STUN4) == (0.0,)
    assert delays(plan, RELAYS[0], HTTPS) == (0.56, 0.73, 0.9, 1.07)
    assert delays(plan, RELAYS[2], ICMP4) == (0.56,)


def test_incremental_plan_alternates_families_from_the_third_relay_on() -> None:
    """On dual stack the third relay (index 2) is asked by IPv4 only."""
    latency = dict.fromkeys(URLS, 0.1)
    both = {V4: latency, V6: latency}
    plan = incremental_plan(RELAYS, (V4, V6), latency=latency, family_latency=both, preferred=None)
    third = [one.kind for one in plan if one.relay == RELAYS[2]]
    assert third == [STUN4, HTTPS, ICMP4]
    assert {one.kind for one in plan if one.relay == RELAYS[1]} == {STUN4, STUN6, HTTPS, ICMP4, ICMP6}


def test_incremental_plan_leaves_ipv6_of_the_third_relay_where_it_did_not_answer() -> None:
    """No IPv6 latency last time: the third relay is not asked over IPv6."""
    latency = dict.fromkeys(URLS, 0.1)
    plan = incremental_plan(
        RELAYS, (V4, V6), latency=latency, family_latency={V4: latency, V6: {}}, preferred=None
    )
    assert STUN6 not in {one.kind for one in plan if one.relay == RELAYS[2]}


def test_home_relay_is_always_asked() -> None:
    """Even when three others were nearer last time: whether it is still there matters most."""
    latency = {url: 0.01 * (n + 1) for n, url in enumerate(URLS)}
    plan = incremental_plan(RELAYS, (V4,), latency=latency, family_latency={V4: latency}, preferred=URLS[4])
    assert {one.relay for one in plan} == {RELAYS[0], RELAYS[1], RELAYS[4]}


def test_failover_plan_asks_over_tcp_at_once_and_whatever_stun_says() -> None:
    """Whether a relay takes connections is the question, and STUN cannot answer it."""
    plan = failover_plan(RELAYS, (V4,))
    https = [one for one in plan if one.kind is HTTPS]
    assert len(https) == len(RELAYS)
    assert all(one.always and one.delays[0] == 0.0 for one in https)
