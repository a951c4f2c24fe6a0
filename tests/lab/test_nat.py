"""Each NAT kind does what its name says, as seen from outside (RFC 4787; LAB.md section 6)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from udp_kit import Address, close_all, drain, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, Router
from netns_fixtures.errors import TopologyError

KINDS = ["open", "moderate", "strict", "cgnat"]
#: Endpoint-independent mapping: one outside port whoever is asked.
STEADY = ["open", "moderate", "cgnat"]


class World:
    """Two clients behind one NAT, and three servers outside of it."""

    def __init__(self, lab: Lab, nat: str) -> None:
        self.router: Router = lab.router("home", nat=nat)
        centre = lab.router("centre")
        self.first, self.second = (lab.host(name, uplink=self.router) for name in ("first", "second"))
        self.servers: list[Host] = [lab.host(f"server{n}", uplink=centre) for n in range(3)]


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("nat") as lab:
        yield lab
    close_all()


def outsides(client: socket.socket, servers: list[Host]) -> list[Address]:
    return [outside_of(client, udp(server), server.ip) for server in servers]


@pytest.mark.parametrize("nat", KINDS)
def test_client_is_seen_from_the_routers_address(net: Lab, nat: str) -> None:
    """Inside addresses never appear outside."""
    world = World(net, nat)
    (ip, _port), *_ = outsides(udp(world.first), world.servers)
    expected = net.routers.get("home-carrier", world.router).ip
    assert ip == expected


@pytest.mark.parametrize("nat", STEADY)
def test_endpoint_independent_nat_keeps_port_for_all_destinations(net: Lab, nat: str) -> None:
    """One socket, three destinations: one outside port, and it is the inside one."""
    world = World(net, nat)
    client = udp(world.first, 40000)
    assert [port for _ip, port in outsides(client, world.servers)] == [40000] * 3


def test_strict_nat_uses_another_port_for_each_destination(net: Lab) -> None:
    """One socket, three destinations: three outside ports."""
    world = World(net, "strict")
    assert len({port for _ip, port in outsides(udp(world.first, 40000), world.servers)}) == 3


def test_unsolicited_packet_reaches_a_client_behind_an_open_nat(net: Lab) -> None:
    """Endpoint-independent filtering: whoever knows the outside address gets through."""
    world = World(net, "open")
    client = udp(world.first)
    outside = outside_of(client, udp(world.servers[0]), world.servers[0].ip)
    udp(world.servers[1], 999).sendto(b"surprise", outside)
    assert hear(client) == (world.servers[1].ip, 999)


@pytest.mark.parametrize("nat", ["moderate", "strict", "cgnat"])
def test_unsolicited_packet_is_dropped_by_a_filtering_nat(net: Lab, nat: str) -> None:
    """Neither another address nor another port of the contacted address gets through; the contacted port does."""
    world = World(net, nat)
    client, server = udp(world.first), udp(world.servers[0])
    outside = outside_of(client, server, world.servers[0].ip)
    udp(world.servers[1]).sendto(b"other address", outside)
    udp(world.servers[0]).sendto(b"other port", outside)
    assert is_silent(client)
    server.sendto(b"answer", outside)
    assert hear(client) == (world.servers[0].ip, port_of(server))


@pytest.mark.parametrize("nat", STEADY)
def test_peers_packet_first_does_not_change_our_port(net: Lab, nat: str) -> None:
    """Simultaneous open: the peer's packet is at our NAT before ours, and hole punching still works."""
    world = World(net, nat)
    client, known = udp(world.first, 40000), udp(world.servers[0])
    outside = outside_of(client, known, world.servers[0].ip)
    peer = udp(world.servers[1], 7000)
    peer.sendto(b"too early", outside)
    if nat == "open":
        assert hear(client) == (world.servers[1].ip, 7000)
    else:
        assert is_silent(client)
    assert outside_of(client, peer, world.servers[1].ip) == outside
    peer.sendto(b"now", outside)
    assert hear(client) == (world.servers[1].ip, 7000)


def test_peers_packet_before_any_of_ours_does_not_change_our_port(net: Lab) -> None:
    """The same for a socket that has never sent: what the router does not forward leaves no trace in it."""
    world = World(net, "moderate")
    client, peer = udp(world.first, 40000), udp(world.servers[0], 7000)
    peer.sendto(b"far too early", (world.router.ip, 40000))
    assert is_silent(peer)
    assert outside_of(client, peer, world.servers[0].ip) == (world.router.ip, 40000)


@pytest.mark.parametrize("nat", STEADY)
def test_second_client_with_the_same_port_gets_its_own_mapping(net: Lab, nat: str) -> None:
    """Two hosts, one inside port: two outside ports, each endpoint-independent, each reachable."""
    world = World(net, nat)
    clients = [udp(world.first, 40000), udp(world.second, 40000)]
    asked = [udp(server) for server in world.servers]
    seen = [
        {outside_of(c, sock, h.ip) for sock, h in zip(asked, world.servers, strict=True)} for c in clients
    ]
    assert [len(outside) for outside in seen] == [1, 1], "each is the same for all destinations"
    assert not seen[0] & seen[1]
    for client, (outside,) in zip(clients, seen, strict=True):
        asked[0].sendto(b"answer", outside)
        assert hear(client) == (world.servers[0].ip, port_of(asked[0]))


def test_second_client_keeps_off_the_firsts_port_for_other_destinations(net: Lab) -> None:
    """Conntrack alone would overload the port; then whoever answers to it reaches the wrong client."""
    world = World(net, "open")
    first, second = udp(world.first, 40000), udp(world.second, 40000)
    outside = outside_of(first, udp(world.servers[0]), world.servers[0].ip)
    assert outside_of(second, udp(world.servers[1]), world.servers[1].ip) != outside
    udp(world.servers[2], 999).sendto(b"surprise", outside)
    assert hear(first) == (world.servers[2].ip, 999)


@pytest.mark.parametrize("port", [25000, 35000, 62000])
def test_rebind_changes_a_port_that_lies_in_the_new_range(net: Lab, port: int) -> None:
    """The kernel preserves ports in a range; a rebind must not."""
    world = World(net, "moderate")
    client, server = udp(world.first, port), udp(world.servers[0])
    seen = [outside_of(client, server, world.servers[0].ip)]
    for _ in range(5):
        world.router.nat.rebind()
        seen.append(outside_of(client, server, world.servers[0].ip))
    assert all(before != after for before, after in itertools.pairwise(seen))


@pytest.mark.parametrize("nat", STEADY)
def test_renumbered_client_with_the_same_socket_stays_reachable(net: Lab, nat: str) -> None:
    """After a LAN renumbering: one outside port, and answers and hole punches find the new inside address."""
    world = World(net, nat)
    client = udp(world.first, 40000)
    outsides(client, world.servers)
    world.first.renumber()
    after = set(outsides(client, world.servers))
    assert len(after) == 1
    (outside,) = after
    peer = udp(world.servers[1], 7000)
    peer.sendto(b"early", outside)
    drain(client)
    assert outside_of(client, peer, world.servers[1].ip) == outside
    peer.sendto(b"now", outside)
    assert hear(client) == (world.servers[1].ip, 7000)


@pytest.mark.parametrize("address", [False, True], ids=["new-port", "new-address"])
@pytest.mark.parametrize("nat", KINDS)
def test_rebind_gives_the_next_packet_another_outside(net: Lab, nat: str, address: bool) -> None:
    """The same socket comes from another port (or address), still one for all where that is the kind."""
    world = World(net, nat)
    client = udp(world.first, 40000)
    before = outsides(client, world.servers)
    target = net.routers.get("home-carrier", world.router)
    target.nat.rebind(address=address)
    after = outsides(client, world.servers)
    assert not set(before) & set(after)
    assert {ip for ip, _port in after} == {target.ip}
    assert (target.ip != before[0][0]) == address
    assert (len(set(after)) == 1) == (nat != "strict")


def test_rebind_closes_the_old_outside(net: Lab) -> None:
    """What is still sent to the old port arrives nowhere."""
    world = World(net, "open")
    client, server = udp(world.first, 40000), udp(world.servers[0])
    outside = outside_of(client, server, world.servers[0].ip)
    world.router.nat.rebind()
    server.sendto(b"old address", outside)
    assert is_silent(client)


@pytest.mark.parametrize("nat", ["open", "moderate"])
def test_flush_forgets_mappings_and_the_free_port_comes_back(net: Lab, nat: str) -> None:
    """A port-preserving NAT that forgets everything gives the same port again (LAB.md 6.4)."""
    world = World(net, nat)
    client, server = udp(world.first, 40000), udp(world.servers[0])
    outside = outside_of(client, server, world.servers[0].ip)
    world.router.nat.flush()
    server.sendto(b"forgotten", outside)
    assert is_silent(client)
    assert outside_of(client, server, world.servers[0].ip) == outside


def test_behind_a_filtering_nat_ipv6_is_firewalled_and_not_translated(net: Lab) -> None:
    """A home with IPv6: real addresses, and a stateful firewall that blocks inbound."""
    world = World(net, "moderate")
    v6, server6 = world.first.ip6, world.servers[0].ip6
    assert v6 is not None
    assert server6 is not None
    client, server = udp(world.first, ip="::"), udp(world.servers[0], ip="::")
    server.sendto(b"unsolicited", (v6, port_of(client)))
    assert is_silent(client)
    assert outside_of(client, server, server6) == (v6, port_of(client))
    server.sendto(b"answer", (v6, port_of(client)))
    assert hear(client) == (server6, port_of(server))


def test_hosts_behind_an_open_nat_are_reachable_over_ipv6(net: Lab) -> None:
    """ "open" filters nothing, in either family."""
    world = World(net, "open")
    assert world.first.ip6 is not None
    client, server = udp(world.first, ip="::"), udp(world.servers[0], ip="::")
    server.sendto(b"unsolicited", (world.first.ip6, port_of(client)))
    assert hear(client)[0] == world.servers[0].ip6


def test_router_behind_a_router_translates_twice(net: Lab) -> None:
    """A NAT behind a NAT: the outer address is seen, and answers find their way in."""
    outer = net.router("outer", nat="moderate")
    inner = net.router("inner", nat="strict", upstream=outer)
    client_host, server_host = (
        net.host("client", uplink=inner),
        net.host("server", uplink=net.router("centre")),
    )
    client, server = udp(client_host), udp(server_host)
    outside = outside_of(client, server, server_host.ip)
    assert outside[0] == outer.ip
    assert inner.ip.startswith("192.168.")
    server.sendto(b"answer", outside)
    assert hear(client)[0] == server_host.ip


def test_rebinding_a_router_without_nat_is_refused(net: Lab) -> None:
    """There is nothing to rebind, and the sentence says so."""
    with pytest.raises(TopologyError, match="has no NAT"):
        net.router("plain").nat.rebind()
