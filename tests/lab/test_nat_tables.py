"""NATs that keep tables of their own do what the simpler kinds do, and what those cannot (RFC 4787)."""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Iterator

import pytest
from nat_kit import World
from udp_kit import Address, close_all, drain, hear, outside_of, port_of, udp

from netns_fixtures import Host, Lab, NatConfig, Router, TopologyError
from netns_fixtures.nat_probe import Probe

EIM = [NatConfig(filtering=filtering, timeout=60) for filtering in ("eif", "adf", "apdf")]
DEPENDENT = [
    NatConfig(mapping=mapping, filtering=filtering)
    for mapping in ("adm", "apdm")
    for filtering in ("eif", "adf", "apdf")
]


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("tables") as lab:
        yield lab
    close_all()


def name(nat: str | NatConfig) -> str:
    return nat if isinstance(nat, str) else nat.label.replace(" ", "-")


def outsides(client: socket.socket, servers: list[Host]) -> list[Address]:
    return [outside_of(client, udp(server), server.ip) for server in servers]


@pytest.mark.parametrize("nat", EIM, ids=name)
def test_peers_packet_first_does_not_change_our_port(net: Lab, nat: NatConfig) -> None:
    """Simultaneous open: the peer's packet is at our NAT before ours, and hole punching still works."""
    world = World(net, nat)
    (server, other), client, peer = world.servers, udp(world.first, 40000), udp(world.servers[1], 7000)
    outside = outside_of(client, udp(server), server.ip)
    peer.sendto(b"too early", outside)
    assert outside_of(client, peer, other.ip) == outside
    drain(client)
    peer.sendto(b"now", outside)
    assert hear(client) == (other.ip, 7000)


@pytest.mark.parametrize("nat", EIM, ids=name)
def test_two_hosts_punch_through_two_of_these(net: Lab, nat: NatConfig) -> None:
    """Both send to the other's outside address, one of them first."""
    left, right = World(net, nat), World(net, nat)
    a, b, server = udp(left.first), udp(right.first), left.servers[0]
    a_at, b_at = (outside_of(sock, udp(server), server.ip) for sock in (a, b))
    for _ in range(2):
        a.sendto(b"hello", b_at)
        b.sendto(b"hello", a_at)
    assert hear(a) == b_at
    assert hear(b) == a_at


@pytest.mark.parametrize("nat", [*EIM, *DEPENDENT], ids=name)
def test_second_client_with_the_same_port_gets_its_own_mappings(net: Lab, nat: NatConfig) -> None:
    """Two hosts, one inside port: no outside port in common, and answers find the right one."""
    world = World(net, nat)
    clients = [udp(world.first, 40000), udp(world.second, 40000)]
    asked = [(udp(server), server.ip) for server in world.servers]
    seen = [[outside_of(client, sock, ip) for sock, ip in asked] for client in clients]
    assert not set(seen[0]) & set(seen[1])
    for client, outside in zip(clients, seen, strict=True):
        for (sock, ip), at in zip(asked, outside, strict=True):
            sock.sendto(b"answer", at)
            assert hear(client) == (ip, port_of(sock))


@pytest.mark.parametrize("nat", [*EIM, *DEPENDENT], ids=name)
def test_renumbered_client_with_the_same_socket_stays_reachable(net: Lab, nat: NatConfig) -> None:
    """After a LAN renumbering the mapping is the new address's, as steady as before, and answers find it."""
    world = World(net, nat)
    client, server = udp(world.first, 40000), udp(world.servers[0])
    outside_of(client, server, world.servers[0].ip)
    world.router.renumber()
    after = {outside_of(client, server, world.servers[0].ip) for _ in range(3)}
    assert len(after) == 1
    server.sendto(b"answer", *after)
    assert hear(client) == (world.servers[0].ip, port_of(server))


@pytest.mark.parametrize("nat", [each for each in DEPENDENT if each.filtering == "eif"], ids=name)
def test_answer_to_a_stranger_comes_from_where_it_sent_to(net: Lab, nat: NatConfig) -> None:
    """A stranger that was let in hears back from that port, whatever a new flow to it would get."""
    world = World(net, nat)
    client, stranger = udp(world.first), udp(world.servers[1])
    outside = outside_of(client, udp(world.servers[0]), world.servers[0].ip)
    stranger.sendto(b"hello?", outside)
    client.sendto(b"hello", hear(client))
    assert hear(stranger) == outside


@pytest.mark.parametrize("nat", [*EIM[:1], *EIM[-1:], DEPENDENT[0]], ids=name)
def test_hairpin_shows_the_outside_address_of_the_sender(net: Lab, nat: NatConfig) -> None:
    """RFC 4787 REQ-9a: an inside host hears from the outside address of the other, and can answer there."""
    world = World(net, NatConfig(mapping=nat.mapping, filtering=nat.filtering, hairpin=True))
    left, right, server = udp(world.first), udp(world.second), world.servers[0]
    left_at, right_at = (outside_of(sock, udp(server), server.ip) for sock in (left, right))
    right.sendto(b"open", left_at)
    left.sendto(b"hello", right_at)
    ip, port = hear(right)
    assert ip == world.router.ip
    if nat.mapping == "eim":
        assert (ip, port) == left_at
    drain(left)
    right.sendto(b"hello back", (ip, port))
    assert hear(left)[0] == world.router.ip


@pytest.mark.parametrize("address", [False, True], ids=["new-port", "new-address"])
@pytest.mark.parametrize("keep", [False, True], ids=["all-break", "flows-live-on"])
@pytest.mark.parametrize(
    "nat",
    ["moderate", "strict", "cgnat", NatConfig(timeout=60), NatConfig(mapping="adm", lifetime=60)],
    ids=name,
)
def test_rebind_moves_what_it_should(net: Lab, nat: str | NatConfig, keep: bool, address: bool) -> None:
    """Twice: new flows come from elsewhere; those under way end, or live on from where they were."""
    world = World(net, nat)
    old, server, other = udp(world.first), udp(world.servers[0]), udp(world.servers[1])
    began = outside_of(old, server, world.servers[0].ip)
    target: Router = world.router.upstream or world.router
    for _ in range(2):
        target.nat.rebind(address=address, keep_flows=keep)
        drain(old)
        server.sendto(b"to the old one", began)
        new = udp(world.first)
        outside = outside_of(new, other, world.servers[1].ip)
        other.sendto(b"witness", outside)
        hear(new)
        assert bool(select.select([old], [], [], 0)[0]) == keep
        assert (outside_of(old, server, world.servers[0].ip) == began) == keep
        assert outside[0] == target.ip
        assert (outside[0] != began[0]) == address
        if not address:
            assert outside[1] != port_of(new)


def test_same_socket_has_old_and_new_flows_after_a_rebind(net: Lab) -> None:
    """What is under way stays on its mapping, a new destination of the same socket gets another one."""
    for nat in ("moderate", NatConfig(timeout=60)):
        world = World(net, nat)
        client, server, other = udp(world.first), udp(world.servers[0]), udp(world.servers[1])
        began = outside_of(client, server, world.servers[0].ip)
        world.router.nat.rebind(keep_flows=True)
        moved = outside_of(client, other, world.servers[1].ip)
        assert moved != began == outside_of(client, server, world.servers[0].ip)
        for sock, host, at in ((server, world.servers[0], began), (other, world.servers[1], moved)):
            sock.sendto(b"answer", at)
            assert hear(client)[0] == host.ip
        assert {each.outside for each in world.router.nat.mappings()} == {began, moved}


def test_overloading_nat_keeps_its_ports(net: Lab) -> None:
    """There is no other port to rebind to; the address may change."""
    world = World(net, NatConfig(ports="overload"))
    with pytest.raises(TopologyError, match="address=True"):
        world.router.nat.rebind()
    client, server = udp(world.first), udp(world.servers[0])
    before = outside_of(client, server, world.servers[0].ip)
    world.router.nat.rebind(address=True)
    after = outside_of(client, server, world.servers[0].ip)
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)


def test_changed_nat_is_what_it_was_changed_to(net: Lab) -> None:
    """Hard to easy to something else, in a running lab; each change forgets what there was."""
    world = World(net, "strict")
    for nat in ("moderate", NatConfig(mapping="adm", filtering="adf", timeout=30), "open", "strict"):
        world.router.nat.change(nat)
        assert world.router.nat.mappings() == ()
        seen, config = world.discover(), world.router.nat.config
        assert (seen.mapping, seen.filtering, seen.ports) == (config.mapping, config.filtering, config.ports)
    assert [e.data["after"] for e in net.events if e.kind == "nat_change"][::2] == ["moderate", "open"]


@pytest.mark.parametrize("nat", ["moderate", EIM[2], DEPENDENT[0]], ids=name)
def test_flush_forgets_mappings_and_the_free_port_comes_back(net: Lab, nat: str | NatConfig) -> None:
    """A port-preserving NAT that forgets everything gives the same port again."""
    world = World(net, nat)
    client, server = udp(world.first, 40000), udp(world.servers[0])
    outside = outside_of(client, server, world.servers[0].ip)
    world.router.nat.flush()
    assert world.router.nat.mappings() == ()
    assert outside_of(client, server, world.servers[0].ip) == outside


@pytest.mark.parametrize("nat", ["moderate", "strict", EIM[0], DEPENDENT[0], DEPENDENT[-1]], ids=name)
def test_errors_from_outside_reach_the_socket_that_they_are_for(net: Lab, nat: str | NatConfig) -> None:
    """ICMP errors quote our packet; the NAT translates them, too: path MTU discovery depends on it."""
    world = World(net, nat)
    client = udp(world.first)
    client.connect((world.servers[0].ip, 9))
    client.send(b"nobody listens there")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_mappings_say_who_is_seen_as_what(net: Lab) -> None:
    """Inside, outside, for whom, and how long it has left."""
    for nat, remote in (
        ("moderate", lambda _at: None),
        ("strict", lambda at: at),
        (NatConfig(timeout=60), lambda _at: None),
        (NatConfig(mapping="adm", timeout=60, lifetime=90), lambda at: (at[0], 0)),
        (NatConfig(mapping="apdm", ports="sequential", lifetime=60), lambda at: at),
    ):
        world = World(net, nat)
        client, server = udp(world.first), udp(world.servers[0])
        outside = outside_of(client, server, world.servers[0].ip)
        (mapping,) = world.router.nat.mappings()
        assert mapping.protocol == "udp"
        assert mapping.inside == (world.first.ip, port_of(client))
        assert mapping.outside == outside
        assert mapping.remote == remote((world.servers[0].ip, port_of(server)))
        assert 0 < mapping.expires <= 300


def test_many_clients_get_ports_of_their_own(net: Lab) -> None:
    """Sixty sockets of two hosts, half of them with the same inside ports: sixty mappings, all reachable."""
    world = World(net, NatConfig(ports="random", filtering="eif"))
    with Probe() as probe:
        there = probe.udp(world.servers[0])
        clients = [
            probe.udp(host, 41000 + n)
            for n, host in itertools.product(range(30), (world.first, world.second))
        ]
        seen = [probe.outside(client, there, world.servers[0].ip) for client in clients]
        assert len(set(seen)) == len(clients)
        for client, at in zip(clients, seen, strict=True):
            there.sendto(b"answer", at)
            assert hear(client)[0] == world.servers[0].ip
