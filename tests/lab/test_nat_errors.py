"""ICMP errors find the mapping of the packet that they quote (RFC 5508), whatever that looks like."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from nat_kit import World, until
from udp_kit import close_all, udp

from netns_fixtures import Lab, NatConfig
from netns_fixtures.nat_probe_tcp import TcpProbe

#: <linux/in.h>
IP_MTU = 14
NOP = b"\x01"
NATS = [
    "moderate",
    "strict",
    NatConfig(timeout=60),
    NatConfig(mapping="apdm", ports="random", lifetime=60),
    NatConfig(addresses=2),
    NatConfig(tcp_mapping="eim", tcp_filtering="adf"),
    NatConfig(tcp_mapping="adm", addresses=2, pooling="arbitrary"),
]


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("errors") as lab:
        yield lab
    close_all()


def name(nat: str | NatConfig) -> str:
    return nat if isinstance(nat, str) else nat.label.replace(" ", "-")


@pytest.mark.parametrize("options", [4, 20, 40])
@pytest.mark.parametrize("nat", NATS, ids=name)
def test_errors_about_packets_with_ip_options_arrive(net: Lab, nat: str | NatConfig, options: int) -> None:
    """The quoted ports lie behind the options, up to the 40 bytes that there can be."""
    world = World(net, nat)
    client = udp(world.first)
    client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, NOP * options)
    client.connect((world.servers[0].ip, 9))
    client.send(b"nobody listens there")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


@pytest.mark.parametrize("nat", NATS, ids=name)
def test_tcp_learns_of_a_smaller_mtu_behind_the_nat(net: Lab, nat: str | NatConfig) -> None:
    """Errors about TCP are translated, too: the path MTU is known inside, and the transfer goes on."""
    net.router("centre", mtu=1280)
    world = World(net, nat)
    server = world.servers[0]
    with TcpProbe() as probe:
        sock = probe.socket(world.first)
        far = probe.connect(sock, probe.listener(server), server.ip)
        sock.sendall(bytes(20_000))
        left = 20_000
        while left:
            left -= len(far.recv(left))
        until(lambda: sock.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1280)
