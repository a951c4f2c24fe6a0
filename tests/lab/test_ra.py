"""Routers send real router advertisements: what is on the wire, and what kernels do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptPrefixInfo, ICMPv6NDOptRDNSS, IPv6
from udp_kit import PATIENCE

from netns_fixtures import Host, Lab, Router, Scenario, Slaac, TopologyError
from netns_fixtures.capture import Capture, capture
from netns_fixtures.ra.handle import RouterAdvertisements


class World:
    """A laptop at home that listens to its router."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home: Router = lab.router("home", nat="moderate")
        self.laptop: Host = lab.host("laptop", uplink=self.home, slaac=True)
        assert self.home.ra
        self.ra: RouterAdvertisements = self.home.ra

    def listen(self) -> Capture:
        return capture(self.laptop)


@pytest.fixture
def world() -> Iterator[World]:
    with Lab("ra", seed=7) as lab:
        yield World(lab)


def seen(packets: Capture, holds: Callable[[list[Any]], bool]) -> list[Any]:
    """The advertisements on the wire, when they are what is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [packet for packet in packets.packets if ICMPv6ND_RA in packet]
        if holds(found):
            return found
        if not packets.wait(deadline - time.monotonic()):
            raise AssertionError(f"saw {[packet.summary() for packet in packets.packets]}")


def default_routes(host: Host) -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = json.loads(
        host.popen(["ip", "-json", "-6", "route", "show", "default"]).check(PATIENCE)
    )
    return routes


def test_solicitation_of_a_new_link_is_answered(world: World) -> None:
    """The host asks, the router answers from its link-local address with hop limit 255; the kernel believes it."""
    world.lab.build()
    with world.listen() as packets:
        world.laptop.link.down()
        world.laptop.link.up()
        answer = seen(packets, lambda found: len(found) >= 1)[0]
        assert any(ICMPv6ND_RS in packet for packet in packets.packets)
    assert answer[IPv6].src.startswith("fe80::")
    assert (answer[IPv6].dst, answer[IPv6].hlim) == ("ff02::1", 255)
    assert answer[ICMPv6NDOptPrefixInfo].prefix + "/64" == world.home.lan6
    (route,) = default_routes(world.laptop)
    assert (route["gateway"], route["protocol"], route["metric"]) == (answer[IPv6].src, "ra", 100)


def test_advertisements_come_unasked_at_their_interval(world: World) -> None:
    """Three of them, in about three intervals."""
    world.lab.build()
    with world.listen() as packets:
        world.ra.change(interval=0.1)
        found = seen(packets, lambda found: len(found) >= 4)
    assert 0.2 < float(found[3].time - found[0].time) < PATIENCE


def test_change_is_told_at_once_and_believed(world: World) -> None:
    """MTU, lifetimes, DNS servers, preference."""
    world.lab.build()
    with world.listen() as packets:
        world.ra.change(mtu=1400, router_lifetime=60, preferred_lifetime=100, valid_lifetime=200)
        world.ra.change(rdnss=("2001:db8::53",), preference="low")
        found = seen(packets, lambda found: len(found) >= 2)
    assert found[1][ICMPv6NDOptRDNSS].dns == ["2001:db8::53"]
    (route,) = default_routes(world.laptop)
    assert (route["pref"], 50 < route["expires"] <= 60) == ("low", True)
    mtu = world.laptop.popen(["cat", "/proc/sys/net/ipv6/conf/eth0/mtu"]).check(PATIENCE)
    assert int(mtu) == 1400
    assert world.laptop.link.addresses6[0].preferred <= 100
    with pytest.raises(TopologyError, match="no mtus; it has interval"):
        world.ra.change(mtus=1)  # type: ignore[call-arg]


def test_withdrawn_router_is_no_default_router_and_comes_back(world: World) -> None:
    """Lifetime 0 takes the default route, not the addresses; resuming gives it back."""
    world.lab.build()
    before = world.laptop.ip6
    assert world.ra.state == "on"
    world.ra.withdraw()
    assert (default_routes(world.laptop), world.laptop.ip6) == ([], before)
    world.ra.resume()
    assert len(default_routes(world.laptop)) == 1


def test_silent_router_leaves_hosts_with_what_they_had(world: World) -> None:
    """A crash: routes stay until they expire, and a new link gets no answer."""
    world.lab.build()
    world.ra.silence()
    assert len(default_routes(world.laptop)) == 1
    world.laptop.link.down()
    world.laptop.link.up()
    assert (default_routes(world.laptop), world.laptop.ip6) == ([], None)
    world.ra.resume()
    assert world.laptop.ip6
    texts = [event.text for event in world.lab.events]
    assert "home advertises nothing any more" in texts
    assert f"laptop eth0 configured itself: {world.laptop.ip6}/64" in texts


def test_second_uplink_has_the_worse_default_route_until_told_otherwise(world: World) -> None:
    """Metrics of advertised routes follow those of the interfaces."""
    hotspot = world.lab.router("hotspot")
    phone = world.lab.host("phone", uplink={"wlan0": world.home, "wwan0": hotspot}, slaac=True)
    world.lab.build()
    assert [(r["dev"], r["metric"]) for r in default_routes(phone)] == [("wlan0", 100), ("wwan0", 200)]
    phone.set_default_route("wwan0")
    assert [(r["dev"], r["metric"]) for r in default_routes(phone)] == [("wwan0", 99), ("wlan0", 100)]


def test_static_hosts_ignore_advertisements(world: World) -> None:
    """What the lab set is all that they have."""
    fixed = world.lab.host("fixed", uplink=world.home)
    world.lab.build()
    world.ra.send()
    assert [str(address) for address in fixed.link.addresses6] == [f"{fixed.ip6}/64"]
    (route,) = default_routes(fixed)
    assert route["protocol"] == "static"


def test_scenario_file_says_the_same(world: World) -> None:
    """Families, SLAAC and every verb survive the way into a file and back."""
    private = world.lab.host("private", uplink=world.home, slaac=Slaac(privacy=True))
    world.lab.router("isp", family="v6", nat64=True, ula=True)
    world.lab.build()
    before = private.ip6
    world.ra.change(mtu=1400, rdnss=("2001:db8::53",))
    world.home.renumber_prefix("silent")
    world.laptop.link.down(keep_addresses=False)
    text = str(Scenario.of(world.lab))
    for word in (
        "privacy: true",
        "nat64: true",
        "home.ra.change",
        "mtu: 1400",
        "renumber_prefix",
        "keep_addresses",
    ):
        assert word in text
    with Scenario.parse(text).build() as again:
        assert again.hosts["private"].ip6 == before
