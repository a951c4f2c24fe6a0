"""One netcheck run under a hand-moved clock (PROTOCOL.md 5.4, 5.5), and when addresses are told (5.8)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from netcheck_run_kit import MINE, SIX, V4, V6

from iroh_py.network import Addr, Family
from iroh_py.proto import stun
from iroh_py.proto.netcheck.addresses import GRACE, PATIENCE, Publication
from iroh_py.proto.netcheck.plan import ProbeKind, failover_plan, initial_plan
from iroh_py.proto.netcheck.run import (
    OVERALL_TIMEOUT,
    PORTAL_DELAY,
    PROBES_TIMEOUT,
    CheckPortal,
    Measure,
    NetcheckRun,
    Resolve,
    SendHairpin,
    SendStun,
)
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

NEAR, FAR = (RelayNode(RelayUrl(f"http://198.51.100.{n}/")) for n in (1, 2))


class Bench:
    """A run with two relays and a clock."""

    def __init__(self, *, families: tuple[Family, ...] = (V4,), **options: object) -> None:
        plan = failover_plan if options.get("failover") else initial_plan
        self.now = 10.0
        self.run = NetcheckRun(
            self.now,
            plan([NEAR, FAR], families),
            rng=random.Random(1),
            full=True,
            **options,  # type: ignore[arg-type]
        )
        self.did: list[object] = []
        for relay in (NEAR, FAR):
            ips = [relay.url.host]
            if V6 in families:
                ips.append(f"2001:db8:f::{relay.url.host[-1]}")
            self.run.handle_addresses(self.now, relay.url, ips)
        self._take()

    def _take(self) -> None:
        self.did += self.run.actions
        self.run.actions.clear()

    def until(self, at: float) -> None:
        """Let time pass until ``at`` seconds after the start, doing what is due on time."""
        end = 10.0 + at
        while (due := self.run.next_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.run.handle_timeout(self.now)
            self._take()
        self.now = end

    def stun(self, relay: RelayNode, mapped: Addr = MINE) -> None:
        """The relay answers its last request of that family."""
        family = Family.of(mapped[0])
        sent = [a for a in self.did if isinstance(a, SendStun) and Family.of(a.addr[0]) is family]
        asked = [a for a in sent if a.addr[0] == relay.url.host or a.addr[0].endswith(relay.url.host[-1])]
        data = stun.encode_response(stun.parse_request(asked[-1].data), mapped)
        assert self.run.handle_stun(self.now, data, asked[-1].addr)
        self._take()

    def count(self, kind: type, relay: RelayNode) -> int:
        """Actions of a kind for a relay."""
        if kind is SendStun:
            return sum(isinstance(a, SendStun) and a.addr[0] == relay.url.host for a in self.did)
        return sum(isinstance(a, Measure | CheckPortal) and a.relay == relay for a in self.did)


def told(b: Bench, *families: Family) -> float:
    """When they are due, in seconds from the start."""
    return Publication(10.0, families).due(b.run) - 10.0


def test_run_asks_for_addresses_first_and_sends_at_once_when_they_are_known() -> None:
    """Names cost time; literals do not wait for anything."""
    b = Bench()
    assert [a for a in b.did if isinstance(a, Resolve)] == [Resolve(NEAR.url), Resolve(FAR.url)]
    assert b.count(SendStun, NEAR) == b.count(SendStun, FAR) == 1


def test_unanswered_stun_is_repeated_then_other_ways_are_tried() -> None:
    """STUN at 0, 100, 200 ms; HTTPS and ICMP at 300, 400, 500 ms."""
    b = Bench()
    b.until(0.25)
    assert b.count(SendStun, NEAR) == 3
    assert b.count(Measure, NEAR) == 0
    b.until(0.6)
    assert b.count(Measure, NEAR) == 6


def test_answer_ends_the_probing_of_its_relay() -> None:
    """Its latency is known; the other relay is asked on."""
    b = Bench()
    b.until(0.03)
    b.stun(NEAR)
    b.until(0.6)
    assert b.count(SendStun, NEAR) == 1
    assert b.count(Measure, NEAR) == 0
    assert b.count(SendStun, FAR) == 3
    report = b.run.report(b.now)
    assert report.relay_latency == {NEAR.url: pytest.approx(0.03)}
    assert report.global_v4 == MINE
    assert report.udp


def test_all_relays_answered_run_ends_after_twice_the_largest_latency() -> None:
    """Nothing more is to be learnt."""
    b = Bench()
    b.until(0.02)
    b.stun(NEAR)
    b.until(0.05)
    b.stun(FAR)
    b.until(1.0)
    assert b.run.finished
    assert b.run.report(b.now).mapping_varies_by_dest_ip is False


def test_silent_network_ends_the_run_in_time() -> None:
    """No answer at all is a result, too."""
    b = Bench()
    b.until(PROBES_TIMEOUT - 0.01)
    assert not b.run.finished
    b.until(PROBES_TIMEOUT + 0.01)
    assert b.run.finished
    report = b.run.report(b.now)
    assert not report.udp
    assert report.relay_latency == {}


def test_no_udp_relays_are_measured_over_https() -> None:
    """Trap 11: without UDP there are still latencies."""
    b = Bench()
    b.until(0.4)
    b.run.handle_latency(b.now, NEAR.url, ProbeKind.HTTPS, 0.02)
    report = b.run.report(b.now)
    assert report.relay_latency == {NEAR.url: 0.02}
    assert report.https_ok == {NEAR.url}
    assert not report.udp


def test_slow_udp_is_waited_for_although_tcp_answered() -> None:
    """M4: only STUN tells our address; that HTTPS was faster must not cut it off."""
    b = Bench()
    b.until(0.4)
    for relay in (NEAR, FAR):
        b.run.handle_latency(b.now, relay.url, ProbeKind.HTTPS, 0.02)
    b.until(1.2)
    assert not b.run.finished
    b.stun(NEAR)
    assert b.run.report(b.now).global_v4 == MINE


def test_late_answer_counts_even_after_the_end() -> None:
    """Who asked wants to know."""
    b = Bench()
    b.until(PROBES_TIMEOUT + 0.01)
    assert b.run.finished
    b.stun(NEAR)
    assert b.run.report(b.now).global_v4 == MINE


def test_foreign_stun_is_not_ours() -> None:
    """Answers to nobody's question, and garbage, change nothing."""
    b = Bench()
    assert not b.run.handle_stun(b.now, stun.encode_response(bytes(12), MINE), ("198.51.100.1", 3478))
    assert not b.run.handle_stun(b.now, b"\0" * 20, ("198.51.100.1", 3478))
    assert b.run.report(b.now).global_v4 is None


def test_icmp_without_the_right_is_given_up_and_said() -> None:
    """A final failure ends its set; the reason is in the report."""
    b = Bench()
    b.until(0.31)
    b.run.handle_failure(b.now, NEAR.url, ProbeKind.ICMP4, "ICMP skipped: not allowed", final=True)
    b.until(1.0)
    icmp = [a for a in b.did if isinstance(a, Measure) and a.kind is ProbeKind.ICMP4 and a.relay == NEAR]
    assert len(icmp) == 1
    report = b.run.report(b.now)
    assert report.icmpv4 is None
    assert "ICMP skipped: not allowed" in report.notes


def test_unreachable_family_is_skipped_and_said() -> None:
    """No route: no packet, no waiting."""
    b = Bench(families=(V4, V6), reachable=lambda ip: ":" not in ip)
    b.until(0.5)
    assert not [a for a in b.did if isinstance(a, SendStun) and ":" in a.addr[0]]
    assert b.run.settled(V6)
    assert any("no route" in note for note in b.run.report(b.now).notes)


def test_nothing_reachable_ends_the_run_at_once() -> None:
    """Without any route there is nothing to wait for."""
    b = Bench(reachable=lambda ip: False)
    assert b.run.finished


def test_captive_portal_check_runs_without_udp() -> None:
    """Trap 12: after 200 ms, and its result is in the report."""
    b = Bench(portal=NEAR)
    b.until(PORTAL_DELAY - 0.01)
    assert not [a for a in b.did if isinstance(a, CheckPortal)]
    b.until(PORTAL_DELAY + 0.01)
    assert [a.relay for a in b.did if isinstance(a, CheckPortal)] == [NEAR]
    b.run.handle_portal(b.now, True)
    b.until(PROBES_TIMEOUT + 0.01)
    assert b.run.finished
    assert b.run.report(b.now).captive_portal is True


def test_thorough_run_waits_for_the_portal_check_although_udp_works() -> None:
    """The command line wants all of it."""
    b = Bench(portal=NEAR, thorough=True)
    b.until(0.01)
    b.stun(NEAR)
    b.stun(FAR)
    b.until(0.15)
    assert not b.run.finished
    b.until(0.3)
    b.run.handle_portal(b.now, False)
    assert b.run.finished
    assert b.run.report(b.now).captive_portal is False


def test_portal_check_without_answer_does_not_hold_the_report_up() -> None:
    """5 s is the end of everything."""
    b = Bench(portal=NEAR)
    b.until(OVERALL_TIMEOUT + 0.1)
    assert b.run.finished


@pytest.mark.parametrize("works", [True, False])
def test_hairpin_is_tested_once_the_public_address_is_known(works: bool) -> None:
    """A request to ourselves arrives within 100 ms, or not."""
    b = Bench(hairpin=True)
    b.until(0.02)
    b.stun(NEAR)
    sent = [a for a in b.did if isinstance(a, SendHairpin)]
    assert [a.addr for a in sent] == [MINE]
    b.until(0.05)
    if works:
        assert b.run.handle_stun(b.now, sent[0].data, ("203.0.113.1", 5))
    b.until(0.5)
    assert b.run.report(b.now).hair_pinning is works


def test_failover_run_ends_soon_after_the_first_answer_over_tcp() -> None:
    """The other relays get a short grace; a dead one is not waited for."""
    b = Bench(failover=True)
    b.until(0.06)
    b.run.handle_latency(b.now, FAR.url, ProbeKind.HTTPS, 0.02)
    b.stun(NEAR)
    b.stun(FAR)
    b.until(0.3)
    assert not b.run.finished
    b.until(0.5)
    assert b.run.finished
    assert b.run.report(b.now).https_ok == {FAR.url}


@given(st.binary(max_size=80))
def test_any_datagram_is_ours_or_not(data: bytes) -> None:
    """Bytes from anywhere never raise."""
    assert Bench().run.handle_stun(10.0, data, ("192.0.2.1", 1)) in (True, False)


def test_addresses_are_told_with_the_first_answers_of_all_families() -> None:
    """One round trip, whatever else the run waits for."""
    b = Bench(families=(V4, V6))
    b.until(0.03)
    b.stun(NEAR)
    assert told(b, V4) <= 0.03
    assert told(b, V4, V6) == pytest.approx(0.03 + 0.06)
    b.until(0.05)
    b.stun(NEAR, SIX)
    assert told(b, V4, V6) <= 0.05


def test_missing_family_costs_a_short_grace() -> None:
    """Twice the best latency, at most 100 ms."""
    b = Bench(families=(V4, V6))
    b.until(0.5)
    b.stun(NEAR)
    assert told(b, V4, V6) == pytest.approx(0.5 + GRACE)


def test_silence_costs_a_second() -> None:
    """Trap 5: peers do not wait for a report that may never come."""
    b = Bench()
    b.until(0.5)
    assert told(b, V4) == PATIENCE


def test_unreachable_family_is_not_waited_for() -> None:
    """It is settled from the start."""
    b = Bench(families=(V4, V6), reachable=lambda ip: ":" not in ip)
    b.until(0.03)
    b.stun(NEAR)
    assert told(b, V4, V6) <= 0.03
