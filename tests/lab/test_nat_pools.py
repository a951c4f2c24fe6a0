"""NATs with several outside addresses: who comes from which (RFC 4787 section 4.1, REQ-2)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from nat_kit import World
from udp_kit import close_all, drain, hear, outside_of, udp

from netns_fixtures import Lab, NatConfig, TopologyError
from netns_fixtures.nat import NatMapping, NatPooling, NatPorts
from netns_fixtures.nat_probe_tcp import tcp_behaviour
from netns_fixtures.scenario import Scenario


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("pools") as lab:
        yield lab
    close_all()


@pytest.mark.parametrize("mapping", NatMapping)
def test_pools_behave_like_one_address(net: Lab, mapping: NatMapping) -> None:
    """Mapping, filtering, ports and hairpin are the same with three addresses, and pooling is what was asked for."""
    worlds = {
        (pooling, ports): World(
            net,
            NatConfig(
                mapping=mapping,
                filtering="adf",
                ports=ports,
                hairpin=True,
                addresses=3,
                pooling=pooling,
                timeout=60,
            ),
        )
        for pooling, ports in itertools.product(
            NatPooling, (NatPorts.PRESERVE, NatPorts.SEQUENTIAL, NatPorts.RANDOM)
        )
    }
    for (pooling, ports), world in worlds.items():
        seen = world.discover()
        assert (seen.mapping, seen.filtering, seen.pooling) == (mapping, "adf", pooling)
        assert seen.ports == ports
        assert seen.outside[0] in world.router.nat.addresses
        assert seen.hairpin == (mapping == NatMapping.EIM)


@pytest.mark.parametrize("pooling", NatPooling)
def test_tcp_of_a_pool_is_what_its_axes_say(net: Lab, pooling: NatPooling) -> None:
    """Mappings of TCP have an address and a port, too, and with pairs it is the host's address for UDP."""
    world = World(
        net, NatConfig(addresses=3, pooling=pooling, tcp_mapping="eim", tcp_filtering="adf", hairpin=True)
    )
    seen = tcp_behaviour(world.first, world.servers)
    assert (seen.mapping, seen.filtering, seen.simultaneous_open) == ("eim", "adf", True)
    if pooling == NatPooling.PAIRED:
        assert world.discover().outside[0] == seen.outside[0]


def test_paired_pool_gives_each_host_an_address_of_its_own(net: Lab) -> None:
    """All sockets of a host come from one address, those of TCP too; the next host has the next one."""
    world = World(net, NatConfig(addresses=2))
    server = world.servers[0]
    there = udp(server, 7000)
    seen = [
        {outside_of(udp(host), there, server.ip)[0] for _ in range(5)} for host in (world.first, world.second)
    ]
    assert [len(addresses) for addresses in seen] == [1, 1]
    assert set.union(*seen) == set(world.router.nat.addresses)
    stream = socket.AF_INET, socket.SOCK_STREAM
    with server.socket(*stream) as listener, world.first.socket(*stream) as client:
        listener.bind(("", 80))
        listener.listen()
        client.connect((server.ip, 80))
        accepted, peer = listener.accept()
        accepted.close()
        assert {peer[0]} == seen[0]


def test_two_hosts_keep_one_port_at_two_addresses(net: Lab) -> None:
    """Where addresses differ, equal ports are no collision; and both are reached where they are."""
    world = World(net, NatConfig(addresses=2, filtering="eif"))
    server, stranger = udp(world.servers[0]), udp(world.servers[1], 9000)
    clients = [udp(host, 40000) for host in (world.first, world.second)]
    ends = [outside_of(client, server, world.servers[0].ip) for client in clients]
    assert ends[0][0] != ends[1][0]
    assert [port for _ip, port in ends] == [40000, 40000]
    for client, end in zip(clients, ends, strict=True):
        drain(client)
        stranger.sendto(b"hello", end)
        assert hear(client) == (world.servers[1].ip, 9000)


@pytest.mark.parametrize("keep", [False, True], ids=["broken", "kept"])
@pytest.mark.parametrize("address", [False, True], ids=["ports", "addresses"])
def test_rebind_moves_a_pool(net: Lab, address: bool, keep: bool) -> None:
    """Other ports, or other addresses, for everybody; flows under way live on where they should."""
    world = World(net, NatConfig(addresses=2))
    (first, second), client = world.servers, udp(world.first, 40000)
    there, elsewhere = udp(first, 7000), udp(second, 7000)
    before, pool = outside_of(client, there, first.ip), world.router.nat.addresses
    world.router.nat.rebind(address=address, keep_flows=keep)
    after = outside_of(client, elsewhere, second.ip)
    assert after[0] in world.router.nat.addresses
    assert after != before
    assert set(pool).isdisjoint(world.router.nat.addresses) == address
    assert (outside_of(client, there, first.ip) == before) == keep


def test_addresses_can_be_chosen_and_changed(net: Lab) -> None:
    """A list of addresses is taken as it is, the router's own first; a change gives back what it no longer has."""
    world = World(net, NatConfig(addresses=("203.0.113.200", "203.0.113.201")))
    assert world.router.nat.addresses == ("203.0.113.200", "203.0.113.201")
    assert world.router.ip == "203.0.113.200"
    server, there = world.servers[0], udp(world.servers[0], 7000)
    assert outside_of(udp(world.first), there, server.ip)[0] in world.router.nat.addresses
    with pytest.raises(TopologyError, match="in use"):
        world.router.nat.change(NatConfig(addresses=("203.0.113.203", "203.0.113.53")))
    assert world.router.nat.addresses == ("203.0.113.200", "203.0.113.201")
    world.router.nat.change(NatConfig(addresses=3, pooling="arbitrary"))
    assert world.router.nat.addresses[:2] == ("203.0.113.200", "203.0.113.201")
    socks = [udp(world.first) for _ in range(3)]
    assert {outside_of(sock, there, server.ip)[0] for sock in socks} == set(world.router.nat.addresses)
    world.router.nat.change("moderate")
    assert list(world.router.nat.addresses) == ["203.0.113.200"]
    assert world.router.uplink.addresses[0].startswith("203.0.113.200/")
    assert outside_of(udp(world.first), there, server.ip)[0] == "203.0.113.200"


def test_pool_follows_its_uplink_to_another_subnet(net: Lab) -> None:
    """A carrier that renumbers its LAN moves all outside addresses of the NATs behind it."""
    carrier = net.router("carrier", nat="moderate")
    world = World(net, NatConfig(addresses=2), upstream=carrier)
    server = world.servers[0]
    outside_of(udp(world.first), udp(server), server.ip)
    before = world.router.nat.addresses
    carrier.renumber()
    after = world.router.nat.addresses
    assert len(after) == 2
    assert set(before).isdisjoint(after)
    assert outside_of(udp(world.first), udp(server), server.ip)[0] == carrier.ip
    assert {each.outside[0] for each in world.router.nat.mappings()} <= set(after)


def test_pool_survives_its_file(net: Lab) -> None:
    """A scenario carries the addresses and the pooling, and builds the same NAT."""
    world = World(net, NatConfig(addresses=("203.0.113.200", "203.0.113.201"), pooling="arbitrary"))
    text = str(Scenario.of(net))
    with Scenario.parse(text).build() as again:
        assert again.routers[world.router.name].nat.config == world.router.nat.config
        assert again.routers[world.router.name].nat.addresses == world.router.nat.addresses


def test_addresses_that_cannot_be_are_refused_before_anything_is_made(net: Lab) -> None:
    """Taken, outside of the subnet, or where there is no IPv4 uplink."""
    net.router("six", family="v6")
    for addresses in (("203.0.113.53",), ("192.0.2.1",)):
        with pytest.raises(TopologyError):
            net.router("home", nat=NatConfig(addresses=addresses))
    with pytest.raises(TopologyError, match="no IPv4"):
        net.router("home", nat=NatConfig(addresses=2), upstream=net.routers["six"])
    assert set(net.routers) == {"six"}
