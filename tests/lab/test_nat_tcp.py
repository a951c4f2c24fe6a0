"""What NATs do to TCP (RFC 5382), discovered by real connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from nat_kit import World, until

from netns_fixtures import Lab, NatConfig, TopologyError
from netns_fixtures.nat import PRESETS, NatFiltering, NatMapping, NatPorts
from netns_fixtures.nat_probe_tcp import TcpProbe, peer_of, port_of, tcp_behaviour


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("tcp") as lab:
        yield lab


@pytest.mark.parametrize("filtering", NatFiltering)
@pytest.mark.parametrize("mapping", NatMapping)
def test_tcp_is_what_its_axes_say(net: Lab, mapping: NatMapping, filtering: NatFiltering) -> None:
    """Behaviour discovery finds each combination of TCP, and UDP beside it is untouched."""
    ports = NatPorts.PRESERVE if mapping == NatMapping.EIM else NatPorts.RANDOM
    world = World(net, NatConfig(tcp_mapping=mapping, tcp_filtering=filtering, ports=ports))
    seen = tcp_behaviour(world.first, world.servers)
    assert (seen.mapping, seen.filtering, seen.unsolicited) == (mapping, filtering, "drop")
    assert seen.outside[0] == world.router.ip
    # With a port per destination nobody can know where a SYN must go, unless any of them will do.
    assert seen.simultaneous_open == (mapping == NatMapping.EIM or filtering == NatFiltering.EIF)
    assert world.discover().mapping == NatMapping.EIM


@pytest.mark.parametrize("name", ["none", "open", "moderate", "strict", "home", "full-cone", "behave"])
def test_presets_do_to_tcp_what_the_fields_nats_do(net: Lab, name: str) -> None:
    """Linux keeps a free port and lets in nobody; symmetric ones draw a port per connection; "behave" is RFC 5382's."""
    world = World(net, name)
    seen = tcp_behaviour(world.first, world.servers)
    assert seen.translates == PRESETS[name].translates
    if name == "none":
        assert (seen.mapping, seen.filtering) == ("eim", "eif")
    else:
        assert seen.mapping == ("apdm" if name == "strict" else "eim")
        assert seen.filtering == ("adf" if name == "behave" else "apdf")
        assert seen.simultaneous_open == (name != "strict")


@pytest.mark.parametrize("rebound", [False, True], ids=["at first", "rebound"])
@pytest.mark.parametrize(
    "nat",
    [NatConfig(tcp_syn="reject"), NatConfig(tcp_syn="reject", tcp_mapping="eim", tcp_filtering="apdf")],
    ids=["kernel", "tables"],
)
def test_rejected_syn_breaks_simultaneous_open(net: Lab, nat: NatConfig, rebound: bool) -> None:
    """A NAT that answers unsolicited SYNs with RST tells the peer to give up (what REQ-4 is against)."""
    world = World(net, nat)
    if rebound:
        world.router.nat.rebind()
    seen = tcp_behaviour(world.first, world.servers)
    assert (seen.unsolicited, seen.simultaneous_open) == ("reject", False)


def test_syns_that_cross_on_the_way_become_one_connection(net: Lab) -> None:
    """Simultaneous open (REQ-2): both SYNs are under way at once, and neither end listens."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="apdf"))
    first, second = world.servers
    second.link.condition(delay=0.1)
    with TcpProbe() as probe:
        sock = probe.socket(world.first)
        at = peer_of(probe.connect(sock, probe.listener(first), first.ip))
        ours, peer = probe.socket(world.first, port_of(sock)), probe.socket(second)
        for end in (ours, peer):
            end.setblocking(False)
        assert ours.connect_ex((second.ip, port_of(peer))) == 115  # EINPROGRESS
        assert peer.connect_ex(at) == 115
        for end in (ours, peer):
            end.settimeout(10)
            until(lambda end=end: _connected(end))  # type: ignore[misc]
        peer.sendall(b"hello")
        assert ours.recv(5) == b"hello"


def _connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_two_hosts_have_their_own_outside_ports(net: Lab) -> None:
    """Two hosts, one inside port, two destinations: one outside port is never two hosts'."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="eif"))
    with TcpProbe() as probe:
        seen = []
        for host, server in ((world.first, world.servers[0]), (world.second, world.servers[1])):
            sock = probe.socket(host, 40000)
            seen.append(peer_of(probe.connect(sock, probe.listener(server), server.ip)))
        assert seen[0] == (world.router.ip, 40000)
        assert seen[1][1] != 40000


def test_idle_connection_is_forgotten_and_a_half_open_one_sooner(net: Lab) -> None:
    """The established and the transitory time: mappings are gone when they say, by what the router lists."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="apdf", tcp_timeout=4, tcp_transitory=2))
    first, second = world.servers
    with TcpProbe() as probe:
        sock = probe.socket(world.first)
        far = probe.connect(sock, probe.listener(first), first.ip)
        half = probe.socket(world.first)
        half.setblocking(False)
        half.connect_ex(("203.0.113.250", 80))  # nobody there
        left = {
            each.inside[1]: each.expires for each in world.router.nat.mappings() if each.protocol == "tcp"
        }
        assert 2 < left[port_of(sock)] <= 4
        assert left.get(port_of(half), 0) <= 2
        half.close()

        def tcp() -> set[int]:
            return {each.inside[1] for each in world.router.nat.mappings() if each.protocol == "tcp"}

        until(lambda: port_of(sock) not in tcp())
        far.settimeout(0.3)
        far.sendall(b"too late")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(10)
        fresh = probe.connect(probe.socket(world.first), probe.listener(second), second.ip)
        fresh.sendall(b"hello")


@pytest.mark.parametrize("keep", [False, True], ids=["broken", "kept"])
def test_rebind_moves_tcp_mappings(net: Lab, keep: bool) -> None:
    """New connections of a port come from another outside port; those under way live on if they may."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="apdf"))
    first, second = world.servers
    with TcpProbe() as probe:
        sock = probe.socket(world.first)
        far = probe.connect(sock, probe.listener(first), first.ip)
        world.router.nat.rebind(keep_flows=keep)
        again = probe.connect(probe.socket(world.first, port_of(sock)), probe.listener(second), second.ip)
        assert peer_of(again)[1] != peer_of(far)[1]
        far.sendall(b"hello")
        if keep:
            assert sock.recv(5) == b"hello"
            sock.sendall(b"world")
            assert far.recv(5) == b"world"
        else:
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(5)


def test_lifetime_ends_connections_in_use(net: Lab) -> None:
    """tcp_lifetime ends a mapping however busy its connection is: nothing gets through any more, either way."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="apdf", tcp_lifetime=1))
    first = world.servers[0]
    with TcpProbe() as probe:
        sock = probe.socket(world.first)
        far = probe.connect(sock, probe.listener(first), first.ip)
        sock.settimeout(0.3)

        def dead() -> bool:
            far.sendall(b"?")
            try:
                return not sock.recv(100)
            except TimeoutError:
                return True

        until(dead)
        assert not [each for each in world.router.nat.mappings() if each.inside[1] == port_of(sock)]


def test_inside_hosts_connect_by_outside_addresses(net: Lab) -> None:
    """Hairpin of TCP (REQ-8): a neighbour's outside end is reached, from the outside address of the sender."""
    world = World(net, NatConfig(tcp_mapping="eim", tcp_filtering="eif", hairpin=True))
    first = world.servers[0]
    with TcpProbe() as probe:
        sock = probe.socket(world.second)
        at = peer_of(probe.connect(sock, probe.listener(first), first.ip))
        listener = probe.listener(world.second, port_of(sock))
        client = probe.socket(world.first)
        client.connect(at)
        until(lambda: bool(probe_peers := probe.accepted(listener)) and probe_peers[0][0] == world.router.ip)


def test_tcp_axes_that_cannot_be_are_refused() -> None:
    """Before anything is made, with the reason."""
    for wrong in (
        {"ports": "overload", "tcp_mapping": "eim"},
        {"tcp_lifetime": 3},
        {"tcp_transitory": 1.5},
        {"tcp_syn": "hold"},
        {"tcp_mapping": "eif"},
        {"translates": False, "filtering": "eif", "tcp_syn": "reject"},
    ):
        with pytest.raises(TopologyError):
            NatConfig(**wrong)
