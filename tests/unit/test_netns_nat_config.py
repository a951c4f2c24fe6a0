"""NATs by axes: what can be said, what cannot, and the rules that it becomes (tests/lab proves those)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from netns_fixtures import Lab, Scenario
from netns_fixtures.errors import TopologyError
from netns_fixtures.nat import PRESETS, NatConfig, NatFiltering, NatKind, NatMapping, NatPorts, nat_config
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.presets import nat_label
from netns_fixtures.nat.rules import NatRules, flush_text, sysctls
from netns_fixtures.nat.text import milliseconds

OUTSIDE = "203.0.113.10"


def text(taken: tuple[int, int] | None = None, **fields: Any) -> str:
    return NatRules(NatConfig(**fields), OUTSIDE, taken).text()


def test_default_is_a_common_home_router() -> None:
    """NatConfig() says what "moderate" says."""
    assert NatConfig() == nat_config("moderate")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"mapping": "edm"}, NatMapping.APDM),
        ({"mapping": "EIM"}, NatMapping.EIM),
        ({"mapping": "address-dependent"}, NatMapping.ADM),
        ({"filtering": "endpoint-independent"}, NatFiltering.EIF),
        ({"filtering": "address-and-port-dependent"}, NatFiltering.APDF),
        ({"ports": NatPorts.RANDOM}, NatPorts.RANDOM),
    ],
)
def test_other_words_of_the_field_are_understood(said: dict[str, str], meant: object) -> None:
    """Whatever case and length, the field holds the enumeration."""
    (name,) = said
    assert getattr(NatConfig(**said), name) is meant  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mapping": "eif"}, "mapping='eif': it is one of eim, adm, apdm"),
        ({"filtering": "none"}, "filtering='none': it is one of eif, adf, apdf"),
        ({"ports": "any"}, "it is one of preserve, sequential, random, overload"),
        ({"timeout": 0}, "timeout=0: seconds, from 0.05"),
        ({"lifetime": -1.0}, "lifetime=-1.0: seconds"),
        ({"tcp_timeout": 1.5}, "whole seconds"),
        ({"ports": "overload", "filtering": "eif"}, "use mapping='eim', filtering='apdf', hairpin=False"),
        ({"ports": "overload", "hairpin": True}, "use mapping='eim', filtering='apdf', hairpin=False"),
        ({"ports": "overload", "lifetime": 5}, "no lifetime"),
        ({"ports": "overload", "refresh_inbound": False}, "both directions refresh"),
        ({"ports": "overload", "timeout": 1.5}, "use whole seconds"),
        ({"translates": False, "hairpin": True}, "leave their fields out"),
        ({"translates": False, "timeout": 5}, "leave their fields out"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_said(fields: dict[str, Any], says: str) -> None:
    """Before any kernel is asked, with what would be right."""
    with pytest.raises(TopologyError, match=re.escape(says)):
        NatConfig(**fields)


def test_nat_by_axes_stands_in_a_scenario_file() -> None:
    """Written and read again it is the same."""
    told = Scenario.parse(
        "routers:\n  home: {nat: {mapping: edm, filtering: adf, timeout: 30}}\n"
        "  centre: {}\ntimeline:\n- {at: 1, do: home.nat.change, args: {nat: {lifetime: 50}}}\n"
    )
    lab = Scenario.parse(str(told)).lab()
    assert lab.routers["home"].nat.config == NatConfig(mapping="apdm", filtering="adf", timeout=30)


def test_unknown_preset_is_refused_with_those_that_exist() -> None:
    """Names first, as most mistakes are in those."""
    with pytest.raises(TopologyError, match=r"it is one of none, open, .* or a NatConfig"):
        nat_config("hoem")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("moderate", "none", "cannot become one without NAT"),
        ("moderate", NatConfig(translates=False), "cannot become one without NAT"),
        ("moderate", "cgnat", "a router behind a carrier's"),
        ("none", "moderate", "has no NAT"),
        ("moderate", "hoem", "it is one of none, open"),
    ],
    ids=str,
)
def test_change_that_needs_another_network_is_refused(before: str, after: str | NatConfig, says: str) -> None:
    """Before anything is changed: the NAT stays what it was."""
    with Lab() as lab:
        router = lab.router("home", nat=before)
        with pytest.raises(TopologyError, match=says):
            router.nat.change(after)
        assert (router.nat.kind, router.nat.config) == (before, nat_config(before))


def test_every_kind_is_a_preset_and_keeps_conntracks_own_rules() -> None:
    """The lab's own kinds load as fast as ever: none needs tables of its own."""
    assert set(NatKind) <= set(PRESETS)
    assert not any(nat_config(kind).exact for kind in NatKind)


def test_router_is_called_by_its_preset_or_its_axes() -> None:
    """What stands in pictures and events."""
    assert nat_label("home") == "home"
    assert nat_label(NatConfig(mapping="adm", timeout=30, hairpin=True)) == (
        "adm+apdf preserve hairpin timeout 30 s"
    )


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"mapping": "eim", "filtering": "adf"}, "ipv4_addr . inet_service"),
        ({"mapping": "adm"}, "ipv4_addr . inet_service . ipv4_addr"),
        ({"mapping": "apdm", "filtering": "adf"}, "ipv4_addr . inet_service . ipv4_addr . inet_service"),
    ],
)
def test_key_of_a_mapping_has_what_it_depends_on(fields: dict[str, Any], key: str) -> None:
    """Inside address and port, and so much of the remote end."""
    assert f"set known {{ type {key}\n" in text(**fields)


def test_nothing_refreshes_what_ends_by_age() -> None:
    """With a lifetime entries are added, never updated; with a timeout too, idleness has a clock of its own."""
    assert "update @out" in text(timeout=60)
    aged = text(lifetime=60)
    assert "add @out" in aged
    assert "update @out" not in aged
    assert "update @known" not in aged
    both = text(lifetime=60, timeout=10)
    assert "update @known" in both
    assert "update @awake" in both
    assert "update @out" not in both
    assert "set known { type ipv4_addr . inet_service\n  flags dynamic,timeout\n  timeout 10000ms" in both


def test_packets_from_outside_refresh_only_if_they_should() -> None:
    """RFC 4787 REQ-6b leaves that to the NAT."""
    inbound = 'iifname "wan" meta l4proto udp ct direction'
    assert inbound in text(timeout=60)
    assert inbound not in text(timeout=60, refresh_inbound=False)


def test_rebound_nat_takes_other_ports_whatever_its_choice() -> None:
    """Each choice of ports has the range in its rules, and nothing keeps ports any more."""
    ports = (30000, 39999)
    assert "0 : 30000, 1 : 30001" in text(ports, ports="sequential")
    assert f"snat to {OUTSIDE}:30000-39999 random" in text(ports, ports="random", timeout=9)
    preserved = text(ports, timeout=9)
    assert f"th sport 30000-39999 snat to {OUTSIDE}:60000-64999" in preserved
    assert "udp sport @taken" not in preserved


def test_kept_flows_are_elements_and_go_first() -> None:
    """Each flow that outlives a rebind is found by its four ends, before any mapping."""
    flow = KeptFlow(("192.168.1.10", 4000), (OUTSIDE, 4001), ("198.18.1.10", 53), 7, 2.5, None)
    rules = NatRules(NatConfig(timeout=60), OUTSIDE, (20000, 29999), 1, (flow,))
    assert "192.168.1.10 . 4000 . 198.18.1.10 . 53 : 7" in rules.text()
    assert "203.0.113.10 . 4001 . 198.18.1.10 . 53 : 7" in rules.text()
    assert "timeout 1m expires 2500ms" in rules.text()
    assert "numgen inc mod 16000 offset 16001" in rules.text(), "zones of the old generation stay theirs"
    assert "flush map ip nat kept_out\n" in flush_text(rules)


def test_flush_empties_every_table() -> None:
    """All that rules fill is named; nothing else is."""
    for config in (NatConfig(timeout=5, lifetime=9, hairpin=True), NatConfig(mapping="adm")):
        rules = NatRules(config, OUTSIDE)
        declared = re.findall(r"^ (map|set) (\w+) \{", rules.text(), re.MULTILINE)
        assert flush_text(rules) == "".join(f"flush {kind} ip nat {name}\n" for kind, name in declared)


def test_connection_tracking_gets_the_timers_that_differ() -> None:
    """Presets without timers cost no setting; a change sets all, also back."""
    assert sysctls(nat_config("moderate")) == ()
    timed = dict(sysctls(NatConfig(timeout=1.2, tcp_timeout=60)))
    assert timed == {
        "net/netfilter/nf_conntrack_udp_timeout": "2",
        "net/netfilter/nf_conntrack_udp_timeout_stream": "2",
        "net/netfilter/nf_conntrack_tcp_timeout_established": "60",
        "net/netfilter/nf_conntrack_tcp_loose": "0",
    }
    assert dict(sysctls(nat_config("moderate"), reset=True)).keys() >= timed.keys()


def test_forgotten_tcp_connections_are_not_answered_for() -> None:
    """Their packets are neither new nor known: they go nowhere, and nobody resets them."""
    strict = NatRules(NatConfig(tcp_timeout=60), OUTSIDE).text()
    assert "ct state { new, invalid } drop" in strict
    assert "meta l4proto tcp ct state invalid drop" in strict
    assert "invalid" not in NatRules(NatConfig(), OUTSIDE).text()


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": 0},
        {"addresses": 17},
        {"addresses": True},
        {"addresses": ()},
        {"addresses": ("203.0.113.9", "203.0.113.9")},
        {"addresses": "203.0.113.9"},
        {"addresses": ("2001:db8::1",)},
        {"pooling": "random"},
        {"addresses": 2, "ports": "overload"},
        {"translates": False, "filtering": "eif", "addresses": 2},
    ],
)
def test_pools_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    """Where they are described, with what would be right."""
    with pytest.raises(TopologyError):
        NatConfig(**wrong)  # type: ignore[arg-type]


def test_tcp_speaks_the_fields_of_udp() -> None:
    """One axis alone brings the other's default; its times are TCP's; without any the kernel keeps connections."""
    tcp = NatConfig(lifetime=5, tcp_filtering="edf", tcp_timeout=60, tcp_lifetime=90).tcp
    assert tcp is not None
    assert (tcp.mapping, tcp.filtering, tcp.timeout, tcp.lifetime) == ("eim", "apdf", 60, 90)
    assert NatConfig(tcp_timeout=60).tcp is None


def test_long_times_are_written_as_nft_reads_them() -> None:
    """nft has no room for five days in milliseconds."""
    assert [milliseconds(each) for each in (0, 1.5, 60, 432_000, 7440.25)] == [
        "1ms",
        "1500ms",
        "1m",
        "5d",
        "2h4m250ms",
    ]
