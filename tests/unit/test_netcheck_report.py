"""Merging answers into a report (PROTOCOL.md 5.5), and the schedule of reports (5.3)."""

from __future__ import annotations

import json

import pytest

from iroh_py.network import Addr, Family
from iroh_py.proto.netcheck.report import MAX_NOTES, Findings, Report
from iroh_py.proto.netcheck.schedule import BURST, FULL_INTERVAL, PERIOD, WITHOUT_UDP, Schedule
from iroh_py.relay_url import RelayUrl

A: Addr = ("198.51.100.1", 3478)
B: Addr = ("198.51.100.2", 3478)
ONE: Addr = ("203.0.113.1", 1000)
TWO: Addr = ("203.0.113.1", 2000)
SIX: Addr = ("2001:db8::1", 1000)
URL = RelayUrl("http://relay.test./")


@pytest.mark.parametrize(
    ("answers", "varies", "first"),
    [
        ([(A, ONE)], None, ONE),
        ([(A, ONE), (A, ONE)], None, ONE),
        ([(A, ONE), (B, ONE)], False, ONE),
        ([(A, ONE), (B, TWO)], True, ONE),
        ([(A, ONE), (B, TWO), (("198.51.100.3", 3478), ONE)], True, ONE),
        ([(A, ONE), (A, TWO)], None, TWO),
        ([(A, ONE), ((A[0], 3479), ONE)], None, ONE),
        ([(A, ONE), ((A[0], 3479), TWO)], True, ONE),
    ],
)
def test_answers_tell_whether_the_mapping_varies(
    answers: list[tuple[Addr, Addr]], varies: bool | None, first: Addr
) -> None:
    """Different servers prove it; one server twice only shows that the NAT was rebound meanwhile."""
    findings = Findings()
    for server, mapped in answers:
        findings.handle_mapped(server, mapped)
    report = findings.report(started=0.0, finished=1.0, full=True)
    assert report.mapping_varies_by_dest_ip is varies
    assert report.global_v4 == first
    assert report.udp
    assert report.ipv4
    assert not report.ipv6


def test_families_are_kept_apart() -> None:
    """An IPv6 answer says nothing about the IPv4 mapping."""
    findings = Findings()
    findings.handle_mapped(A, ONE)
    findings.handle_mapped(("2001:db8::9", 3478), SIX)
    report = findings.report(started=0.0, finished=1.0, full=True)
    assert (report.global_v4, report.global_v6) == (ONE, SIX)
    assert report.mapping_varies_by_dest_ip is None
    assert report.global_addr(Family.V6) == SIX


def test_least_latency_counts() -> None:
    """Per relay, and per family where it is known."""
    findings = Findings()
    findings.handle_latency(URL, Family.V4, 0.2)
    findings.handle_latency(URL, None, 0.1)
    findings.handle_latency(URL, Family.V4, 0.3)
    report = findings.report(started=0.0, finished=1.0, full=True)
    assert report.relay_latency == {URL: 0.1}
    assert report.relay_v4_latency == {URL: 0.2}
    assert report.relay_v6_latency == {}


def test_report_is_json() -> None:
    """The command line prints it; every field is there."""
    findings = Findings()
    findings.handle_mapped(A, ONE)
    findings.handle_latency(URL, Family.V4, 0.2)
    report = findings.report(started=0.0, finished=1.0, full=True)
    values = json.loads(json.dumps(report.as_dict()))
    assert values["global_v4"] == "203.0.113.1:1000"
    assert values["relay_latency"] == {str(URL): 0.2}
    assert values["mapped"] == {"198.51.100.1:3478": "203.0.113.1:1000"}
    assert set(values) == set(Report.__dataclass_fields__)


def test_remarks_are_bounded() -> None:
    """A report is read by people."""
    findings = Findings()
    for number in range(1000):
        findings.note(f"remark {number}")
    assert len(findings.notes) == MAX_NOTES


NEAR = RelayUrl.parse("https://near.example")


def report(*, udp: bool = True, portal: bool | None = None, answered: bool = True) -> Report:
    latency = {NEAR: 0.02} if answered else {}
    return Report(started=0.0, finished=0.0, full=True, udp=udp, captive_portal=portal, relay_latency=latency)


def schedule() -> Schedule:
    return Schedule(100.0, lambda a, b: (a + b) / 2)


def test_first_report_is_made_at_once_and_full() -> None:
    """Nothing is known yet."""
    s = schedule()
    assert s.due(100.0) == 100.0
    assert s.start(100.0)


def test_next_one_follows_after_a_period_and_is_incremental() -> None:
    """20 to 26 s after the end of the one before."""
    s = schedule()
    s.start(100.0)
    assert s.due(101.0) is None
    s.handle_report(101.0, report())
    assert s.due(101.0) == 101.0 + sum(PERIOD) / 2
    assert not s.start(124.0)


def test_nobody_answered_it_is_repeated_soon_and_ever_less_often() -> None:
    """On a bad link the first report may be lost; without our own address nobody can punch a hole to us."""
    plan, now, pauses = schedule(), 100.0, []
    for _ in range(8):
        plan.start(now)
        plan.handle_report(now, report(udp=False, answered=False))
        due = plan.due(now)
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= PERIOD[1]
    plan.start(now)
    plan.handle_report(now, report())
    due = plan.due(now)
    assert due is not None
    assert due - now >= PERIOD[0]


def test_udp_is_blocked_we_look_again_every_few_seconds() -> None:
    """A firewall that is lifted tells nobody."""
    plan = schedule()
    plan.start(100.0)
    plan.handle_report(104.0, report(udp=False))
    assert plan.due(104.0) == 104.0 + WITHOUT_UDP


def test_full_one_is_due_after_five_minutes() -> None:
    """The network may have changed in ways that incremental reports do not see."""
    s = schedule()
    s.start(100.0)
    s.handle_report(101.0, report())
    assert s.start(100.0 + FULL_INTERVAL)


def test_captive_portal_without_udp_makes_the_next_one_full() -> None:
    """Log-in pages go away."""
    s = schedule()
    s.start(100.0)
    s.handle_report(101.0, report(udp=False, portal=True))
    assert s.start(124.0)


def test_request_during_a_run_is_served_after_it() -> None:
    """Single flight."""
    s = schedule()
    s.start(100.0)
    s.request(100.5)
    assert s.due(100.5) is None
    s.handle_report(101.0, report())
    assert s.due(101.0) == pytest.approx(100.5)


def test_restart_does_not_wait_for_the_run_under_way() -> None:
    """The network is another one: what is under way is worthless."""
    s = schedule()
    s.start(100.0)
    s.request(100.5, full=True, restart=True)
    assert s.due(100.5) == 100.5
    assert s.start(100.5)


def test_storm_of_changes_starts_at_once_and_stays_bounded() -> None:
    """Never 9: 1000 changes in 10 s make some at once, then one per second; the last change is not forgotten."""
    s = schedule()
    s.start(100.0)
    starts, now = [], 100.0
    while now < 110.0:
        s.request(now, full=True, restart=True)
        due = s.due(now)
        if due is not None and due <= now:
            s.start(now)
            starts.append(now)
        now += 0.01
    assert starts[:4] == pytest.approx([100.0, 100.01, 100.02, 100.03])
    assert len(starts) <= BURST + 10
    s.request(now, restart=True)
    due = s.due(now)
    assert due is not None
    assert due - now <= 1.0
