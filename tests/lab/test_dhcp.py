"""Hosts that lease their addresses: what is on the wire, what their kernels have, what verbs do with them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether
from udp_kit import PATIENCE, hear, port_of, udp

from netns_fixtures import DhcpClient, DhcpConfig, Host, Lab, LabEvent, Router, Scenario, TopologyError
from netns_fixtures.capture import Capture, capture

#: As scapy calls them.
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)


class World:
    """A laptop that leases its address at home, and a hotspot."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home: Router = lab.router("home", nat="moderate", dhcp=True)
        self.hotspot: Router = lab.router("hotspot", nat="cgnat")
        self.laptop: Host = lab.host("laptop", uplink=self.home, dhcp=True)


@pytest.fixture
def world() -> Iterator[World]:
    with Lab("dhcp", seed=7) as lab:
        yield World(lab)


def kind(packet: Any) -> int:
    options: dict[str, Any] = dict(each[:2] for each in packet[DHCP].options if isinstance(each, tuple))
    return int(options["message-type"])


def seen(packets: Capture, holds: Callable[[list[int]], bool]) -> list[Any]:
    """The DHCP packets on the wire, when their kinds are what is waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [packet for packet in packets.packets if DHCP in packet]
        if holds([kind(packet) for packet in found]):
            return found
        if not packets.wait(deadline - time.monotonic()):
            raise AssertionError(f"saw {[packet.summary() for packet in packets.packets]}")


def kernel(host: Host, *what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.popen(["ip", "-json", "-4", *what]).check(PATIENCE))
    return found


def default_routes(host: Host) -> list[tuple[str, int]]:
    return [(route["gateway"], route["metric"]) for route in kernel(host, "route", "show", "default")]


def told(lab: Lab, node: str = "laptop") -> list[str]:
    return [
        event.kind.removeprefix("dhcp_")
        for event in lab.events
        if event.node == node and "dhcp_" in event.kind
    ]


def test_address_arrives_by_four_packets(world: World) -> None:
    """DISCOVER and REQUEST by broadcast from 0.0.0.0, OFFER and ACK to the address that is to be; the kernel has it."""
    world.lab.build()
    world.laptop.dhcp.release()
    with capture(world.laptop) as packets:
        world.laptop.dhcp.renew()
        found = seen(packets, lambda kinds: kinds[-4:] == [DISCOVER, OFFER, REQUEST, ACK])[-4:]
    ip = world.laptop.ip
    assert [(p[IP].src, p[IP].dst, p[UDP].dport) for p in found] == [
        ("0.0.0.0", "255.255.255.255", 67),
        ("192.168.1.1", ip, 68),
        ("0.0.0.0", "255.255.255.255", 67),
        ("192.168.1.1", ip, 68),
    ]
    assert {p[BOOTP].xid for p in found} == {found[0][BOOTP].xid}
    assert all(p[IP].chksum and p[UDP].chksum for p in found)
    (link,) = kernel(world.laptop, "address", "show", "eth0")
    assert [(a["local"], a["prefixlen"]) for a in link["addr_info"]] == [(ip, 24)]
    assert default_routes(world.laptop) == [("192.168.1.1", 100)]
    (lease,) = world.home.dhcp.leases()
    assert (lease.mac, lease.ip, lease.host_name) == (world.laptop.link.mac, ip, "laptop")
    assert 3590 < lease.expires_in <= 3600


def test_built_lab_has_its_leases(world: World) -> None:
    """Building waits: the host is reachable by its leased address, and knows its name server by option 6."""
    server = world.lab.host("server", uplink=world.lab.router("centre"))
    world.lab.build()
    assert world.home.dhcp.range == ("192.168.1.100", "192.168.1.199")
    assert (world.laptop.ip, world.laptop.link.addresses[0]) == ("192.168.1.100", "192.168.1.100/24")
    assert world.laptop.nameservers[0] == "203.0.113.53"
    assert world.laptop.resolve("server")[0] == server.ip
    with udp(world.laptop) as here, udp(server) as there:
        here.sendto(b"ping", (server.ip, port_of(there)))
        assert hear(there)[0] == world.home.ip
    assert told(world.lab) == ["leased"]
    (event,) = [event for event in world.lab.events if event.kind == "dhcp_leased"]
    assert event.text == "laptop eth0 leased 192.168.1.100/24 from 192.168.1.1 for 3600 s"
    assert event.data["ip"] == "192.168.1.100"


def test_many_hosts_get_many_addresses() -> None:
    """Side by side, with static hosts among them: nobody has another's address."""
    with Lab("crowd") as lab:
        home = lab.router("home", nat="moderate")
        hosts = [lab.host(f"h{n}", uplink=home, dhcp=n % 3 > 0) for n in range(12)]
        lab.build()
        assert len({host.ip for host in hosts}) == 12
        assert len(home.dhcp.leases()) == 8
        assert {host.ip for host in hosts if host.dhcp.enabled} == {lease.ip for lease in home.dhcp.leases()}


def test_other_network_refuses_the_address_and_gives_one(world: World) -> None:
    """After replug: REQUEST for the old address, NAK, DISCOVER ... ACK; address and route are the hotspot's."""
    world.lab.build()
    with capture(world.laptop) as packets:
        world.laptop.replug(world.hotspot)
        found = seen(packets, lambda kinds: kinds[-1:] == [ACK])
    assert [kind(p) for p in found] == [REQUEST, NAK, DISCOVER, OFFER, REQUEST, ACK]
    assert found[1][IP].dst == "255.255.255.255"
    assert world.laptop.ip == "192.168.2.100"
    assert default_routes(world.laptop) == [("192.168.2.1", 100)]
    assert world.laptop.ip in {lease.ip for lease in world.hotspot.dhcp.leases()}
    assert told(world.lab) == ["leased", "nak", "leased"]
    assert told(world.lab, "hotspot") == ["nak"]
    world.laptop.replug(world.home)  # its lease there was never given back
    assert world.laptop.ip == "192.168.1.100"


@pytest.mark.parametrize("how", ["admin", "carrier"])
def test_link_that_comes_back_has_its_address_confirmed(world: World, how: str) -> None:
    """INIT-REBOOT: two packets, the same address, and the default route that the kernel dropped."""
    world.lab.build()
    link = world.laptop.link
    with capture(world.laptop) as packets:
        for on in (False, True):
            if how == "carrier":
                link.carrier(on)
            else:
                (link.up if on else link.down)()
        found = seen(packets, lambda kinds: kinds[-1:] == [ACK])
    assert [kind(p) for p in found] == [REQUEST, ACK]
    assert world.laptop.ip == "192.168.1.100"
    assert default_routes(world.laptop) == [("192.168.1.1", 100)]
    assert told(world.lab)[-1] == "renewed"


def test_interface_that_a_program_switches_is_noticed(world: World) -> None:
    """Not only verbs of the lab take links down: the client listens to its kernel."""
    world.lab.build()
    world.laptop.popen(["ip", "link", "set", "eth0", "down"]).check(PATIENCE)
    world.laptop.dhcp.wait("off")
    assert default_routes(world.laptop) == []
    world.laptop.popen(["ip", "link", "set", "eth0", "up"]).check(PATIENCE)
    world.laptop.dhcp.wait("bound")
    assert default_routes(world.laptop) == [("192.168.1.1", 100)]
    assert told(world.lab)[-1] == "renewed"


def test_renewal_is_asked_of_the_server_alone(world: World) -> None:
    """By unicast, from the leased address; what the server says now is what the host has then."""
    world.lab.build()
    world.home.dhcp.change(mtu=1400, dns=("192.0.2.53",), routes=(("10.9.0.0/16", "192.168.1.1"),))
    assert world.laptop.link.mtu_bytes == 1500
    with capture(world.laptop) as packets:
        world.laptop.dhcp.renew()
        request, answer = seen(packets, lambda kinds: kinds == [REQUEST, ACK])
    assert (request[IP].src, request[IP].dst, request[BOOTP].ciaddr) == (
        world.laptop.ip,
        "192.168.1.1",
        world.laptop.ip,
    )
    assert (request[Ether].dst, answer[IP].dst) == (world.home.downlink.mac, world.laptop.ip)
    (link,) = kernel(world.laptop, "link", "show", "eth0")
    assert (link["mtu"], world.laptop.link.mtu_bytes) == (1400, 1400)
    assert "nameserver 192.0.2.53" in world.laptop.popen(["cat", "/etc/resolv.conf"]).check(PATIENCE)
    assert [r["gateway"] for r in kernel(world.laptop, "route", "show", "10.9.0.0/16")] == ["192.168.1.1"]
    world.home.dhcp.change(mtu=None, routes=())
    world.laptop.dhcp.renew()
    assert kernel(world.laptop, "link", "show", "eth0")[0]["mtu"] == 1500
    assert kernel(world.laptop, "route", "show", "10.9.0.0/16") == []


def test_released_lease_leaves_nothing_behind(world: World) -> None:
    """RELEASE by unicast; address and route are gone here, the lease there."""
    world.lab.build()
    with capture(world.laptop) as packets:
        world.laptop.dhcp.release()
        (release,) = seen(packets, lambda kinds: kinds == [RELEASE])
    assert release[IP].dst == "192.168.1.1"
    assert (world.laptop.ip, world.laptop.dhcp.state()) == ("", "stopped")
    assert default_routes(world.laptop) == []
    links = kernel(world.laptop, "address", "show", "eth0")
    assert [link["addr_info"] for link in links if link.get("addr_info")] == []
    assert world.home.dhcp.wait(0) == []
    world.laptop.link.down()
    world.laptop.link.up()
    assert world.laptop.ip == "192.168.1.100"


def test_reserved_address_is_given_to_its_host(world: World) -> None:
    """By the host's name; it moves there at its next renewal."""
    world.lab.build()
    world.home.dhcp.reserve(world.laptop, "192.168.1.7")
    world.laptop.dhcp.renew()
    assert world.laptop.ip == "192.168.1.7"
    for wrong in ("10.0.0.1", "192.168.1.1"):
        with pytest.raises(TopologyError):
            world.home.dhcp.reserve(world.laptop, wrong)


def test_host_is_renumbered_by_its_server(world: World) -> None:
    """``host.renumber``: the server forgets it, refuses it, and gives another address, or the one that is wanted."""
    world.lab.build()
    world.laptop.renumber()
    assert world.laptop.ip == "192.168.1.101"
    world.laptop.renumber(address="192.168.1.50")
    assert (world.laptop.ip, default_routes(world.laptop)) == ("192.168.1.50", [("192.168.1.1", 100)])
    with pytest.raises(TopologyError, match="outside of its subnet"):
        world.laptop.renumber(address="10.0.0.1")


def test_router_renumbered_hosts_follow(world: World) -> None:
    """As after a restart of the router: its LAN's links flap, and everybody asks again."""
    world.lab.build()
    world.home.renumber("192.168.77.0/24")
    assert world.laptop.ip == "192.168.77.100"
    assert default_routes(world.laptop) == [("192.168.77.1", 100)]


def test_default_route_follows_the_metric(world: World) -> None:
    """Verbs for default routes work on leased ones, also across a renewal."""
    phone = world.lab.host("phone", uplink={"wlan0": world.home, "wwan0": world.hotspot}, dhcp=True)
    world.lab.build()
    assert default_routes(phone) == [("192.168.1.1", 100), ("192.168.2.1", 200)]
    phone.set_default_route("wwan0")
    phone.dhcp.renew("wwan0")
    assert default_routes(phone) == [("192.168.2.1", 99), ("192.168.1.1", 100)]
    phone.drop_default_route("wwan0")
    phone.dhcp.renew("wwan0")
    assert default_routes(phone) == [("192.168.1.1", 100)]


def test_conflict_is_declined_and_another_address_taken(world: World) -> None:
    """ARP probes before use; who is there already keeps the address, and nobody else gets it."""
    squatter = world.lab.host("squatter", uplink=world.home)
    careful = world.lab.host("careful", uplink=world.hotspot, dhcp=DhcpClient(check=0.3, retry_interval=0.05))
    world.lab.build()
    squatter.popen(["ip", "address", "add", "192.168.1.101/32", "dev", "eth0"]).check(PATIENCE)
    with capture(careful) as packets:
        careful.replug(world.home)
        found = seen(packets, lambda kinds: DECLINE in kinds and kinds[-1] == ACK)
        assert [p for p in packets.packets if ARP in p and p[ARP].psrc == "0.0.0.0"]
    assert careful.ip == "192.168.1.102"
    assert DECLINE in [kind(p) for p in found]
    assert told(world.lab, "careful")[-2:] == ["declined", "leased"]
    assert "192.168.1.101" not in {lease.ip for lease in world.home.dhcp.leases()}


def test_rapid_commit_takes_two_packets() -> None:
    """RFC 4039."""
    with Lab("rapid") as lab:
        home = lab.router("home", dhcp=DhcpConfig(rapid_commit=True))
        laptop = lab.host("laptop", uplink=home, dhcp=DhcpClient(rapid_commit=True))
        lab.build()
        laptop.dhcp.release()
        with capture(laptop) as packets:
            laptop.dhcp.renew()
            found = seen(packets, lambda kinds: kinds[-1:] == [ACK])
        assert [kind(p) for p in found if kind(p) != RELEASE] == [DISCOVER, ACK]


def test_portal_is_announced_while_there_is_one(world: World) -> None:
    """RFC 8910, option 114: the page of the router's captive portal, or the URI that the config names."""
    hotel = world.lab.router("hotel", nat="strict", firewall="captive-portal")
    guest = world.lab.host("guest", uplink=hotel, dhcp=True)
    world.lab.build()

    def portal() -> str:
        lease = guest.dhcp.lease()
        return lease.captive_portal if lease else "no lease"

    assert portal() == f"http://{hotel.downlink.ip}/"
    hotel.dhcp.change(captive_portal="https://portal.test/api")
    guest.dhcp.renew()
    assert portal() == "https://portal.test/api"
    hotel.dhcp.change(captive_portal="")
    hotel.portal.disable()
    guest.dhcp.renew()
    assert portal() == ""


def test_scenario_of_a_lab_with_dhcp_is_the_same_lab(world: World) -> None:
    """Options and verbs of both sides are in the file, and the file makes the same lab."""
    lab = world.lab
    lab.router(
        "office", dhcp=DhcpConfig(lease=60, dns=("192.0.2.1",), routes=(("10.0.0.0/8", "198.18.1.1"),))
    )
    lab.router("bare", dhcp=False)
    lab.build()
    world.home.dhcp.change(lease=120)
    world.laptop.dhcp.renew()
    scenario = Scenario.of(lab)
    assert "gaps" not in scenario.test
    again = Scenario.parse(str(scenario))
    assert again == scenario
    with again.build() as copy:
        copy.timeline()
        assert copy.hosts["laptop"].ip == "192.168.1.100"
        assert copy.routers["office"].dhcp.config == lab.routers["office"].dhcp.config
        assert [router.dhcp.state for router in copy.routers.values()] == ["on", "off", "off", "on", "never"]
        again.timeline(copy).run()
        lease = copy.hosts["laptop"].dhcp.lease()
        assert lease is not None
        assert lease.seconds == 120


def test_both_families_configure_themselves() -> None:
    """DHCP for IPv4 beside SLAAC for IPv6, through moves and a renumbering of the LAN."""
    with Lab("both") as lab:
        home, office = lab.router("home", nat="moderate"), lab.router("office")
        laptop = lab.host("laptop", uplink=home, dhcp=True, slaac=True)
        lab.build()
        for router, change in (
            (home, lab.build),
            (office, lambda: laptop.replug(office)),
            (office, office.renumber),
        ):
            change()
            lease = laptop.dhcp.lease()
            assert lease is not None
            assert lease.router == router.downlink.ip
            assert laptop.ip == lease.ip
            assert ip_address(laptop.ip6 or "") in ip_network(router.lan6 or "")


def test_what_cannot_be_is_refused_before_anything_changes(world: World) -> None:
    """Each with a sentence that says what to do."""
    lab = world.lab
    with pytest.raises(TopologyError, match="has no leases; it has lease"):
        world.home.dhcp.change(leases=5)  # type: ignore[call-arg]
    with pytest.raises(TopologyError, match="family='v6'"):
        lab.host("phone", uplink=world.home, dhcp=True, family="v6")
    static = lab.host("static", uplink=world.home)
    with pytest.raises(TopologyError, match="describe it with dhcp=True"):
        static.dhcp.renew()
    for options in ({"family": "v6", "dhcp": True}, {"dhcp": DhcpConfig(first=10, last=300)}):
        with pytest.raises(TopologyError):
            lab.router("six", **options)
    six = lab.router("six", family="v6")
    with pytest.raises(TopologyError, match="no IPv4"):
        six.dhcp.change(lease=5)
    with pytest.raises(TopologyError, match="no IPv4"):
        print(six.dhcp.range)
    lab.build()
    with pytest.raises(TopologyError, match="range of the DHCP server"):
        static.renumber(address="192.168.1.150")
    with pytest.raises(TopologyError, match="no old subnet"):
        world.home.dhcp.retire()
    assert six.dhcp.state == "never"


def events_of(lab: Lab, kind: str) -> list[LabEvent]:
    return [event for event in lab.events if event.kind == kind]


def test_flood_of_noise_does_not_end_the_server(world: World) -> None:
    """Hostile packets to port 67: short, long, cut off, of made-up clients; the next host still gets an address."""
    world.lab.build()
    with world.laptop.socket(17, 3, 0) as raw:  # AF_PACKET, SOCK_RAW
        raw.bind(("eth0", 0))
        head = bytes(
            Ether(src="02:00:00:00:ff:ff", dst="ff:ff:ff:ff:ff:ff")
            / IP(dst="255.255.255.255")
            / UDP(sport=68, dport=67)
        )
        raw.send(head[:30].ljust(60, b"\0"))
        for payload in (b"", b"\1" * 500, b"\1\1\6" + bytes(233) + b"\x63\x82\x53\x63" + b"\x35\xff"):
            frame = Ether(head[:14]) / IP(dst="255.255.255.255") / UDP(sport=68, dport=67) / payload
            raw.send(bytes(frame).ljust(60, b"\0"))
        for number in range(300):
            mac = number.to_bytes(6, "big")
            frame = Ether(head[:14]) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
            raw.send(bytes(frame / BOOTP(chaddr=mac) / DHCP(options=[("message-type", "discover"), "end"])))
    world.home.dhcp.change(offer_time=0.0)
    guest = world.lab.host("guest", uplink=world.hotspot, dhcp=True)
    world.lab.build()
    world.laptop.dhcp.renew()
    assert (world.laptop.ip, guest.ip) == ("192.168.1.100", "192.168.2.100")
    assert len(world.home.dhcp.leases()) == 1
    assert events_of(world.lab, "dhcp_failed") == []
