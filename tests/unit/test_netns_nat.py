"""NAT rule text: the decisions, without a kernel (tests/lab/test_nat.py proves them with one)."""

from __future__ import annotations

import pytest

from netns_fixtures.nat import NatKind, nat_config
from netns_fixtures.nat.rules import NatRules, flush_text, next_ports


def text(kind: NatKind, ports: tuple[int, int] | None = None) -> str:
    return NatRules(nat_config(kind), "203.0.113.10", ports).text()


def test_router_without_nat_has_no_rules() -> None:
    """nat="none" loads nothing, so it also runs where nft is missing."""
    assert text(NatKind.NONE) == ""


@pytest.mark.parametrize("kind", [NatKind.OPEN, NatKind.MODERATE, NatKind.CGNAT])
def test_endpoint_independent_kinds_learn_the_translated_port(kind: NatKind) -> None:
    """The map is keyed by the port that conntrack chose, and a new flow replaces its entry."""
    rules = text(kind)
    entry = "{ ct reply proto-dst : ct original ip saddr . ct original proto-src }"
    assert rules.index(f"delete @ext {entry}") < rules.index(f"add @ext {entry}")
    assert "dnat to udp dport map @ext" in rules


def test_strict_draws_random_ports_and_learns_nothing() -> None:
    """Endpoint-dependent mapping: a random port per flow, no map."""
    rules = text(NatKind.STRICT)
    assert "snat to 203.0.113.10 random" in rules
    assert "@ext" not in rules


@pytest.mark.parametrize("kind", list(NatKind))
def test_filtering_follows_the_kind(kind: NatKind) -> None:
    """Only moderate, strict and cgnat drop unsolicited packets from outside."""
    assert ('iifname "wan" drop' in text(kind)) == (kind in ("moderate", "strict", "cgnat"))


def test_rebound_nat_takes_ports_from_its_range() -> None:
    """After a rebind ports come from the range, for the transports that have ports; those in it go elsewhere."""
    rules = text(NatKind.OPEN, (20000, 29999))
    assert "meta l4proto { tcp, udp } snat to 203.0.113.10:20000-29999" in rules
    assert "th sport 20000-29999 snat to 203.0.113.10:60000-64999" in rules


def test_replacing_deletes_before_it_adds() -> None:
    """Replacing is one transaction, and also works where nothing was loaded before."""
    rules = NatRules(nat_config(NatKind.MODERATE), "203.0.113.10").text(replace=True)
    assert rules.startswith("table ip nat\ndelete table ip nat\n")


def test_consecutive_port_ranges_are_disjoint() -> None:
    """Each rebind leaves the ports of the one before."""
    ports: tuple[int, int] | None = None
    for _ in range(6):
        before, ports = ports, next_ports(ports)
        assert before is None or ports[0] > before[1] or ports[1] < before[0]


def test_flush_forgets_the_map_where_there_is_one() -> None:
    """A flush of conntrack alone would leave the learnt mappings."""
    flushes = {kind: flush_text(NatRules(nat_config(kind), "203.0.113.10")) for kind in NatKind}
    assert flushes[NatKind.MODERATE].startswith("flush map ip nat ext\n")
    assert flushes[NatKind.STRICT] == flushes[NatKind.NONE] == ""
