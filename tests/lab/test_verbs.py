"""Every verb of a running lab: what the kernel shows afterwards, what still flows, what the timeline says."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from udp_kit import PATIENCE, close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, LabClosed, LinkCondition, Router, TopologyError

RTMGRP_LINK = 1


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("verbs", seed=7) as lab:
        yield lab
    close_all()


class World:
    """A laptop at home, a hotspot to move to, and a server."""

    def __init__(self, lab: Lab, uplink: str = "") -> None:
        self.home, self.hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
        both = {"wlan0": self.home, "wwan0": self.hotspot}
        self.laptop: Host = lab.host("laptop", uplink=both if uplink == "both" else self.home)
        self.server: Host = lab.host("server", uplink=lab.router("centre"))
        self.listening = udp(self.server, 7777)

    def source(self, sock: socket.socket) -> tuple[str, int]:
        return outside_of(sock, self.listening, self.server.ip)


def ip_json(node: Host | Router, *words: str) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = json.loads(node.popen(["ip", "-json", *words]).check(PATIENCE))
    return parsed


def kernel_addresses(host: Host, interface: str) -> list[str]:
    (link,) = ip_json(host, "address", "show", "dev", interface)
    return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"]


def defaults(host: Host, family: str = "-4") -> list[tuple[str, str, int]]:
    return [(r["dev"], r["gateway"], r["metric"]) for r in ip_json(host, family, "route", "show", "default")]


def test_host_has_what_its_description_says(net: Lab) -> None:
    """Addresses of both families, default routes, the index and the MAC."""
    world = World(net)
    (link,) = ip_json(world.laptop, "address", "show", "dev", "eth0")
    assert kernel_addresses(world.laptop, "eth0") == world.laptop.link.addresses
    assert world.laptop.link.addresses == ["192.168.1.10/24", "2001:db8:1::a/64"]
    assert (link["ifindex"], link["address"]) == (world.laptop.link.index, world.laptop.link.mac)
    assert defaults(world.laptop) == [("eth0", "192.168.1.1", 100)]
    assert defaults(world.laptop, "-6") == [("eth0", "2001:db8:1::1", 100)]


def test_ipv6_works_at_once(net: Lab) -> None:
    """No duplicate address detection delays the first packet."""
    world = World(net)
    listening = udp(world.server, ip="::")
    assert world.server.ip6 is not None
    client = udp(world.laptop, ip="::")
    assert outside_of(client, listening, world.server.ip6)[0] == world.laptop.ip6


def test_replug_moves_the_socket_to_another_network(net: Lab) -> None:
    """The same socket comes from the hotspot's carrier now; index and MAC stay."""
    world = World(net)
    client = udp(world.laptop)
    assert world.source(client)[0] == world.home.ip
    before = (world.laptop.link.index, world.laptop.link.mac)
    world.laptop.replug(world.hotspot)
    assert world.source(client)[0] == net.routers["hotspot-carrier"].ip
    assert world.laptop.link.router is world.hotspot
    (link,) = ip_json(world.laptop, "address", "show", "dev", "eth0")
    assert (link["ifindex"], link["address"]) == before
    assert kernel_addresses(world.laptop, "eth0") == world.laptop.link.addresses
    assert defaults(world.laptop) == [("eth0", "192.168.2.1", 100)]
    assert net.events[-1].kind in ("replugged", "process_ended")


def test_renumber_replaces_the_address_in_the_subnet(net: Lab) -> None:
    """Old address gone, new one there, routes still lead out."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    world.laptop.renumber()
    assert kernel_addresses(world.laptop, "eth0") == ["192.168.1.11/24", "2001:db8:1::b/64"]
    assert world.laptop.ip == "192.168.1.11"
    assert defaults(world.laptop) == [("eth0", "192.168.1.1", 100)]
    assert world.source(client)[0] == world.home.ip
    world.laptop.renumber(address="192.168.1.77")
    assert kernel_addresses(world.laptop, "eth0") == ["192.168.1.77/24", "2001:db8:1::b/64"]


@pytest.mark.parametrize("subnet", [None, "192.168.77.0/24"])
def test_router_renumbers_its_lan(net: Lab, subnet: str | None) -> None:
    """Router and hosts have addresses of the new subnet, and everything flows, in both families."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    world.home.renumber(subnet)
    assert world.home.lan == subnet or subnet is None
    assert world.laptop.ip.startswith(world.home.lan.rpartition(".")[0])
    assert world.source(client)[0] == world.home.ip
    listening = udp(world.server, ip="::")
    assert world.server.ip6 is not None
    assert outside_of(udp(world.laptop, ip="::"), listening, world.server.ip6)[0] == world.laptop.ip6


def test_link_down_takes_routes_and_up_brings_them_back(net: Lab) -> None:
    """Down: no route. Up: addresses of both families, routes, traffic, with the same socket."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    world.laptop.link.down()
    assert defaults(world.laptop) == defaults(world.laptop, "-6") == []
    with pytest.raises(OSError, match="unreachable"):
        client.sendto(b"x", (world.server.ip, 7777))
    world.laptop.link.up()
    assert kernel_addresses(world.laptop, "eth0") == world.laptop.link.addresses
    assert defaults(world.laptop, "-6") == [("eth0", "2001:db8:1::1", 100)]
    assert world.source(client)[0] == world.home.ip


def test_carrier_loss_keeps_admin_state_addresses_and_routes(net: Lab) -> None:
    """The cable is dead, the configuration stays; afterwards everything flows again."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    world.laptop.link.carrier(False)
    (link,) = ip_json(world.laptop, "address", "show", "dev", "eth0")
    assert "UP" in link["flags"]
    assert "NO-CARRIER" in link["flags"]
    assert kernel_addresses(world.laptop, "eth0") == world.laptop.link.addresses
    assert defaults(world.laptop) == [("eth0", "192.168.1.1", 100)]
    client.sendto(b"lost", (world.server.ip, 7777))
    assert is_silent(world.listening)
    world.laptop.link.carrier(True)
    assert world.source(client)[0] == world.home.ip


def test_kernel_tells_a_lost_carrier_at_once(net: Lab) -> None:
    """A netlink listener in the host hears of it in milliseconds, not after the kernel's one-second pause."""
    world = World(net)
    with world.laptop.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, RTMGRP_LINK))
        monitor.setblocking(False)
        world.laptop.link.carrier(False)
        assert select.select([monitor], [], [], 0.5)[0]


def test_added_address_is_used_and_removed_again(net: Lab) -> None:
    """A second address beside the leased one; removing the first leaves the second with its routes."""
    world = World(net)
    world.laptop.add_address("192.168.1.77/24")
    world.laptop.add_address("10.9.9.9/24")
    assert set(kernel_addresses(world.laptop, "eth0")) == set(world.laptop.link.addresses)
    assert world.source(udp(world.laptop, ip="192.168.1.77"))[0] == world.home.ip
    world.laptop.remove_address("192.168.1.10")
    assert world.laptop.ip == "192.168.1.77"
    assert set(kernel_addresses(world.laptop, "eth0")) == set(world.laptop.link.addresses)
    assert world.source(udp(world.laptop))[0] == world.home.ip


def test_default_route_moves_between_interfaces(net: Lab) -> None:
    """A roaming phone: set_default_route and set_metric decide which uplink new packets take."""
    world = World(net, "both")
    client = udp(world.laptop)
    carrier = net.routers["hotspot-carrier"]
    assert world.source(client)[0] == world.home.ip
    world.laptop.set_default_route("wwan0")
    assert [dev for dev, _gateway, _metric in sorted(defaults(world.laptop), key=lambda r: r[2])] == [
        "wwan0",
        "wlan0",
    ]
    assert world.source(client)[0] == carrier.ip
    world.laptop.set_metric("wwan0", 700)
    assert world.source(client)[0] == world.home.ip
    for _ in range(120):  # more often than there is room in front
        world.laptop.set_default_route("wwan0")
        world.laptop.set_default_route("wlan0")
    assert world.source(client)[0] == world.home.ip


def test_delay_is_added_on_the_link_and_taken_away(net: Lab) -> None:
    """A condition changes the link of a running lab, under the host's own interface."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    assert net.link_engine == "veth"
    before = ip_json(world.laptop, "address", "show", "dev", "eth0")
    assert world.source(client)
    with world.laptop.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, RTMGRP_LINK))
        world.laptop.link.condition(LinkCondition(loss=1.0))
        assert not select.select([monitor], [], [], 0.05)[0], "splicing a wire must not show in the host"
    after = ip_json(world.laptop, "address", "show", "dev", "eth0")
    if net.uses_netem:  # its queues stand at the host's own interface
        assert (before[0].pop("qdisc"), after[0].pop("qdisc")) == ("noqueue", "prio")
    assert after == before
    assert net.link_engine == net.engine_choice.carrier
    client.sendto(b"lost", (world.server.ip, 7777))
    assert is_silent(world.listening)
    world.laptop.link.condition(None)
    assert world.source(client)[0] == world.home.ip


def test_direction_of_a_condition(net: Lab) -> None:
    """Egress is what leaves the host, ingress what reaches it."""
    world = World(net)
    client = udp(world.laptop)
    outside = world.source(client)
    world.laptop.link.condition(loss=1.0, direction="ingress")
    assert world.source(client) == outside
    world.listening.sendto(b"lost", outside)
    assert is_silent(client)
    world.laptop.link.condition(direction="ingress")
    world.laptop.link.condition(loss=1.0, direction="egress")
    client.sendto(b"lost", (world.server.ip, 7777))
    assert is_silent(world.listening)
    world.listening.sendto(b"back", outside)
    assert hear(client)[1] == 7777


def test_delay_from_the_start_holds_back_packets(net: Lab) -> None:
    """lab.router(delay=) is there with the first packet."""
    far = net.router("far", delay=0.05)
    near = net.host("near", uplink=net.router("near-router"))
    server = net.host("server", uplink=far)
    listening, client = udp(server), udp(near)
    outside_of(client, listening, server.ip)
    client.sendto(b"x", (server.ip, port_of(listening)))
    assert not select.select([listening], [], [], 0.03)[0]
    assert select.select([listening], [], [], PATIENCE)[0]
    assert net.link_engine == net.engine_choice.carrier


def test_replug_with_a_wire_takes_the_wire_along(net: Lab) -> None:
    """An impaired link stays impaired, and connected, in another network."""
    world = World(net)
    client = udp(world.laptop)
    world.laptop.link.condition(delay=0.01)
    world.source(client)
    world.laptop.replug(world.hotspot)
    assert world.source(client)[0] == net.routers["hotspot-carrier"].ip
    world.laptop.link.condition(loss=1.0)
    client.sendto(b"lost", (world.server.ip, 7777))
    assert is_silent(world.listening)


def test_router_uplink_goes_down_and_comes_back(net: Lab) -> None:
    """An outage at home: nothing out, then everything again, static routes included."""
    world = World(net)
    client = udp(world.laptop)
    world.source(client)
    world.home.uplink.down()
    client.sendto(b"lost", (world.server.ip, 7777))
    assert is_silent(world.listening)
    world.home.uplink.up()
    assert world.source(client)[0] == world.home.ip


def test_hosts_and_routers_are_added_to_a_running_lab(net: Lab) -> None:
    """A description may grow while it runs."""
    world = World(net)
    world.source(udp(world.laptop))
    late = net.host("late", uplink=net.router("late-router", nat="strict"))
    assert world.source(udp(late))[0] == net.routers["late-router"].ip


def test_each_verb_is_one_event_with_a_sentence(net: Lab) -> None:
    """The timeline reads like the test."""
    world = World(net)
    heard: list[str] = []
    stop = net.on_event(lambda event: heard.append(event.kind))
    world.laptop.replug(world.hotspot)
    world.laptop.link.down()
    world.laptop.link.up()
    world.hotspot.nat.rebind()
    stop()
    world.hotspot.nat.flush()
    assert heard == ["replugged", "link_down", "link_up", "nat_rebind"]
    texts = [event.text for event in net.events]
    assert "laptop eth0 replugged home -> hotspot" in texts
    assert [event.number for event in net.events] == list(range(1, len(net.events) + 1))
    assert [event.time for event in net.events] == sorted(event.time for event in net.events)


def test_wrong_arguments_change_nothing(net: Lab) -> None:
    """One typed error each, that says what to do."""
    world = World(net)
    with pytest.raises(TopologyError, match="none, open"):
        net.router("x", nat="easy")
    with pytest.raises(TopologyError, match="names are unique"):
        net.host("laptop", uplink=world.home)
    with pytest.raises(TopologyError, match="no interface 'eth7'; it has eth0"):
        world.laptop.renumber("eth7")
    with pytest.raises(TopologyError, match="outside of"):
        world.laptop.renumber(address="10.0.0.1")
    with pytest.raises(TopologyError, match="no router of this lab"):
        net.host("y", uplink=Lab().router("other"))
    with pytest.raises(TopologyError, match="does not have"):
        world.laptop.remove_address("192.168.1.99")
    with pytest.raises(TopologyError, match="direction"):
        world.laptop.link.condition(loss=1.0, direction="sideways")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="overlaps"):
        world.home.renumber("198.18.1.0/24")
    assert world.source(udp(world.laptop))[0] == world.home.ip


def test_verbs_on_a_closed_lab_say_so(net: Lab) -> None:
    """LabClosed, from every kind of verb."""
    world = World(net)
    net.close()
    for verb in (
        world.laptop.link.down,
        world.laptop.renumber,
        world.home.nat.rebind,
        net.build,
        lambda: net.router("x"),
        lambda: world.laptop.socket(socket.AF_INET, socket.SOCK_DGRAM),
        lambda: world.laptop.popen(["true"]),
    ):
        with pytest.raises(LabClosed):
            verb()
