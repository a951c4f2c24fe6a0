"""A smaller MTU on the way: routers tell senders, black holes do not, and both change while sockets are open."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from udp_kit import Address, close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, NatConfig, Router, TopologyError

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
# <linux/in.h>, <linux/in6.h>: never fragment, and what the kernel believes of the path.
MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
PATH_MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
PMTUDISC_DO, PMTUDISC_PROBE = 2, 3
HEADERS = {4: 28, 6: 48}


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("mtu") as lab:
        yield lab
    close_all()


class Ends:
    """A client behind a router of some MTU, and a server; sockets that never fragment."""

    def __init__(self, lab: Lab, version: int, nat: str | NatConfig = "none", mtu: int | None = None) -> None:
        self.version = version
        self.router: Router = lab.router("dsl", nat=nat, mtu=mtu)
        self.client = lab.host("client", uplink=self.router)
        self.server = lab.host("server", uplink=lab.router("centre"))
        self.here, self.there = self._open(self.client), self._open(self.server)
        client = outside_of(self.here, self.there, self._ip(self.server))
        self.here.connect((self._ip(self.server), port_of(self.there)))
        self.there.connect(client)

    def _open(self, host: Host) -> socket.socket:
        sock = udp(host, 0, "" if self.version == 4 else "::")
        sock.setsockopt(*MTU_DISCOVER[self.version], PMTUDISC_DO)
        return sock

    def _ip(self, host: Host) -> str:
        return host.ip if self.version == 4 else host.ip6 or ""

    @property
    def ways(self) -> tuple[tuple[socket.socket, socket.socket], ...]:
        """Sender and receiver, both ways."""
        return (self.here, self.there), (self.there, self.here)

    def send(self, sock: socket.socket, packet: int) -> None:
        """One IP packet of so many bytes."""
        sock.send(bytes(packet - HEADERS[self.version]))

    def passes(self, sender: socket.socket, receiver: socket.socket, packet: int) -> bool:
        self.send(sender, packet)
        return not is_silent(receiver)

    def learns(self, sender: socket.socket, packet: int) -> int:
        """Send a packet that is too large, wait for the error, and ask the kernel what it believes now."""
        self.send(sender, packet)
        with pytest.raises(OSError, match="Message too long") as caught:
            sender.recv(10)
        assert caught.value.errno == errno.EMSGSIZE
        return sender.getsockopt(*PATH_MTU[self.version])


@pytest.mark.parametrize(
    ("version", "nat"),
    [(4, "none"), (6, "none"), (4, "moderate"), (4, "strict"), (4, NatConfig(timeout=30.0))],
    ids=["ipv4", "ipv6", "moderate", "strict", "exact"],
)
def test_router_with_a_small_mtu_tells_senders_on_both_sides(
    net: Lab, version: int, nat: str | NatConfig
) -> None:
    """The first large packet is lost, the sender hears how much fits, and that much gets through."""
    ends = Ends(net, version, nat, mtu=1400)
    for sender, receiver in ends.ways:
        assert ends.learns(sender, 1401) == 1400
        assert ends.passes(sender, receiver, 1400)


@FAMILIES
def test_mtu_changes_while_sockets_are_open(net: Lab, version: int) -> None:
    """1500 bytes pass, then 1280 at most, then 1500 again."""
    ends = Ends(net, version)
    for sender, _receiver in ends.ways:
        sender.setsockopt(*MTU_DISCOVER[version], PMTUDISC_PROBE)  # whatever the kernel believes
    assert all(ends.passes(*way, 1500) for way in ends.ways)
    ends.router.uplink.mtu(1280)
    assert ends.router.uplink.mtu_bytes == 1280
    for sender, receiver in ends.ways:
        assert ends.learns(sender, 1281) == 1280
        assert ends.passes(sender, receiver, 1280)
    ends.router.uplink.mtu()
    assert all(ends.passes(*way, 1500) for way in ends.ways)


@FAMILIES
def test_black_hole_swallows_large_packets_without_a_word(net: Lab, version: int) -> None:
    """No error reaches the sender; small packets pass; switched off, senders are told again."""
    ends = Ends(net, version, mtu=1400)
    ends.router.pmtu_blackhole()
    for sender, receiver in ends.ways:
        assert not ends.passes(sender, receiver, 1401)
        assert ends.passes(sender, receiver, 1400)
        assert is_silent(sender)
    ends.router.pmtu_blackhole(False)
    assert ends.learns(ends.here, 1401) == 1400


@FAMILIES
def test_black_hole_swallows_errors_of_routers_behind_it(net: Lab, version: int) -> None:
    """A well-meant firewall on the way drops what another router says."""
    office = net.router("office")
    ends = Ends.__new__(Ends)
    ends.version = version
    inner = net.host("inner", uplink=office)
    narrow = net.router("narrow", mtu=1400)
    far = net.host("far", uplink=narrow)
    sock = ends._open(inner)
    sock.connect((ends._ip(far), 7000))
    office.pmtu_blackhole()
    ends.send(sock, 1500)
    assert is_silent(sock)
    office.pmtu_blackhole(False)
    assert ends.learns(sock, 1500) == 1400


@FAMILIES
def test_hosts_mtu_limits_what_it_sends_and_what_it_takes(net: Lab, version: int) -> None:
    """The kernel refuses to send more at once; what arrives larger is gone; the path to others is not touched."""
    ends = Ends(net, version)
    ends.client.link.mtu(1300)
    with pytest.raises(OSError, match="Message too long"):
        ends.send(ends.here, 1301)
    assert ends.passes(*ends.ways[0], 1300)
    assert ends.passes(*ends.ways[1], 1300)
    assert not ends.passes(*ends.ways[1], 1330)
    assert ends.client.link.addresses
    ends.client.link.mtu()
    assert ends.passes(*ends.ways[1], 1500)


def test_mtu_survives_link_changes_and_new_subnets(net: Lab) -> None:
    """Down and up, another LAN, another outside address: the router still forwards no more."""
    ends = Ends(net, 4, "moderate", mtu=1400)
    ends.router.uplink.down()
    ends.router.uplink.up()
    ends.router.renumber()
    ends.router.nat.rebind(address=True)
    fresh = ends._open(ends.client)
    fresh.connect(ends.here.getpeername())
    assert ends.learns(fresh, 1500) == 1400


def test_host_is_born_with_its_mtu(net: Lab) -> None:
    """``lab.host(mtu=)`` is what programs see; ``lab.router(mtu=)`` works on its LAN's side, too."""
    router = net.router("dsl", mtu=1492)
    host = net.host("host", uplink=router, mtu=1300)
    shown = host.popen(["ip", "link", "show", "eth0"]).check(10)
    assert "mtu 1300" in shown
    assert (host.link.mtu_bytes, router.uplink.mtu_bytes, router.downlink.mtu_bytes) == (1300, 1492, 1492)


@pytest.mark.parametrize("size", [0, 1279, 1501, 9000])
def test_impossible_mtu_is_refused(net: Lab, size: int) -> None:
    """IPv6 needs 1280 bytes, Ethernet has 1500; the error says so, and nothing changes."""
    host = net.host("host", uplink=net.router("dsl"))
    with pytest.raises(TopologyError, match="from 1280 to 1500"):
        host.link.mtu(size)
    with pytest.raises(TopologyError, match="from 1280 to 1500"):
        net.routers["dsl"].uplink.mtu(size)
    assert not [event for event in net.events if event.kind == "mtu"]


def test_without_ipv6_the_mtu_can_be_smaller(net: Lab) -> None:
    """576 bytes, what every IPv4 host takes."""
    router = net.router("modem", ipv6=False, mtu=576)
    host, server = net.host("host", uplink=router), net.host("server", uplink=net.router("centre"))
    sock, peer = udp(host), udp(server, 7000)
    sock.setsockopt(*MTU_DISCOVER[4], PMTUDISC_DO)
    target: Address = (server.ip, 7000)
    sock.connect(target)
    sock.send(bytes(576 - 28))
    assert hear(peer)[0] == host.ip
    sock.send(bytes(577 - 28))
    with pytest.raises(OSError, match="Message too long"):
        sock.recv(10)
