"""NPTv6 and NAT66: local addresses inside, global ones outside."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

import pytest
from udp_kit import close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, Router, TopologyError


class World:
    """A laptop with a local address, and a server."""

    def __init__(self, lab: Lab, **router: str) -> None:
        self.home: Router = lab.router("home", **router)  # type: ignore[arg-type]  # each test says what
        self.laptop: Host = lab.host("laptop", uplink=self.home)
        self.server: Host = lab.host("server", uplink=lab.router("centre"))
        self.there = udp(self.server, 7000, "::")
        self.here = udp(self.laptop, 0, "::")

    def seen(self) -> tuple[str, int]:
        return outside_of(self.here, self.there, str(self.server.ip6))


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("nat6", seed=7) as lab:
        yield lab
    close_all()


def test_nptv6_changes_the_prefix_and_nothing_else(net: Lab) -> None:
    """Interface identifier and port stay, and the outside may begin."""
    world = World(net, ipv6_nat="nptv6")
    assert (world.home.lan6, world.home.outside6) == ("fd00:db8:1::/64", "2001:db8:1::/64")
    inside = world.laptop.ip6
    assert inside == "fd00:db8:1::a"
    assert world.seen() == ("2001:db8:1::a", port_of(world.here))
    fresh = udp(world.laptop, 0, "::")
    udp(world.server, 7001, "::").sendto(b"unasked", ("2001:db8:1::a", port_of(fresh)))
    assert hear(fresh) == (world.server.ip6, 7001)


def test_nptv6_hides_a_renumbering_from_the_lan(net: Lab) -> None:
    """What it is for: the provider's prefix changes, and inside nothing does."""
    world = World(net, ipv6_nat="nptv6")
    before = world.laptop.ip6
    old = world.home.outside6
    world.home.renumber_prefix()
    assert world.laptop.ip6 == before
    assert world.home.outside6 != old
    world.here = udp(world.laptop, 0, "::")  # the old flow keeps its translation, as conntrack remembers it
    assert IPv6Address(world.seen()[0]) in IPv6Network(str(world.home.outside6))


def test_nptv6_behind_a_filter_lets_answers_in_only(net: Lab) -> None:
    """moderate: the same as for addresses that are not translated."""
    world = World(net, nat="moderate", ipv6_nat="nptv6")
    outside, port = world.seen()
    udp(world.server, 7001, "::").sendto(b"unasked", (outside, port))
    assert is_silent(world.here)
    world.there.sendto(b"answer", (outside, port))
    assert hear(world.here)[0] == world.server.ip6


def test_nat66_shows_the_router_s_address(net: Lab) -> None:
    """Two hosts with one port come from different ports of the router; the outside cannot begin."""
    world = World(net, ipv6_nat="nat66")
    second = udp(net.host("second", uplink=world.home), port_of(world.here), "::")
    seen = [world.seen(), outside_of(second, world.there, str(world.server.ip6))]
    assert {ip for ip, _port in seen} == {world.home.ip6}
    assert len(set(seen)) == 2
    for number, address in enumerate(seen):
        world.there.sendto(bytes((number,)), address)
    assert (world.here.recv(10), second.recv(10)) == (b"\0", b"\1")
    assert is_silent(world.here)


def test_only_local_addresses_reach_nobody_outside(net: Lab) -> None:
    """Without translation nobody out there knows the way back."""
    lab = net
    home = lab.router("home", ula="only")
    laptop, near = lab.host("laptop", uplink=home), lab.host("near", uplink=home)
    server = lab.host("server", uplink=lab.router("centre"))
    here, there, beside = udp(laptop, 0, "::"), udp(server, 7000, "::"), udp(near, 7000, "::")
    here.sendto(b"x", (str(server.ip6), 7000))
    there.sendto(b"x", (str(laptop.ip6), port_of(here)))
    assert is_silent(here)
    here.sendto(b"x", (str(near.ip6), 7000))
    assert hear(beside)[0] == laptop.ip6 == "fd00:db8:1::a"
    with pytest.raises(TopologyError, match="only local"):
        home.renumber_prefix()


def test_lan_renumbering_moves_a_translated_lan_too(net: Lab) -> None:
    """Another local prefix inside, and translation follows."""
    world = World(net, nat="moderate", ipv6_nat="nptv6")
    world.seen()
    world.home.renumber()
    assert world.home.lan6 == "fd00:db8:2::/64"
    world.here = udp(world.laptop, 0, "::")
    assert IPv6Address(world.seen()[0]) in IPv6Network(str(world.home.outside6))


def test_translation_needs_ipv6(net: Lab) -> None:
    """Refused when it is described."""
    with pytest.raises(TopologyError, match="need IPv6"):
        net.router("old", family="v4", ipv6_nat="nat66")
    with pytest.raises(TopologyError, match="nptv6, nat66"):
        net.router("odd", ipv6_nat="nat77")
