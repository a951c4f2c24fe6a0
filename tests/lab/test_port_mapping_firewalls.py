"""Mapped ports beside everything else of a router: its firewall, its IPv6, its NAT's own ports, its other addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from udp_kit import close_all, hear, is_silent, outside_of, udp

from iroh_py.proto import pcp
from netns_fixtures import Host, Lab, NatConfig, Router

NONCE = bytes(range(12))


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("pinholes") as lab:
        yield lab
    close_all()


class Home:
    """Two hosts behind a router that maps ports, and a stranger outside."""

    def __init__(self, lab: Lab, **router: object) -> None:
        self.router: Router = lab.router("home", port_mapping="pcp", **router)  # type: ignore[arg-type]
        self.laptop, self.tv = (lab.host(name, uplink=self.router) for name in ("laptop", "tv"))
        self.stranger = lab.host("stranger", uplink=lab.router("centre"))

    def map(
        self, host: Host, port: int, *, lifetime: int = 3600, protocol: int = 17, ipv6: bool = False
    ) -> int:
        """Ask for a port; the one that was granted."""
        own, gateway = (host.ip6, _gateway6(self.router)) if ipv6 else (host.ip, self.router.downlink.ip)
        assert own is not None
        request = pcp.encode_request(pcp.MapRequest(own, NONCE, port, lifetime, protocol=protocol))
        with host.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((gateway, pcp.PORT))
            sock.send(request)
            response = pcp.parse_response(sock.recv(2000))
        assert isinstance(response, pcp.MapResponse)
        if ipv6 and lifetime:
            assert response.external_ip == own
        return response.external_port


def _gateway6(router: Router) -> str:
    ip6 = router.downlink.ip6
    assert ip6 is not None
    return ip6


def udp6(host: Host, port: int = 0) -> socket.socket:
    sock = host.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind(("::", port))
    return sock


@pytest.mark.parametrize("nat", ["open", "moderate", "full-cone"])
def test_mapping_opens_a_firewall_that_blocks_inbound(net: Lab, nat: str) -> None:
    """As home routers do: what was mapped is let in, by UDP and TCP, and nothing beside it."""
    home = Home(net, nat=nat, firewall="block-inbound")
    mapped, other = udp(home.laptop, 4444), udp(home.laptop, 4445)
    home.map(home.laptop, 4444)
    home.map(home.laptop, 80, protocol=6)
    stranger = udp(home.stranger, 999)
    outside_of(other, udp(home.stranger, 998), home.stranger.ip)
    for port in (4445, 4444):
        stranger.sendto(b"hello", (home.router.ip, port))
    assert hear(mapped) == (home.stranger.ip, 999)
    assert is_silent(other)
    stream = socket.AF_INET, socket.SOCK_STREAM
    with home.laptop.socket(*stream) as listener, home.stranger.socket(*stream) as client:
        listener.bind(("", 80))
        listener.listen()
        client.settimeout(5)
        client.connect((home.router.ip, 80))


def test_mapping_does_not_open_what_is_blocked_for_all(net: Lab) -> None:
    """A firewall without UDP stays one: only who-began-it is overruled."""
    home = Home(net, nat="moderate", firewall="no-udp")
    mapped = udp(home.laptop, 4444)
    home.map(home.laptop, 4444)
    udp(home.stranger).sendto(b"hello", (home.router.ip, 4444))
    assert is_silent(mapped)


@pytest.mark.parametrize("how", ["nat", "firewall", "v6"])
def test_pinhole_lets_strangers_in_over_ipv6(net: Lab, how: str) -> None:
    """PCP over IPv6: the same address and port outside as inside, for the lifetime; nothing else is open."""
    options: dict[str, dict[str, object]] = {
        "nat": {"nat": "moderate"},
        "firewall": {"nat": "open", "firewall": "block-inbound"},
        "v6": {"nat": "moderate", "family": "v6"},
    }
    home = Home(net, **options[how])
    address = home.laptop.ip6
    with (
        udp6(home.laptop, 4444) as mapped,
        udp6(home.laptop, 4445) as other,
        udp6(home.stranger, 9) as stranger,
    ):
        assert home.map(home.laptop, 4444, ipv6=True) == 4444
        for port in (4445, 4444):
            stranger.sendto(b"hello", (address, port))
        assert mapped.recvfrom(10)[1][:2] == (home.stranger.ip6, 9)
        (pinhole,) = home.router.port_mapping.mappings()
        assert str(pinhole) == f"udp [{address}]:4444 -> [{address}]:4444 by pcp"
        home.map(home.laptop, 4444, lifetime=0, ipv6=True)
        stranger.sendto(b"again", (address, 4444))
        for sock in (mapped, other):
            # What must arrive, after it on the same path: an answer.
            sock.sendto(b"?", (home.stranger.ip6, 9))
            stranger.sendto(b"answer", stranger.recvfrom(10)[1])
            if sock is mapped:
                sock.settimeout(5)
            assert sock.recv(10) == b"answer"


@pytest.mark.parametrize(
    "nat",
    ["moderate", NatConfig(timeout=60), NatConfig(addresses=2), NatConfig(tcp_mapping="eim")],
    ids=["learning", "tables", "pool", "tcp"],
)
def test_mapped_port_is_nobody_elses(net: Lab, nat: str | NatConfig) -> None:
    """Another host's socket with that port gets another outside port, one for all destinations; the mapping stays."""
    home = Home(net, nat=nat)
    mapped, same = udp(home.laptop, 4444), udp(home.tv, 4444)
    home.map(home.laptop, 4444)
    servers = [udp(home.stranger, port) for port in (7, 8)]
    ends = [outside_of(same, server, home.stranger.ip) for server in servers]
    assert ends[0] == ends[1]
    assert ends[0][1] != 4444
    servers[0].sendto(b"hello", (home.router.ip, 4444))
    assert hear(mapped) == (home.stranger.ip, 7)
    servers[0].sendto(b"hello", ends[0])
    assert hear(same) == (home.stranger.ip, 7)


@pytest.mark.parametrize(
    "nat",
    ["moderate", NatConfig(timeout=60), NatConfig(addresses=1, tcp_mapping="eim")],
    ids=["learning", "tables", "tcp"],
)
def test_port_of_anothers_flow_is_not_mapped(net: Lab, nat: str | NatConfig) -> None:
    """Who asks for it gets another one; who has the flow itself gets it."""
    home = Home(net, nat=nat)
    there, early = udp(home.stranger, 7), udp(home.tv, 4444)
    end = outside_of(early, there, home.stranger.ip)
    assert end[1] == 4444
    mapped = udp(home.laptop, 4444)
    port = home.map(home.laptop, 4444)
    assert port != 4444
    there.sendto(b"hello", (home.router.ip, port))
    assert hear(mapped) == (home.stranger.ip, 7)
    there.sendto(b"hello", end)
    assert hear(early) == (home.stranger.ip, 7)
    assert home.map(home.tv, 4444) == 4444
    there.sendto(b"hello", end)
    assert hear(early) == (home.stranger.ip, 7)


def test_drawn_port_is_not_a_mapped_one(net: Lab) -> None:
    """A counter that comes to a mapped port goes on: that costs one packet, and no port is two hosts'."""
    home = Home(net, nat=NatConfig(ports="sequential"))
    mapped = udp(home.laptop, 4100)
    home.map(home.laptop, 4100)
    server = udp(home.stranger, 7)
    seen = []
    for _ in range(8):
        sock = udp(home.tv)
        for _ in range(3):
            sock.sendto(b"first", (home.stranger.ip, 7))
            server.settimeout(0.2)
            try:
                seen.append(server.recvfrom(10)[1][1])
                break
            except TimeoutError:
                continue
    assert seen == [4096, 4097, 4098, 4099, 4101, 4102, 4103, 4104]
    server.sendto(b"hello", (home.router.ip, 4100))
    assert hear(mapped) == (home.stranger.ip, 7)


def test_mapping_is_at_one_address_of_a_pool(net: Lab) -> None:
    """What PCP names is where it is; the same port of the other address is not mapped."""
    home = Home(net, nat=NatConfig(addresses=2))
    mapped = udp(home.laptop, 4444)
    home.map(home.laptop, 4444)
    first, second = home.router.nat.addresses
    stranger = udp(home.stranger, 7)
    stranger.sendto(b"no", (second, 4444))
    stranger.sendto(b"yes", (first, 4444))
    mapped.settimeout(5)
    assert mapped.recv(10) == b"yes"
    (mapping,) = home.router.port_mapping.mappings()
    assert mapping.external_ip == first
