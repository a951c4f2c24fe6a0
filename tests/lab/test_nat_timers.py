"""Mappings of a NAT live as long as its settings say: not shorter, not longer, and refreshed as they say."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from nat_kit import World, until
from udp_kit import PATIENCE, close_all, hear, outside_of, udp

from netns_fixtures import Lab, NatConfig
from netns_fixtures.nat_probe import Aged, mapping_ages

#: Seconds; what a busy machine may hold a test up for is less, mostly, and the tests notice when it is not.
LIFE = 1.0
#: The kernel's clock for sets ticks this coarsely at worst (HZ=100), at both ends.
TICK = 0.02
AGES = (0.0, 0.5 * LIFE, 1.15 * LIFE)


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("timers") as lab:
        yield lab
    close_all()


IDLE = (
    NatConfig(timeout=LIFE),
    NatConfig(timeout=LIFE, refresh_inbound=False),
    NatConfig(timeout=LIFE, filtering="eif", mapping="apdm"),
    NatConfig(timeout=LIFE, ports="overload"),
    NatConfig(lifetime=LIFE, ports="random"),
    NatConfig(timeout=LIFE, lifetime=60, filtering="adf", mapping="adm"),
)
#: What goes on, and whether it keeps a mapping alive beyond LIFE.
USED = (
    (NatConfig(timeout=LIFE), "outbound", True),
    (NatConfig(timeout=LIFE), "inbound", True),
    (NatConfig(timeout=LIFE, refresh_inbound=False), "outbound", True),
    (NatConfig(timeout=LIFE, refresh_inbound=False), "inbound", False),
    # The next packet from inside begins a new mapping, with another port: the old one stays closed.
    (NatConfig(lifetime=LIFE, ports="sequential"), "outbound", False),
    (NatConfig(timeout=0.5 * LIFE, lifetime=LIFE, ports="sequential"), "inbound", False),
)


def test_idle_mapping_ends_at_its_time(net: Lab) -> None:
    """Before its timeout a packet from outside gets in, after it none does; whatever else the NAT does."""
    worlds = [World(net, nat) for nat in IDLE]
    net.build()
    with ThreadPoolExecutor(len(worlds)) as pool:
        ages = list(pool.map(lambda world: mapping_ages(world.first, world.servers[0], AGES), worlds))
    for nat, seen in zip(IDLE, ages, strict=True):
        assert all(aged.earliest < LIFE + TICK for aged in seen if aged.alive), nat
        assert all(aged.latest > LIFE - TICK for aged in seen if not aged.alive), nat
        assert not seen[-1].alive, nat


def test_packets_lengthen_what_they_should(net: Lab) -> None:
    """RFC 4787 REQ-6: traffic from inside refreshes; from outside if configured; nothing beyond a lifetime."""

    def age(world: World, keep: str) -> Aged:
        (aged,) = mapping_ages(world.first, world.servers[0], [1.15 * LIFE], keep=keep, every=0.1)
        return aged

    worlds = [World(net, nat) for nat, _keep, _lives in USED]
    net.build()
    with ThreadPoolExecutor(len(worlds)) as pool:
        ages = list(pool.map(age, worlds, [keep for _nat, keep, _lives in USED]))
    for (nat, keep, lives), aged in zip(USED, ages, strict=True):
        held_up = lives and aged.quiet > LIFE - TICK  # by the machine, for so long that it ended rightly
        assert aged.alive == lives or held_up, (nat, keep)


def test_mapping_in_use_is_replaced_when_its_lifetime_ends(net: Lab) -> None:
    """A carrier that drops each mapping some time after its creation: the sender is seen from another port."""
    world = World(net, NatConfig(lifetime=LIFE, ports="sequential"))
    client, server = udp(world.first), udp(world.servers[0])
    began = time.monotonic()
    first = latest = outside_of(client, server, world.servers[0].ip)
    while latest == first:
        assert time.monotonic() < began + LIFE + PATIENCE
        latest = outside_of(client, server, world.servers[0].ip)
    assert time.monotonic() - began > LIFE - TICK

    def is_answered() -> bool:
        server.sendto(b"answer", outside_of(client, server, world.servers[0].ip))
        return bool(select.select([client], [], [], 0.5)[0])

    until(is_answered)  # at once, unless the machine is held up for a lifetime


def test_preserving_nat_gives_the_port_of_an_ended_mapping_again(net: Lab) -> None:
    """What ended is free: a second client may have it, and the first one too."""
    world = World(net, NatConfig(timeout=0.2))
    server = udp(world.servers[0])
    for host in (world.first, world.second, world.first):
        client = udp(host, 40000)
        outside = outside_of(client, server, world.servers[0].ip)
        assert outside == (world.router.ip, 40000)
        client.close()
        until(lambda: not world.router.nat.mappings())


def test_idle_tcp_connection_is_forgotten(net: Lab) -> None:
    """After its timeout neither side's data passes, and nobody is told."""
    world = World(net, NatConfig(tcp_timeout=2))
    with Connection(world) as (client, server):
        client.sendall(b"hello")
        assert server.recv(100) == b"hello"
        assert [each.remote for each in world.router.nat.mappings()] == [server.getsockname()[:2]]
        until(lambda: not world.router.nat.mappings())
        client.sendall(b"still there?")
        server.sendall(b"and you?")
        # What must arrive, sent after it on the same path, by UDP.
        witness, there = udp(world.first), udp(world.servers[0])
        for _ in range(3):
            there.sendto(b"yes", outside_of(witness, there, world.servers[0].ip))
            hear(witness)
        for sock in (client, server):
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(100)


class Connection:
    """A TCP connection from the first client to the first server."""

    def __init__(self, world: World) -> None:
        with world.servers[0].socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("", 0))
            listener.listen()
            self.client = world.first.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.client.settimeout(PATIENCE)
            self.client.connect((world.servers[0].ip, listener.getsockname()[1]))
            listener.settimeout(PATIENCE)
            self.server = listener.accept()[0]
            self.server.settimeout(PATIENCE)

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        return self.client, self.server

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        self.server.close()


def test_counter_that_wrapped_passes_over_ports_in_use(net: Lab) -> None:
    """A port that is drawn again while a mapping has it is not given, and nobody loses a packet for that."""
    world = World(net, NatConfig(mapping="apdm", ports="sequential", timeout=1.5))
    server = world.servers[0]
    there, first, many = udp(server, 7), udp(world.first), udp(world.first)
    assert outside_of(first, there, server.ip)[1] == 4096
    for port in range(20_000, 21_023):
        many.sendto(b"one number each", (server.ip, port))

    def others_are_gone() -> bool:
        first.sendto(b"still here", (server.ip, 7))
        return len(world.router.nat.mappings()) == 1

    until(others_are_gone)
    udp(world.second).sendto(b"first and only", (server.ip, 7))
    data = b""
    while data != b"first and only":
        data, end = there.recvfrom(100)
    assert end[1] == 4097
