"""Load balancers of lab routers: who gets a flow, what happens to flows when backends come and go."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from balance_kit import ask, dial, serve_names

from netns_fixtures import Balancer, Host, Lab, NatConfig, Scenario, TopologyError

VIP, VIP6 = "203.0.113.50", "2001:db8::50"


@dataclass
class World:
    """Three servers in the LAN of ``front``, and a client elsewhere that makes sockets."""

    lab: Lab
    stack: ExitStack
    hosts: list[Host]
    client: Host

    def balancer(self, by: str = "source", protocol: str = "udp") -> Balancer:
        """At an address of its own, in front of all three."""
        return self.lab.balancer(
            "www",
            self.lab.routers["front"],
            self.hosts,
            7000,
            address=[VIP, VIP6],
            by=by,  # type: ignore[arg-type]
            protocol=protocol,  # type: ignore[arg-type]
        )

    def udp(self, host: Host | None = None, family: int = socket.AF_INET) -> socket.socket:
        """A socket that the test's end closes."""
        return self.stack.enter_context((host or self.client).socket(family, socket.SOCK_DGRAM))


@pytest.fixture(params=["none", "moderate"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Servers at public addresses, and behind a NAT."""
    with ExitStack() as stack, Lab(seed=3) as lab:
        front = lab.router("front", nat=request.param)
        hosts = [lab.host(f"srv{number}", uplink=front) for number in (1, 2, 3)]
        client = lab.host("client", uplink=lab.router("net"))
        serve_names(stack, *hosts)
        yield World(lab, stack, hosts, client)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_flows_take_turns_and_stay_where_they_are(world: World, family: int) -> None:
    """Round robin: each new flow goes to the next backend, and stays there; answers come from the one address."""
    www = world.balancer("round-robin")
    ip = VIP if family == socket.AF_INET else VIP6
    sockets = [world.udp(family=family) for _ in range(6)]
    first = [ask(sock, ip) for sock in sockets]
    assert Counter(first) == {"srv1": 2, "srv2": 2, "srv3": 2}
    assert [ask(sock, ip) for sock in sockets] == first
    seen = {flow.client[1]: flow.backend for flow in www.flows()}
    assert [seen[sock.getsockname()[1]] for sock in sockets] == first


@pytest.mark.parametrize(("by", "spread"), [("source", False), ("flow", True), ("random", True)])
def test_hash_of_the_source_keeps_a_client_at_one_backend(world: World, by: str, spread: bool) -> None:
    """By source all sockets of a client meet one server; by flow and at random they meet several."""
    world.balancer(by)
    met = {ask(world.udp(), VIP) for _ in range(25)}
    # That 25 flows of three equal shares all meet one is a chance of 1 in 10 ** 11.
    assert (len(met) > 1) is spread


def test_tcp_and_udp_of_a_client_meet_the_same_backend(world: World) -> None:
    """One balancer for both protocols, by source: sessions that use both belong together."""
    world.balancer(protocol="both")
    name = ask(world.udp(), VIP)
    for ip in (VIP, VIP6):
        with dial(world.client, ip) as connection:
            connection.sendall(b"who?")
            met = connection.recv(100).decode()
            connection.sendall(b"again?")
            assert connection.recv(100).decode() == met
        assert ip == VIP6 or met == name


def test_backend_that_drains_keeps_its_flows_and_gets_no_new_one(world: World) -> None:
    """Taken out with its flows kept, until it is added again; both are events."""
    www = world.balancer()
    old = world.udp()
    name = ask(old, VIP)
    drained = world.lab.hosts[str(name)]
    www.take_out(drained)
    assert name not in www.backends
    assert ask(old, VIP) == name
    assert ask(world.udp(), VIP) != name
    www.add(drained)
    assert ask(world.udp(), VIP) == name
    texts = [event.text for event in world.lab.events if event.kind.startswith("backend")]
    assert texts == [f"www took out {name}, which keeps its flows", f"www leads to {name}, too"]


def test_backend_that_fails_loses_its_flows_to_others(world: World) -> None:
    """Taken out with its flows moved: the same socket meets another server; a TCP connection is reset there."""
    www = world.balancer(protocol="both")
    sock = world.udp()
    name = ask(sock, VIP)
    with dial(world.client, VIP) as connection:
        connection.sendall(b"who?")
        assert connection.recv(100).decode() == name
        www.take_out(world.lab.hosts[str(name)], flows="move")
        assert ask(sock, VIP) not in (name, None)
        connection.sendall(b"again?")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    assert {flow.backend for flow in www.flows()} <= set(www.backends)


def test_nobody_behind_it_is_silence(world: World) -> None:
    """Not even the router itself answers at that port."""
    www = world.balancer()
    for host in world.hosts:
        www.take_out(host)
    assert www.backends == ()
    assert ask(world.udp(), VIP, answers=False) is None
    www.add(world.hosts[1])
    assert ask(world.udp(), VIP) == "srv2"


def test_neighbours_of_the_backends_and_backends_themselves_reach_it(world: World) -> None:
    """Hairpin: what stays in the LAN comes back through the balancer, so its address answers."""
    world.balancer("round-robin")
    assert {ask(world.udp(host), VIP) for host in world.hosts} == {"srv1", "srv2", "srv3"}


def test_backend_with_a_new_address_is_found_there(world: World) -> None:
    """A renumbered host, and a renumbered LAN: flows of the old address break, new ones do not."""
    world.balancer()
    name = ask(world.udp(), VIP)
    world.lab.hosts[str(name)].renumber()
    assert ask(world.udp(), VIP) == name
    world.lab.routers["front"].renumber()
    assert ask(world.udp(), VIP) == name


def test_address_of_the_router_itself_and_another_port(world: World) -> None:
    """Added while the lab runs; its own name leads to it."""
    front = world.lab.routers["front"]
    world.lab.build()
    dns = world.lab.balancer("dns", front, world.hosts[:1], 53, backend_port=7000)
    assert (dns.ip, dns.ip6) == (front.ip, front.ip6)
    assert ask(world.udp(), front.ip, 53) == "srv1"
    assert world.client.resolve("dns")[0] == front.ip
    assert "dns balances at front: srv1" in [event.text for event in world.lab.events]


def test_network_of_a_balancer_is_written_and_done_again(world: World) -> None:
    """What was described and done is a scenario, and runs as one."""
    www = world.balancer("round-robin")
    world.lab.build()
    www.take_out(world.hosts[0], "move")
    scenario = Scenario.parse(str(Scenario.of(world.lab)))
    with scenario.build() as again:
        scenario.timeline(again).run()
        assert again.balancers["www"].backends == ("srv2", "srv3")
        assert again.balancers["www"].ip == VIP


def test_router_with_a_balancer_gets_no_nat_with_tables_of_its_own(world: World) -> None:
    """Refused by name; and who is not behind it cannot be taken out."""
    www = world.balancer()
    with pytest.raises(TopologyError, match=r"has a load balancer|has no NAT"):
        world.lab.routers["front"].nat.change(NatConfig(timeout=30))
    with pytest.raises(TopologyError, match="client is not behind www"):
        www.take_out(world.client)
