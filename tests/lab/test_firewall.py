"""Firewalls of routers and hosts do what their names say, to both families, and change while flows go on."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from udp_kit import PATIENCE, SILENCE, close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Block, Firewall, Host, Lab, TopologyError
from netns_fixtures.firewall import Direction

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
#: What tells who asks that a TCP connection is refused, and what a silent firewall leaves it with.
OPEN, REFUSED, SILENT = "open", "refused", "silent"
# <linux/udp.h>
SOL_UDP, UDP_SEGMENT = 17, 103
#: In a lab without delays a handshake takes microseconds.
HANDSHAKE = 1.0


class World:
    """A client behind a router without NAT, whose firewall is tested, and a server."""

    def __init__(self, lab: Lab, firewall: str | Firewall | None = None, nat: str = "none") -> None:
        self.lab = lab
        self.router = lab.router("office", nat=nat, firewall=firewall)
        self.client = lab.host("client", uplink=self.router)
        self.server = lab.host("server", uplink=lab.router("centre"))
        self.other = lab.host("other", uplink=lab.routers["centre"])


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("firewall") as lab:
        yield lab
    close_all()


def address(host: Host, version: int) -> str:
    return host.ip if version == 4 else host.ip6 or ""


def anywhere(version: int) -> str:
    return "" if version == 4 else "::"


def udp_passes(sender: Host, receiver: Host, version: int, port: int = 7000, size: int = 10) -> bool:
    """Whether a datagram gets there (whether an answer comes back is another question)."""
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(udp(receiver, port, anywhere(version)))
        here = stack.enter_context(udp(sender, 0, anywhere(version)))
        with contextlib.suppress(PermissionError):  # what a host's own firewall says
            here.sendto(bytes(size), (address(receiver, version), port))
        return not is_silent(there)


def dial(client: Host, server: Host, version: int, port: int, patience: float = HANDSHAKE) -> str:
    """What becomes of a TCP connection."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with (
        server.socket(family, socket.SOCK_STREAM) as listener,
        client.socket(family, socket.SOCK_STREAM) as sock,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((anywhere(version), port))
        listener.listen()
        sock.settimeout(patience)
        try:
            sock.connect((address(server, version), port))
        except TimeoutError:
            return SILENT
        except ConnectionRefusedError:
            return REFUSED
        return OPEN


def pings(client: Host, server: Host, version: int) -> bool:
    """Whether an ICMP echo is answered; the kernel fills in identifier and checksum."""
    family, proto, kind = (socket.AF_INET, 1, 8) if version == 4 else (socket.AF_INET6, 58, 128)
    with client.socket(family, socket.SOCK_DGRAM, proto) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(bytes((kind, 0, 0, 0, 0, 0, 0, 1)), (address(server, version), 0))
        return not is_silent(sock)


@FAMILIES
def test_blocked_inbound_lets_only_answers_in(net: Lab, version: int) -> None:
    """Nobody outside can begin; who was asked can answer."""
    world = World(net, "block-inbound")
    assert not udp_passes(world.server, world.client, version)
    here, there = udp(world.client, 0, anywhere(version)), udp(world.server, 7001, anywhere(version))
    here.sendto(b"question", (address(world.server, version), 7001))
    there.sendto(b"answer", hear(there))
    assert hear(here)[1] == 7001


@FAMILIES
def test_udp_blocked_lets_names_resolve_and_tcp_pass(net: Lab, version: int) -> None:
    """DNS goes both ways, also when its answer comes; other UDP neither way; a source port of 53 is no key."""
    world = World(net, "udp-blocked")
    assert not udp_passes(world.client, world.server, version)
    assert not udp_passes(world.server, world.client, version)
    here, there = udp(world.client, 0, anywhere(version)), udp(world.server, 53, anywhere(version))
    here.sendto(b"question", (address(world.server, version), 53))
    there.sendto(b"answer", hear(there))
    assert hear(here)[1] == 53
    disguised, target = udp(world.client, 53, anywhere(version)), udp(world.server, 7002, anywhere(version))
    disguised.sendto(b"me too", (address(world.server, version), 7002))
    assert is_silent(target)
    assert dial(world.client, world.server, version, 7003) == OPEN


@FAMILIES
def test_corporate_lets_only_the_web_and_names_through(net: Lab, version: int) -> None:
    """TCP 80 and 443 from inside; nothing else, and nothing from outside."""
    world = World(net, "corporate")
    assert dial(world.client, world.server, version, 443) == OPEN
    assert dial(world.client, world.server, version, 80) == OPEN
    assert dial(world.client, world.server, version, 8443, SILENCE) == SILENT
    assert dial(world.server, world.client, version, 443, SILENCE) == SILENT
    assert not udp_passes(world.client, world.server, version, 443)
    assert udp_passes(world.client, world.server, version, 53)


@FAMILIES
def test_rejecting_firewall_says_so_to_udp_and_tcp(net: Lab, version: int) -> None:
    """TCP is reset, UDP gets ICMP: the sender knows at once, instead of waiting."""
    world = World(net)
    world.router.firewall.set(Firewall.only("udp/53"), reject=True)
    assert dial(world.client, world.server, version, 7000, PATIENCE) == REFUSED
    with udp(world.client, 0, anywhere(version)) as here:
        here.connect((address(world.server, version), 7000))
        here.send(b"anyone?")
        with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH if version == 4 else errno.EACCES)):
            here.recv(10)


@pytest.mark.parametrize("direction", ["out", "in", "both"])
def test_long_packets_are_dropped_in_the_given_direction(net: Lab, direction: Direction) -> None:
    """1300 bytes pass and 1301 do not, counted as IP counts them; the other direction is free."""
    world = World(net, Firewall.longer_than(1300, direction))
    for version, headers in ((4, 28), (6, 48)):
        fits = 1300 - headers
        for way, sender, receiver in (
            ("out", world.client, world.server),
            ("in", world.server, world.client),
        ):
            assert udp_passes(sender, receiver, version, size=fits)
            assert udp_passes(sender, receiver, version, size=fits + 1) == (direction not in (way, "both"))


def test_size_is_that_of_real_packets_not_of_joined_ones(net: Lab) -> None:
    """Datagrams that the kernel hands on as one (UDP segmentation offload) are judged one by one."""
    world = World(net, Firewall.longer_than(1300))
    with udp(world.client) as here, udp(world.server, 7000) as there:
        segments = (SOL_UDP, UDP_SEGMENT, struct.pack("=H", 1000))
        here.sendmsg([bytes(4000)], [segments], 0, (world.server.ip, 7000))
        assert [len(there.recv(2000)) for _ in range(4)] == [1000] * 4


def test_icmp_blocked_lets_no_ping_through(net: Lab) -> None:
    """Pings of both families are gone, UDP is not."""
    world = World(net)
    assert [pings(world.client, world.server, version) for version in (4, 6)] == [True, True]
    world.router.firewall.set("icmp-blocked")
    assert [pings(world.client, world.server, version) for version in (4, 6)] == [False, False]
    assert udp_passes(world.client, world.server, 4)


@FAMILIES
def test_set_cuts_flows_under_way_and_clear_lets_them_go_on(net: Lab, version: int) -> None:
    """The same two sockets: silent while UDP is blocked, talking before and after."""
    world = World(net)
    here, there = udp(world.client, 0, anywhere(version)), udp(world.server, 0, anywhere(version))
    outside_of(here, there, address(world.server, version))
    world.router.firewall.set("udp-blocked")
    here.sendto(b"hello?", (address(world.server, version), port_of(there)))
    there.sendto(b"hello?", (address(world.client, version), port_of(here)))
    assert is_silent(there)
    assert is_silent(here)
    world.router.firewall.clear()
    outside_of(here, there, address(world.server, version))


def test_set_with_keep_lets_known_flows_go_on(net: Lab) -> None:
    """Those that began before go on both ways; a new one is blocked."""
    world = World(net, "open")
    here, there = udp(world.client), udp(world.server)
    seen = outside_of(here, there, world.server.ip)
    there.sendto(b"answer", seen)
    hear(here)
    world.router.firewall.set("no-udp", established="keep")
    outside_of(here, there, world.server.ip)
    there.sendto(b"answer", seen)
    hear(here)
    assert not udp_passes(world.client, world.server, 4)


def test_keep_without_known_flows_is_refused(net: Lab) -> None:
    """A router that kept no track cannot say who was there before; the error names the remedy."""
    world = World(net)
    with pytest.raises(TopologyError, match="firewall='open'"):
        world.router.firewall.set("no-udp", established="keep")
    assert udp_passes(world.client, world.server, 4)


def test_blocking_inbound_cuts_flows_that_began_outside(net: Lab) -> None:
    """They are cut, until the inside asks."""
    world = World(net, "open")
    here, there = udp(world.client, 7000), udp(world.server)
    outside_of(there, here, world.client.ip)
    world.router.firewall.set("block-inbound")
    there.sendto(b"still there?", (world.client.ip, 7000))
    assert is_silent(here)
    outside_of(here, there, world.server.ip)
    outside_of(there, here, world.client.ip)


@FAMILIES
def test_blocked_pair_is_cut_both_ways_and_others_are_not(net: Lab, version: int) -> None:
    """Two hosts lose each other; a third one reaches both; unblocked they meet again."""
    world = World(net)
    world.router.firewall.block(world.client, world.server)
    assert not udp_passes(world.client, world.server, version)
    assert not udp_passes(world.server, world.client, version)
    assert udp_passes(world.other, world.client, version)
    world.router.firewall.unblock(world.client, world.server)
    assert udp_passes(world.client, world.server, version)


def test_one_way_block_lets_the_other_way_pass(net: Lab) -> None:
    """A link that only works in one direction."""
    world = World(net)
    world.router.firewall.block(world.server, world.client, one_way=True)
    assert udp_passes(world.client, world.server, 4)
    assert not udp_passes(world.server, world.client, 4)


def test_block_of_ports_is_of_that_protocol_and_its_answers(net: Lab) -> None:
    """UDP 7000 is gone, UDP 7001 and TCP 7000 are not; with one family only where asked for."""
    world = World(net)
    world.router.firewall.block(destination=world.server.ip, protocol="udp", ports=[7000])
    assert not udp_passes(world.client, world.server, 4, 7000)
    assert udp_passes(world.client, world.server, 6, 7000)
    assert udp_passes(world.client, world.server, 4, 7001)
    assert dial(world.client, world.server, 4, 7000) == OPEN


def test_blocked_peer_behind_a_nat_is_its_outside(net: Lab) -> None:
    """The router sees the NAT's address, not the host's; for a host of its own it sees the host's."""
    office, home = net.router("office", nat="open"), net.router("home", nat="open")
    client, peer = net.host("client", uplink=office), net.host("peer", uplink=home)
    here, there = udp(client), udp(peer)
    server = net.host("server", uplink=net.router("centre"))
    peers = outside_of(there, udp(server, 9), server.ip)
    here.sendto(b"hello", peers)
    hear(there)
    office.firewall.block(client, peer)
    assert office.firewall.blocked[0].source[0] == client.ip
    assert office.firewall.blocked[0].destination[0] == home.ip
    here.sendto(b"hello?", peers)
    assert is_silent(there)


@FAMILIES
def test_hosts_firewall_blocks_inbound_and_keeps_its_link(net: Lab, version: int) -> None:
    """As Tailscale's harness has it: stateful, per host; neighbour discovery goes on."""
    world = World(net)
    guarded = net.host("guarded", uplink=world.router, firewall="block-inbound")
    assert not udp_passes(world.client, guarded, version)
    assert udp_passes(guarded, world.client, version)
    guarded.firewall.clear()
    assert udp_passes(world.client, guarded, version)


def test_host_that_blocks_all_is_still_a_neighbour(net: Lab) -> None:
    """IPv6 finds it by its address, though nothing else gets through; the loopback stays."""
    world = World(net)
    guarded = net.host("guarded", uplink=world.router, firewall=Firewall.only())
    assert not udp_passes(world.client, guarded, 6)
    neighbours = world.client.popen(["ip", "-6", "neigh", "show", guarded.ip6 or ""]).check(PATIENCE)
    assert guarded.link.mac in neighbours
    with udp(guarded, 7000, "::1") as ear, udp(guarded, 0, "::1") as mouth:
        mouth.sendto(b"me", ("::1", 7000))
        assert hear(ear)[0] == "::1"


def test_host_cannot_judge_the_size_of_what_it_sends(net: Lab) -> None:
    """The kernel cuts later; an error says what to do, and nothing changes. What arrives it can judge."""
    world = World(net)
    with pytest.raises(TopologyError, match="block by size in its router"):
        world.client.firewall.set(Firewall.longer_than(1000))
    assert udp_passes(world.client, world.server, 4, size=1100)
    world.client.firewall.set(Firewall.longer_than(1000, "in"))
    assert not udp_passes(world.server, world.client, 4, size=1100)


def test_nat_changes_leave_the_firewall_and_the_other_way_round(net: Lab) -> None:
    """A rebind keeps UDP blocked, and clearing the firewall keeps the NAT."""
    world = World(net, "no-udp", nat="moderate")
    world.router.nat.rebind()
    assert not udp_passes(world.client, world.server, 4)
    world.router.firewall.clear()
    there = udp(world.server)
    assert outside_of(udp(world.client), there, world.server.ip)[0] == world.router.ip


def test_firewall_verbs_are_events(net: Lab) -> None:
    """Each says in a sentence what holds now."""
    world = World(net)
    world.router.firewall.set(Firewall((Block(protocol="udp", direction="in"),)))
    world.router.firewall.block(world.client, world.server, protocol="tcp", ports=[443], one_way=True)
    world.router.firewall.unblock()
    world.router.pmtu_blackhole()
    world.router.firewall.clear()
    told = [event.text for event in net.events if event.node == "office"]
    assert told == [
        "office has the firewall blocking in udp now",
        "office blocks client -> server (tcp port 443)",
        "office blocks no pairs any more",
        "office is a PMTU black hole",
        "office cleared its firewall (blocking in udp, PMTU black hole)",
    ]


def test_unblock_of_what_is_not_blocked_is_refused(net: Lab) -> None:
    """And so are a block of nobody and a stranger's host; what is blocked stands in the message."""
    world = World(net)
    with pytest.raises(TopologyError, match="it blocks nothing"):
        world.router.firewall.unblock(world.client, world.server)
    with pytest.raises(TopologyError, match="say whom to block"):
        world.router.firewall.block()
    with Lab("other") as other:
        stranger = other.host("stranger", uplink=other.router("far"))
        with pytest.raises(TopologyError, match="no host or router of this lab"):
            world.router.firewall.block(stranger)
