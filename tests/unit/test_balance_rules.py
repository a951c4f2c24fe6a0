"""netns_fixtures.balance: who gets which share, what is refused, and the text for nft."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures import Host, Lab, NatConfig, Router, Scenario, ScenarioError, TopologyError
from netns_fixtures.balance.maglev import SLOTS, slots
from netns_fixtures.ops import LoadRules

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=20, unique=True)


def world() -> tuple[Lab, Router, list[Host]]:
    """A lab that is only described: a router with three hosts in its LAN."""
    lab = Lab(seed=1)
    front = lab.router("front")
    return lab, front, [lab.host(f"srv{number}", uplink=front) for number in (1, 2, 3)]


def text(lab: Lab) -> str:
    """The rules that the router is told."""
    (rules,) = (op for op in lab.topology.derived_ops(changed=False) if isinstance(op, LoadRules))
    return rules.text


@given(NAMES)
def test_shares_differ_by_one_at_most(names: list[str]) -> None:
    """Every slot belongs to somebody, and nobody has much more than the others."""
    shares = Counter(slots(names))
    assert sum(shares.values()) == SLOTS
    assert set(shares) == set(names)
    assert max(shares.values()) - min(shares.values()) <= 1


@given(NAMES.filter(lambda names: len(names) > 1))
def test_a_name_that_leaves_moves_few_of_the_others(names: list[str]) -> None:
    """Its own slots are shared out; of the rest, at most a quarter moves."""
    before, after = slots(names), slots(names[1:])
    others = [(old, new) for old, new in zip(before, after, strict=True) if old != names[0]]
    assert sum(old != new for old, new in others) <= SLOTS // 4


def test_no_names_have_no_slots() -> None:
    """Nobody is behind it."""
    assert slots([]) == []


def test_rules_lead_each_share_to_a_backend_of_its_family() -> None:
    """By the hash of the source, seeded by the lab; a mark says whose flow it is."""
    lab, front, hosts = world()
    lab.balancer("www", front, hosts[:2], [443, 80], address="203.0.113.50", protocol="both")
    rules = text(lab)
    assert "ip daddr 203.0.113.50 meta l4proto { tcp, udp } th dport { 443, 80 } goto b1_v4" in rules
    assert "ip6 daddr" not in rules  # it has no IPv6 address
    assert f"dnat ip to {hosts[0].ip}" in rules
    assert f"jhash ip saddr mod {SLOTS} seed {lab.wire_seed('www', 'balancer') & 0xFFFFFFFF:#x}" in rules
    assert lab.topology.derived_ops(changed=True) == []  # told once


def test_own_address_comes_before_the_routers() -> None:
    """Two balancers with one port; the one at the router's address follows where that goes."""
    lab, front, hosts = world()
    lab.balancer("any", front, hosts, 443, by="round-robin")
    lab.balancer("www", front, hosts, 443, address="203.0.113.50", by="random", backend_port=8443)
    rules = text(lab)
    assert rules.index("ip daddr 203.0.113.50") < rules.index(f"ip daddr {front.ip}")
    assert "numgen inc mod 3" in rules
    assert "numgen random mod 3" in rules
    assert f"dnat ip to {hosts[0].ip}:8443" in rules
    assert f"dnat ip6 to {hosts[0].ip6}\n" in rules
    front.plan.wan.renumber_ops("203.0.113.77")  # type: ignore[union-attr]
    assert "ip daddr 203.0.113.77" in text(lab)


def test_backend_that_moves_is_followed_and_one_that_left_the_lan_is_left_out() -> None:
    """Rules are of the addresses that the backends have now."""
    lab, front, hosts = world()
    lab.balancer("www", front, hosts[:1], 443)
    before = hosts[0].ip
    assert f"dnat ip to {before}" in text(lab)
    lab.topology.hosts["srv1"].plugs["eth0"].renumber_ops()
    assert hosts[0].ip != before
    assert f"dnat ip to {hosts[0].ip}" in text(lab)
    lab.topology.hosts["srv1"].plugs["eth0"].replug_ops(lab.router("away").plan.lan.segment)
    assert "dnat" not in text(lab)


def test_lab_without_balancers_has_no_step_for_them() -> None:
    """What is not used costs nothing."""
    lab, _front, _hosts = world()
    assert lab.topology.derived_ops(changed=True) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"port": 0}, "a port is a number from 1 to 65535"),
        ({"port": []}, "needs a port"),
        ({"port": [1, 2], "backend_port": 3}, "several ports cannot all lead to one"),
        ({"protocol": "quic"}, "one of udp, tcp, both"),
        ({"by": "load"}, "one of source, flow, random, round-robin"),
        ({"address": "192.0.2.1"}, "192.0.2.1"),
        ({"address": ["203.0.113.50", "203.0.113.51"]}, "one of each family"),
        ({"address": ["203.0.113.50", "2001:db8:77::1"]}, "2001:db8:77::1"),
        ({"name": "front"}, "names are unique"),
        ({"name": "srv1"}, "names are unique"),
        ({"router": None}, "no router of this lab"),
        ({"backends": ["srv1"]}, "no host of this lab"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_there(
    change: dict[str, Any], complaint: str
) -> None:
    """The name, the address and the port stay free."""
    lab, front, hosts = world()
    arguments: dict[str, Any] = {"name": "www", "router": front, "backends": hosts, "port": 443, **change}
    with pytest.raises(TopologyError, match=complaint):
        lab.balancer(**arguments)
    lab.balancer("www", front, hosts, 443, address=["203.0.113.50", "2001:db8::50"])


def test_backends_must_answer_through_the_balancer() -> None:
    """A host elsewhere, the same one twice, a port that is taken, a router with tables of its own."""
    lab, front, hosts = world()
    away = lab.host("away", uplink=lab.router("other"))
    with pytest.raises(TopologyError, match="not in the LAN of front"):
        lab.balancer("www", front, [away], 443)
    with pytest.raises(TopologyError, match="srv1 is behind www already"):
        lab.balancer("www", front, [hosts[0], hosts[0]], 443)
    lab.balancer("www", front, hosts, 443, protocol="udp")
    lab.balancer("web", front, hosts, 443, protocol="tcp")
    with pytest.raises(TopologyError, match="www has port 443 of that address already"):
        lab.balancer("third", front, hosts, 443, protocol="both")
    exact = lab.router("exact", nat=NatConfig(timeout=30))
    with pytest.raises(TopologyError, match="keeps its mappings by itself"):
        lab.balancer("fourth", exact, [], 443)


def test_scenario_file_has_a_section_of_balancers() -> None:
    """Nodes of their own kind; their verbs are checked as all others."""
    head = "scenario: 1\nname: x\nrouters: {front: {}}\nhosts: {srv1: {uplink: front}}\n"
    whole = head + "balancers:\n  www: {router: front, backends: [srv1], port: 443, by: round-robin}\n"
    steps = whole + "timeline:\n- {at: 1, do: www.take_out, args: {host: srv1, flows: move}}\n"
    scenario = Scenario.parse(steps)
    assert Scenario.parse(str(scenario)) == scenario
    with pytest.raises(ScenarioError, match="'round'"):
        Scenario.parse(whole.replace("round-robin", "round"))
    with pytest.raises(ScenarioError, match="srv2"):
        Scenario.parse(steps.replace("host: srv1", "host: srv2"))
