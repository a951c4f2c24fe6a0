"""Hosts configure themselves, and live through renumbering; the connections of iroh_py with them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from udp_kit import close_all, hear, is_silent, port_of, udp

from netns_fixtures import Host, Lab, Router, Slaac, TopologyError
from netns_fixtures.ra.kernel import Address6
from pytest_iroh import Endpoints, echo

#: In seconds: the promise is that it heals; how fast is the benchmarks' business.
SEEN = 5.0


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("slaac", seed=7) as lab:
        yield lab
    close_all()


class World:
    """A laptop that configures itself, a static neighbour, and a server."""

    def __init__(self, lab: Lab, slaac: Slaac | bool = True, **router: Any) -> None:
        self.lab = lab
        self.home: Router = lab.router("home", **router)
        self.laptop: Host = lab.host("laptop", uplink=self.home, slaac=slaac)
        self.fixed: Host = lab.host("fixed", uplink=self.home)
        self.server: Host = lab.host("server", uplink=lab.router("centre"))
        self.there = udp(self.server, 7000, "::")

    def source(self, host: Host | None = None) -> str:
        """Where a new socket's datagram comes from, as the server sees it."""
        here = udp(host or self.laptop, 0, "::")
        here.sendto(b"x", (str(self.server.ip6), 7000))
        return hear(self.there)[0]

    def reaches(self, ip: str) -> bool:
        """Whether the server's datagrams to an address arrive at the laptop."""
        here = udp(self.laptop, 0, "::")
        self.there.sendto(b"x", (ip, port_of(here)))
        return not is_silent(here)


def of_kind(addresses: list[Address6], *, temporary: bool, deprecated: bool = False) -> list[str]:
    return [a.ip for a in addresses if (a.temporary, a.deprecated) == (temporary, deprecated)]


def test_host_makes_its_own_address_and_reaches_the_world(net: Lab) -> None:
    """When the lab is built it is there; the same description gives the same one, without the MAC in it."""
    described = net.host("other", uplink=net.router("office"), slaac=True)
    assert described.ip6 is None  # nobody knows yet
    world = World(net)
    address = world.laptop.ip6
    assert address
    assert address.startswith("2001:db8:2:0:")
    assert "ff:fe" not in address
    assert world.source() == address
    assert world.laptop.ip.startswith("198.18.")  # IPv4 as ever
    assert net.resolve("laptop") == [world.laptop.ip, address]
    with Lab("again", seed=8) as other:
        other.router("office")
        assert World(other).laptop.ip6 == address


def test_address_of_the_hardware_has_the_mac_in_it(net: Lab) -> None:
    """EUI-64, as older systems have it."""
    world = World(net, Slaac(stable=False))
    net.build()
    assert "ff:fe00:" in str(world.laptop.ip6)


@pytest.mark.parametrize("dad", ["optimistic", "real"])
def test_duplicate_address_detection_by_choice(net: Lab, dad: Any) -> None:
    """The build waits for as long as the kernel checks."""
    world = World(net, Slaac(dad=dad))
    net.build()
    assert world.source() == world.laptop.ip6


def test_v6_only_lan_configures_its_hosts_and_nothing_else(net: Lab) -> None:
    """No IPv4 at all."""
    phone = net.host("phone", uplink=net.router("mobile", family="v6", nat64=True), slaac=True)
    server = net.host("server", uplink=net.router("centre", family="v4"))
    there, here = udp(server, 7000), udp(phone, 0, "::")
    here.sendto(b"x", (phone.resolve("server")[0], 7000))
    assert hear(there)[0] == net.routers["mobile"].ip
    assert phone.ip == ""


def test_privacy_address_is_used_and_rotates(net: Lab) -> None:
    """The world sees temporary addresses; after a rotation another one, and the old one still works."""
    world = World(net, Slaac(privacy=True))
    net.build()
    (first,) = of_kind(world.laptop.link.addresses6, temporary=True)
    assert world.source() == first != world.laptop.ip6
    world.laptop.rotate_privacy_address()
    (second,) = of_kind(world.laptop.link.addresses6, temporary=True)
    assert world.source() == second != first
    assert of_kind(world.laptop.link.addresses6, temporary=True, deprecated=True) == [first]
    assert world.reaches(first)
    assert net.events[-1].kind == "privacy_rotated"
    with pytest.raises(TopologyError, match="no temporary addresses"):
        world.fixed.rotate_privacy_address()


def test_renumbered_prefix_deprecates_the_old_address_which_works_until_it_is_retired(net: Lab) -> None:
    """RFC 4192: make before break. A static host has a new address for the old one."""
    world = World(net)
    net.build()
    old, old_fixed = world.laptop.ip6, world.fixed.ip6
    assert old
    world.home.renumber_prefix()
    new = world.laptop.ip6
    assert new != old
    assert of_kind(world.laptop.link.addresses6, temporary=False, deprecated=True) == [old]
    assert (world.source(), world.source(world.fixed)) == (new, world.fixed.ip6)
    assert world.fixed.ip6 != old_fixed
    assert world.reaches(old)
    world.home.retire_prefix()
    assert not world.reaches(old)
    assert of_kind(world.laptop.link.addresses6, temporary=False, deprecated=True) == [old]
    with pytest.raises(TopologyError, match="no old prefix"):
        world.home.retire_prefix()


def test_flash_renumbering_leaves_the_host_with_a_dead_address_that_it_prefers(net: Lab) -> None:
    """RFC 8978: the router forgot its old prefix; nobody said that it is gone."""
    world = World(net)
    net.build()
    old = world.laptop.ip6
    assert old
    world.home.renumber_prefix(old="silent")
    addresses = world.laptop.link.addresses6
    assert len(addresses) == 2
    assert not any(address.deprecated for address in addresses)
    assert old in {address.ip for address in addresses}
    assert not world.reaches(old)


def test_replugged_host_has_the_new_lan_s_address_only(net: Lab) -> None:
    """What a network manager does: the old LAN is forgotten."""
    world = World(net)
    net.build()
    world.laptop.replug(net.routers["centre"])
    (address,) = world.laptop.link.addresses6
    assert address.ip.startswith("2001:db8:2:")
    assert world.source() == address.ip
    world.laptop.renumber()  # IPv4 only
    assert world.laptop.ip6 == address.ip
    world.laptop.replug(net.router("mobile", family="v6"))
    with pytest.raises(TopologyError, match="configures itself"):
        world.laptop.renumber()


def test_impaired_link_still_configures_itself(net: Lab) -> None:
    """Through a wire with delay, from the start."""
    host = net.host("far", uplink=net.router("home"), slaac=True, delay=0.02)
    net.build()
    assert host.ip6


def test_ula_beside_the_global_prefix(net: Lab) -> None:
    """Two addresses; neighbours talk by the local ones, the world is reached by the global one."""
    world = World(net, ula=True)
    net.build()
    assert world.home.lan6_local == "fd00:db8:1::/64"
    assert [a.ip[:9] for a in world.laptop.link.addresses6] == ["2001:db8:", "fd00:db8:"]
    local = next(a.ip for a in world.fixed.link.addresses6 if a.ip.startswith("fd"))
    near, here = udp(world.fixed, 7001, "::"), udp(world.laptop, 0, "::")
    here.sendto(b"x", (local, 7001))
    assert hear(near)[0].startswith("fd00:db8:1:")
    assert world.source() == world.laptop.ip6


@pytest.mark.parametrize("old", ["deprecated", "routed", "silent"])
async def test_connection_heals_when_the_prefix_is_renumbered_by_advertisement(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any], old: Any
) -> None:
    """The only change is a packet from the router: the monitor sees the new address, and nothing is lost."""
    home = lab.router("home", family="v6")
    laptop = lab.host("laptop", uplink=home, slaac=Slaac(privacy=True))
    server = lab.host("server", uplink=lab.router("centre", delay=0.01))
    async with endpoints.connect(laptop, server) as connection, heals(connection, within=SEEN) as healing:
        home.renumber_prefix(old=old)
    assert healing.direct
    assert healing.bytes_lost == 0


async def test_connection_survives_rotating_privacy_addresses(
    lab: Lab, endpoints: Endpoints, heals: Callable[..., Any]
) -> None:
    """The old address is deprecated, not gone: no gap, and the next connections come from the new one."""
    laptop = lab.host("laptop", uplink=lab.router("home", family="v6"), slaac=Slaac(privacy=True))
    server = lab.host("server", uplink=lab.router("centre", delay=0.01))
    async with endpoints.connect(laptop, server) as connection:
        async with heals(connection, within=SEEN) as healing:
            laptop.rotate_privacy_address()
        assert healing.bytes_lost == 0
        assert await echo(connection, b"still here") == b"still here"


def test_socket_bound_to_a_link_that_went_down_is_told(net: Lab) -> None:
    """Addresses that advertisements gave go with the link, whatever was chosen for the others."""
    world = World(net)
    net.build()
    before = world.laptop.ip6
    world.laptop.link.down()
    assert world.laptop.link.addresses6 == []
    with (
        world.laptop.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock,
        pytest.raises(OSError, match="assign"),
    ):
        sock.bind((str(before), 0))
    world.laptop.link.up()
    assert world.laptop.ip6 == before
