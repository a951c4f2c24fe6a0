"""iroh_py.testing: interfaces, routing, monitors and names of a simulated host, as Linux has them."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
from sim_host_kit import SERVER, Batch, Scene

from iroh_py.network import Addr, Family, Network
from iroh_py.testing import SimHost, SimNet, SimulationError, TopologyError, run_virtual, virtual


def test_a_host_is_a_network() -> None:
    """SimHost satisfies the protocol class that endpoints need."""
    network: Network = SimNet().host("a")
    assert isinstance(network, Network)
    assert network.name == "a"


@virtual()
async def test_the_lowest_metric_decides_until_another_is_made_default() -> None:
    """Packets take the first interface, then the one made default, and follow metrics."""
    scene = Scene()
    assert await scene.seen_from() == scene.home.outside_ip
    scene.laptop.set_default("wwan0")
    assert await scene.seen_from() == scene.hotspot.outside_ip
    scene.wlan.set_metric(1)
    assert await scene.seen_from() == scene.home.outside_ip


@virtual()
async def test_via_chooses_the_interface() -> None:
    """An index overrides routing; one that does not exist is ENODEV, one that is down ENETUNREACH."""
    scene = Scene()
    assert await scene.seen_from(via=scene.wwan.index) == scene.hotspot.outside_ip
    with pytest.raises(OSError, match="device") as caught:
        scene.sock.send([b"hi"], SERVER, 99)
    assert caught.value.errno == errno.ENODEV
    scene.wwan.down()
    with pytest.raises(OSError, match="unreachable") as caught:
        scene.sock.send([b"hi"], SERVER, scene.wwan.index)
    assert caught.value.errno == errno.ENETUNREACH


@virtual()
async def test_an_interface_that_is_down_is_not_chosen() -> None:
    """Down moves traffic to the next interface, up brings it back, and with none left sending fails."""
    scene = Scene()
    scene.wlan.down()
    assert await scene.seen_from() == scene.hotspot.outside_ip
    scene.wwan.down()
    with pytest.raises(OSError, match="unreachable") as caught:
        scene.sock.send([b"hi"], SERVER)
    assert caught.value.errno == errno.ENETUNREACH
    scene.wlan.up()
    assert await scene.seen_from() == scene.home.outside_ip


@virtual()
async def test_a_lost_carrier_keeps_the_route_and_eats_the_packets() -> None:
    """Without carrier the kernel goes on choosing the dead interface; only via another one gets through."""
    scene = Scene()
    scene.wlan.carrier(False)
    assert await scene.seen_from() is None
    assert await scene.seen_from(via=scene.wwan.index) == scene.hotspot.outside_ip
    state = scene.laptop.state
    interface = state.interface(scene.wlan.index)
    assert interface is not None
    assert interface.up
    assert not interface.usable
    assert [route.linkdown for route in state.routes if route.interface == scene.wlan.index] == [True, True]
    scene.wlan.carrier(True)
    assert await scene.seen_from() == scene.home.outside_ip


@virtual()
async def test_a_route_that_comes_later_opens_the_way_later() -> None:
    """After up(route_after=2) the interface is there at once and the default route two seconds later (M3)."""
    scene = Scene()
    scene.wwan.down()
    scene.wlan.down()
    scene.wlan.up(route_after=2)
    with pytest.raises(OSError, match="unreachable"):
        scene.sock.send([b"hi"], SERVER)
    await asyncio.sleep(1.9)
    assert not any(route.is_default for route in scene.laptop.state.routes)
    await asyncio.sleep(0.2)
    assert await scene.seen_from() == scene.home.outside_ip


@virtual()
async def test_renumbering_moves_the_source_and_strands_the_old_one() -> None:
    """A wildcard socket sends from the new address, one bound to the old cannot."""
    net = SimNet()
    server, client = net.host("server", SERVER[0]), net.host("client", "198.51.100.50")
    got: Batch = []
    answering = server.open_udp(Family.V4, "0.0.0.0", SERVER[1], got.extend)
    back: Batch = []
    sock = client.open_udp(Family.V4, "0.0.0.0", 6000, back.extend)
    pinned = client.open_udp(Family.V4, "198.51.100.50", 6001, lambda batch: None)
    client.interface().renumber("198.51.100.60")
    sock.send([b"hi"], SERVER)
    await asyncio.sleep(1)
    assert got[0][1] == ("198.51.100.60", 6000)
    with pytest.raises(OSError, match="unreachable") as caught:
        pinned.send([b"hi"], SERVER)
    assert caught.value.errno == errno.ENETUNREACH
    answering.send([b"old"], ("198.51.100.50", 6000))
    answering.send([b"new"], ("198.51.100.60", 6000))
    await asyncio.sleep(1)
    assert [data for data, _, _ in back] == [b"new"]


@virtual()
async def test_what_is_under_way_does_not_follow_a_move() -> None:
    """A packet that is on its way when the host moves away is lost."""
    scene = Scene()
    server_side = scene.server.interface()
    scene.sock.send([b"hi"], SERVER)
    # Past the router (5 ms), not yet at the server (15 ms).
    await asyncio.sleep(0.01)
    server_side.replug(scene.home, "192.168.1.77")
    await asyncio.sleep(1)
    assert scene.got == []
    assert scene.net.counts["udp", "moved-away"] == 1


@virtual()
async def test_ipv6_addresses_vanish_while_down() -> None:
    """A downed interface keeps its IPv4 address and loses its IPv6 one until it is up again."""
    host = SimNet().host("host", ("198.51.100.5", "2001:db8::5"))
    host.interface().down()
    assert [a.ip for a in host.state.interfaces[1].addresses] == ["198.51.100.5"]
    host.interface().up()
    assert [a.ip for a in host.state.interfaces[1].addresses] == ["198.51.100.5", "2001:db8::5"]
    assert [route.gateway for route in host.state.routes if route.is_default] == ["198.51.100.254", "fe80::1"]


@virtual()
async def test_a_deprecated_address_is_used_last() -> None:
    """New traffic leaves a deprecated address, which still receives (M19)."""
    net = SimNet()
    server, client = net.host("server", "2001:db8::1"), net.host("client", "2001:db8::10")
    got: Batch = []
    answering = server.open_udp(Family.V6, "::", 5000, got.extend)
    back: Batch = []
    sock = client.open_udp(Family.V6, "::", 6000, back.extend)
    client.interface().add_address("2001:db8::11")
    client.interface().deprecate("2001:db8::10")
    sock.send([b"hi"], ("2001:db8::1", 5000))
    await asyncio.sleep(1)
    assert got[0][1][0] == "2001:db8::11"
    answering.send([b"still"], ("2001:db8::10", 6000))
    await asyncio.sleep(1)
    assert [data for data, _, _ in back] == [b"still"]


@virtual()
async def test_binding_follows_the_kernels_rules() -> None:
    """Ports conflict as on Linux, foreign addresses fail, port 0 gives a free one, closing frees."""
    host = SimNet().host("host", "198.51.100.5")

    def bind(ip: str, port: int) -> Addr:
        return host.open_udp(Family.of(ip), ip, port, lambda batch: None).local_addr

    specific = host.open_udp(Family.V4, "198.51.100.5", 5000, lambda batch: None)
    assert bind("127.0.0.1", 5000) == ("127.0.0.1", 5000)
    assert bind("::", 5000) == ("::", 5000)
    for ip, port, code in (
        ("0.0.0.0", 5000, errno.EADDRINUSE),
        ("198.51.100.5", 5000, errno.EADDRINUSE),
        ("198.51.100.6", 0, errno.EADDRNOTAVAIL),
    ):
        with pytest.raises(OSError, match=ip.replace(".", r"\.")) as caught:
            bind(ip, port)
        assert caught.value.errno == code
    assert len({bind("0.0.0.0", 0)[1] for _ in range(20)}) == 20
    specific.close()
    assert bind("198.51.100.5", 5000) == ("198.51.100.5", 5000)
    with pytest.raises(OSError, match="descriptor") as caught:
        specific.send([b"x"], ("198.51.100.5", 5000))
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="family"):
        host.open_udp(Family.V6, "0.0.0.0", 0, lambda batch: None)


@virtual()
async def test_a_host_talks_to_itself() -> None:
    """Loopback and own addresses work without any link."""
    host = SimNet().host("host", interfaces={"eth0": None})
    got: Batch = []
    sock = host.open_udp(Family.V4, "127.0.0.1", 5000, got.extend)
    sock.send([b"me"], ("127.0.0.1", 5000))
    await asyncio.sleep(0.01)
    assert got == [(b"me", ("127.0.0.1", 5000), 1)]


@virtual()
async def test_a_closed_socket_gets_nothing_more() -> None:
    """What is queued or under way when a socket closes is dropped."""
    scene = Scene()
    scene.sock.send([b"hi"], SERVER)
    scene.answering.close()
    await asyncio.sleep(1)
    assert scene.got == []
    assert scene.net.counts["udp", "closed-port"] == 1


@virtual()
async def test_names_resolve_best_family_first_and_fail_as_they_do() -> None:
    """Hosts and added names resolve, IPv6 first with an IPv6 route; unknown names and cut off hosts fail."""
    net = SimNet()
    plain = net.host("plain", "198.51.100.5")
    dual = net.host("dual", ("198.51.100.6", "2001:db8::6"))
    net.name("relay.test", "198.51.100.9", "2001:db8::9")
    assert await plain.resolve("relay.test") == ["198.51.100.9", "2001:db8::9"]
    assert await dual.resolve("relay.test") == ["2001:db8::9", "198.51.100.9"]
    assert await plain.resolve("dual") == ["198.51.100.6", "2001:db8::6"]
    assert await plain.resolve("198.51.100.77") == ["198.51.100.77"]
    with pytest.raises(socket.gaierror) as caught:
        await plain.resolve("nowhere.test")
    assert caught.value.errno == socket.EAI_NONAME
    plain.interface().carrier(False)
    before = plain.time()
    with pytest.raises(socket.gaierror) as caught:
        await plain.resolve("relay.test")
    assert caught.value.errno == socket.EAI_AGAIN
    assert plain.time() - before > 4


@virtual()
async def test_icmp_measures_the_path() -> None:
    """A ping takes the links' delays, times out where nothing gets through, and may be forbidden."""
    scene = Scene()
    scene.net.link(scene.wlan, delay=0.05)
    # Two ways over the Wi-Fi link, the router's and the server's.
    assert await scene.laptop.icmp_ping(SERVER[0], 1) == pytest.approx(2 * (0.05 + 0.005 + 0.005))
    assert await scene.laptop.icmp_ping(scene.hotspot.outside_ip, 1) == pytest.approx(0.12)
    with pytest.raises(TimeoutError):
        await scene.laptop.icmp_ping(SERVER[0], 0.1)
    scene.server.blackhole()
    with pytest.raises(TimeoutError):
        await scene.laptop.icmp_ping(SERVER[0], 1)
    scene.laptop.icmp_allowed = False
    with pytest.raises(PermissionError):
        await scene.laptop.icmp_ping(SERVER[0], 1)


def test_impossible_networks_are_refused() -> None:
    """Double names, taken or malformed addresses, unknown interfaces and rules are one clear error each."""
    net = SimNet()
    host: SimHost = net.host("a", "198.51.100.5")
    home = net.nat("home")
    for attempt, text in (
        (lambda: net.host("a"), "already"),
        (lambda: net.host("b", "198.51.100.5"), "taken"),
        (lambda: net.host("c", "198.51.100.555"), "not an address"),
        (lambda: net.host("d", "1.2.3.4", interfaces={"eth0": None}), "either"),
        (lambda: net.nat("home"), "already"),
        (lambda: net.nat("n", "weird"), "no NAT kind"),
        (lambda: net.nat("n", "open", timeuot=3), "rule"),
        (lambda: host.interface("wlan9"), "eth0"),
        (lambda: host.interface().remove_address("1.2.3.4"), "no address"),
        (lambda: host.interface().add_address("198.51.100.5"), "twice"),
        (lambda: host.interface().replug(net.internet, home.outside_ip), "taken"),
    ):
        with pytest.raises(TopologyError, match=text):
            attempt()
    assert host.ip == "198.51.100.5"
    assert net.host("b", nat=home).ip == "192.168.1.10"


def test_a_network_belongs_to_one_run() -> None:
    """Using a network in a second event loop is a clear error, not a timer that never fires."""
    net = SimNet()
    host = net.host("a")

    async def story() -> None:
        sock = host.open_udp(Family.V4, "0.0.0.0", 0, lambda batch: None)
        sock.send([b"x"], ("198.51.100.200", 1))

    run_virtual(story)
    with pytest.raises(SimulationError, match="new SimNet"):
        run_virtual(story)
