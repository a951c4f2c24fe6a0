"""Firewalls as data: what adds up, what is refused, and the rule text that comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures import Block, Firewall, TopologyError
from netns_fixtures.firewall import PRESETS, firewall_of, parse_service
from netns_fixtures.firewall_rules import FirewallRules
from netns_fixtures.portal_rules import PortalRules


def rules(*blocks: Block, router: bool = True, **options: Any) -> str:
    return FirewallRules(router, Firewall(blocks), **options).text()


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain, without its head."""
    body = text.split(f" chain {name} {{")[1].split("\n }")[0]
    return [line.strip() for line in body.splitlines()[1:]]


def jumps(block: Block) -> list[str]:
    """What selects a block's packets in a router."""
    return [line for line in chain(rules(block), "forward") if "block0" in line]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_rules_for_routers_and_hosts(name: str) -> None:
    """A preset is known by its name, and everything that it blocks is in the text."""
    firewall = firewall_of(name)
    assert str(firewall) == name
    for router in (True, False):
        text = FirewallRules(router, firewall).text()
        assert text.count(" chain block") == len(firewall.blocks)
        assert text.startswith("table inet firewall\ndelete table inet firewall\n")


def test_rules_live_in_one_table_of_their_own() -> None:
    """A change of the firewall never touches NAT's tables."""
    text = rules(Block(protocol="udp"), pmtu_blackhole=True, portal=PortalRules(("192.0.2.1",)))
    assert {line for line in text.splitlines() if line.startswith("table")} == {
        "table inet firewall",
        "table inet firewall {",
    }


def test_two_firewalls_together_block_what_either_blocks() -> None:
    """``a | b`` has the blocks of both, and a name that says so."""
    both = Firewall.preset("block-inbound") | Firewall.preset("no-udp")
    assert both.blocks == Firewall.preset("block-inbound").blocks + Firewall.preset("no-udp").blocks
    assert str(both) == "block-inbound + no-udp"
    assert str(Firewall() | both) == "block-inbound + no-udp"
    assert str(both | Firewall((Block(protocol="tcp"),))).startswith("blocking in unsolicited all; udp; tcp")


def test_block_without_fields_fits_every_packet() -> None:
    """One rule, without any condition."""
    assert jumps(Block()) == ["jump block0"]


def test_addresses_of_both_families_become_a_rule_each() -> None:
    """A rule names one family; an end without addresses of a family makes none for it."""
    assert jumps(Block(source=("192.0.2.1", "2001:db8::/64"))) == [
        "meta nfproto ipv4 ip saddr { 192.0.2.1/32 } jump block0",
        "meta nfproto ipv6 ip6 saddr { 2001:db8::/64 } jump block0",
    ]
    only_v4 = Block(source=("192.0.2.1", "2001:db8::1"), destination=("198.51.100.0/24",))
    assert jumps(only_v4) == [
        "meta nfproto ipv4 ip saddr { 192.0.2.1/32 } ip daddr { 198.51.100.0/24 } jump block0"
    ]


def test_all_conditions_of_a_block_stand_in_its_rule() -> None:
    """Direction, family, state, size, protocol, ports."""
    block = Block(
        direction="in",
        protocol="udp",
        ports=(53, (1000, 2000)),
        source_ports=(7,),
        family=6,
        longer_than=1300,
        unsolicited=True,
    )
    assert jumps(block) == [
        'iifname "wan" meta nfproto ipv6 ct state != { established, related } meta length > 1300 '
        "meta l4proto udp th dport { 53, 1000-2000 } th sport { 7 } meta mark & 0x10000000 != 0x10000000 jump block0"
    ]


def test_flows_let_through_are_known_by_where_they_began() -> None:
    """Answers come from port 53, and pass; so do ICMP errors about them; all else gets the verdict."""
    assert chain(rules(Block(but_for=("udp/53", "tcp", "icmp"))), "block0") == [
        "meta l4proto { icmp, ipv6-icmp } ct state related return",
        "meta l4proto udp ct original proto-dst { 53 } return",
        "meta l4proto tcp return",
        "meta l4proto { icmp, ipv6-icmp } return",
        "drop",
    ]


def test_rejecting_firewall_answers_in_the_language_of_the_protocol() -> None:
    """TCP by a reset, everything else by ICMP; the silent one drops."""
    loud = Firewall.preset("no-udp").rejecting()
    assert str(loud) == "no-udp (rejecting)"
    text = FirewallRules(True, loud).text()
    assert chain(text, "block0") == [
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]
    assert chain(rules(Block()), "block0") == ["drop"]


def test_hosts_keep_neighbour_discovery_and_loopback() -> None:
    """A host that blocks everything is still on its link."""
    for hook, word in (("input", "iifname"), ("output", "oifname")):
        first, second, *rest = chain(rules(Block(), router=False), hook)
        assert first == f'{word} "lo" accept'
        assert "nd-neighbor-solicit" in second
        assert second.endswith("accept")
        assert rest[-1] == "jump block0"


def test_a_hosts_block_is_only_in_the_chain_of_its_direction() -> None:
    """What comes in is judged on input, what goes out on output."""
    text = rules(Block(direction="in"), router=False)
    assert chain(text, "input")[-1] == "jump block0"
    assert "jump block0" not in chain(text, "output")


def test_kept_flows_pass_before_everything_but_the_black_hole() -> None:
    """``keep`` accepts what is established; errors about sizes vanish all the same."""
    lines = chain(rules(Block(), keep=True, pmtu_blackhole=True), "forward")
    assert [line.split()[-1] for line in lines] == ["drop", "drop", "accept", "block0"]
    assert [line.split()[-1] for line in chain(rules(Block(), pmtu_blackhole=True), "output")] == ["drop"] * 2


def test_the_way_back_swaps_ends_ports_and_direction() -> None:
    """Reversed twice it is itself."""
    block = Block(direction="out", protocol="tcp", ports=(80,), source=("192.0.2.1",))
    back = block.reversed()
    assert (back.direction, back.source_ports, back.destination) == ("in", (80,), ("192.0.2.1",))
    assert back.reversed() == block


def test_portal_without_release_catches_both_ways() -> None:
    """Web requests go to the portal; what was not released neither sends nor receives."""
    text = rules(portal=PortalRules(("192.0.2.1", "2001:db8::1")))
    assert "set released4 { type ipv4_addr; elements = { 192.0.2.1 }; }" in text
    assert "set released6 { type ipv6_addr; elements = { 2001:db8::1 }; }" in text
    assert len([line for line in chain(text, "forward") if line.endswith("jump caught")]) == 4
    assert all("tcp dport 80 redirect" in line for line in chain(text, "portal"))
    assert chain(text, "caught")[-1] == "drop"
    free = rules(portal=PortalRules(everybody=True))
    assert "jump caught" not in free
    assert "redirect to" not in free


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"direction": "up"}, "direction='up'"),
        ({"protocol": "sctp"}, "protocol='sctp'"),
        ({"ports": (80,)}, "belong to a protocol"),
        ({"protocol": "udp", "ports": (0,)}, "from 1 to 65535"),
        ({"protocol": "udp", "ports": ((9, 8),)}, "ranges upwards"),
        ({"longer_than": -1}, "bytes of an IP packet"),
        ({"source": ("192.0.2.300",)}, "no address or network"),
        ({"but_for": ("https",)}, "is no service"),
        ({"but_for": ("tcp/70000",)}, "from 1 to 65535"),
        ({"family": 5}, "family=5"),
        ({"action": "bounce"}, "action='bounce'"),
    ],
)
def test_impossible_block_is_refused_with_what_is_possible(fields: dict[str, Any], reason: str) -> None:
    """Before anything changes, in one sentence."""
    with pytest.raises(TopologyError, match=reason):
        Block(**fields)


def test_unknown_preset_names_those_that_exist() -> None:
    """And so does something that is no firewall at all."""
    with pytest.raises(TopologyError, match="block-inbound, udp-blocked"):
        firewall_of("strong")
    with pytest.raises(TopologyError, match="is no firewall"):
        firewall_of(7)  # type: ignore[arg-type]


@given(st.text())
def test_any_text_is_a_service_or_refused(text: str) -> None:
    """Nothing but a well-formed service reaches the rule text."""
    try:
        protocol, ports = parse_service(text)
    except TopologyError:
        return
    assert protocol in ("tcp", "udp", "icmp")
    assert all(c.isdigit() or c == "-" for c in ports)
