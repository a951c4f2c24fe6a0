"""Hosts without IPv4 reach servers that have nothing else, through a real NAT64."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from udp_kit import PATIENCE, close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, Router, TopologyError

# <linux/in.h>, <linux/in6.h>; Python 3.11 has no names for these
_IP_MTU_DISCOVER, _PMTUDISC_DONT, _PMTUDISC_DO = 10, 0, 2
_IP_MTU = 14
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_RECVERR = 23, 24, 25


class World:
    """A phone without IPv4 behind a NAT64, a server without IPv6."""

    def __init__(self, lab: Lab, nat: str = "none") -> None:
        self.lab = lab
        self.isp: Router = lab.router("isp", nat=nat, family="v6", nat64=True)
        self.phone: Host = lab.host("phone", uplink=self.isp)
        self.server: Host = lab.host("server", uplink=lab.router("centre", family="v4"))
        assert self.isp.nat64
        self.server6 = self.isp.nat64.address(self.server.ip)

    def meet(self) -> tuple[socket.socket, socket.socket, tuple[str, int]]:
        """UDP sockets of phone and server that know each other, and the phone's address as seen outside."""
        here, there = udp(self.phone, 0, "::"), udp(self.server, 7000)
        return here, there, outside_of(here, there, self.server6)


@pytest.fixture
def world() -> Iterator[World]:
    with Lab("nat64", seed=7) as lab:
        yield World(lab)
    close_all()


def test_udp_is_seen_from_the_routers_address_and_answered(world: World) -> None:
    """Server and phone see each other's stand-ins; the mapping is the same for every destination."""
    here, there, seen = world.meet()
    assert seen == (world.isp.ip, port_of(here))
    there.sendto(b"answer", seen)
    assert hear(here) == (world.server6, 7000)
    assert outside_of(here, udp(world.server, 7001), world.server6) == seen


def test_hosts_behind_one_nat64_are_told_apart(world: World) -> None:
    """Two phones with one port, and a router behind the NAT64, all get their own answers."""
    inner = world.lab.router("inner", upstream=world.isp)
    phones = [world.phone, world.lab.host("second", uplink=world.isp), world.lab.host("third", uplink=inner)]
    there = udp(world.server, 7000)
    sockets = [udp(phone, 5000, "::") for phone in phones]
    seen = [outside_of(sock, there, world.server6) for sock in sockets]
    assert len(set(seen)) == 3
    for number, address in enumerate(seen):
        there.sendto(bytes((number,)), address)
    assert [sock.recv(10) for sock in sockets] == [b"\0", b"\1", b"\2"]


def test_tcp_carries_megabytes_both_ways(world: World) -> None:
    """Segments of full size, acknowledgements, and the end of each direction."""
    size = 1_000_000
    with world.server.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("", 80))
        listening.listen()
        with world.phone.socket(socket.AF_INET6, socket.SOCK_STREAM) as here:
            here.settimeout(PATIENCE)
            here.connect((world.server6, 80))
            there, peer = listening.accept()
            assert peer[0] == world.isp.ip
            with there:
                there.settimeout(PATIENCE)
                for sender, receiver in ((here, there), (there, here)):
                    assert carried(sender, receiver, size) == size


def carried(sender: socket.socket, receiver: socket.socket, size: int) -> int:
    """Send bytes and the end; how many arrived."""

    def send() -> None:
        sender.sendall(bytes(size))
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    count = 0
    while data := receiver.recv(1 << 16):
        count += len(data)
    thread.join()
    return count


def test_ping_and_errors_cross(world: World) -> None:
    """Echo is answered, a closed port is refused, an unknown network is unreachable."""
    with world.phone.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6) as ping:
        ping.settimeout(PATIENCE)
        ping.sendto(b"\x80\0\0\0\0\0\0\1" + b"x" * 1000, (world.server6, 0))
        data, source = ping.recvfrom(2000)
    assert (data[0], data[6:8], len(data), source[0]) == (129, b"\0\1", 1008, world.server6)
    assert world.isp.nat64
    closed = udp(world.phone, 0, "::")
    closed.connect((world.server6, 9))
    closed.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        closed.recv(10)
    lost = udp(world.phone, 0, "::")
    lost.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    lost.connect((world.isp.nat64.address("8.8.8.8"), 9))
    lost.send(b"x")
    with pytest.raises(OSError, match="unreachable"):
        lost.recv(10)


def test_path_mtu_is_20_bytes_smaller_for_the_ipv4_side(world: World) -> None:
    """What fits exactly arrives; the next byte makes the server learn of 1480."""
    here, there, seen = world.meet()
    there.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    there.connect(seen)
    there.send(bytes(1500 - 48))
    assert len(here.recv(2000)) == 1452
    there.send(bytes(1453))
    with pytest.raises(OSError, match="too long"):
        there.recv(10)
    assert there.getsockopt(socket.IPPROTO_IP, _IP_MTU) == 1480


def test_path_mtu_of_the_ipv4_side_reaches_the_ipv6_side(world: World) -> None:
    """A narrow link behind the translator: the phone hears of its MTU and 20 bytes more."""
    here, _there, _seen = world.meet()
    centre = world.lab.routers["centre"]
    centre.popen(["ip", "link", "set", "lan", "mtu", "1400"]).check(PATIENCE)
    here.connect((world.server6, 7000))
    here.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
    here.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    here.send(bytes(1400))
    with pytest.raises(OSError, match="too long"):
        here.recv(10)
    assert here.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) == 1420


def test_datagrams_larger_than_packets_cross_in_fragments(world: World) -> None:
    """Both sides fragment, and put together again."""
    here, there, seen = world.meet()
    payload = bytes(range(250)) * 16
    there.setsockopt(
        socket.IPPROTO_IP,  # <linux/in.h>, <linux/in6.h>; Python 3.11 has no names for these
        _IP_MTU_DISCOVER,
        _PMTUDISC_DONT,
    )
    there.sendto(payload, seen)
    assert here.recv(5000) == payload
    here.sendto(payload, (world.server6, 7000))
    assert there.recv(5000) == payload


def test_filtering_and_rebinding_are_those_of_the_routers_nat() -> None:
    """moderate: nobody comes in unasked; a rebind gives every phone another port."""
    with Lab("nat64", seed=7) as lab:
        world = World(lab, "moderate")
        here, there, seen = world.meet()
        udp(world.server, 7001).sendto(b"unasked", seen)
        assert is_silent(here)
        world.isp.nat.rebind()
        assert outside_of(here, there, world.server6)[1] != seen[1]
    close_all()


def test_native_ipv6_is_not_translated(world: World) -> None:
    """A dual-stack server sees the phone's own address, also when asked for by name."""
    other = world.lab.host("other", uplink=world.lab.router("dual"))
    there, here = udp(other, 7000, "::"), udp(world.phone, 0, "::")
    assert world.phone.resolve("other") == [other.ip6, other.ip]
    here.sendto(b"x", (str(other.ip6), 7000))
    assert hear(there)[0] == world.phone.ip6


def test_names_without_ipv6_get_the_translators_addresses(world: World) -> None:
    """The lab's name server is a DNS64 for networks with a NAT64, also for programs, and for networks behind."""
    inner = world.lab.host("inner", uplink=world.lab.router("behind", upstream=world.isp))
    assert world.phone.resolve("server") == inner.resolve("server") == [world.server6, world.server.ip]
    assert world.phone.resolve(world.server.ip) == [world.server.ip]  # a literal is what it is
    found = world.phone.run(socket.getaddrinfo, "server", 80, socket.AF_INET6, socket.SOCK_STREAM)
    assert [address[4][0] for address in found] == [world.server6]
    dual = world.lab.host("dual", uplink=world.lab.router("home"))
    assert dual.resolve("server") == [world.server.ip]
    assert world.isp.nat64
    with pytest.raises(TopologyError, match="no IPv4 address"):
        world.isp.nat64.address("::1")
    world.lab.dns.dns64(world.isp, None)
    assert world.phone.resolve("server") == [world.server.ip]


def test_translator_ends_with_the_lab() -> None:
    """No process remains."""
    with Lab("nat64", seed=7) as lab:
        World(lab)
        lab.build()
        agent = lab.agent_pid
        assert translators_of(agent)
    assert translators_of(agent) == []


def translators_of(agent: int) -> list[int]:
    """Children of the agent that translate."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            words = (path.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if parent == agent and b"netns_fixtures.nat64" in words:
            found.append(int(path.parent.name))
    return found
