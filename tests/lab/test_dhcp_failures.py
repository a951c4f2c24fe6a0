"""Leases that end: silent servers, full ones, networks that are renumbered under their hosts."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from test_dhcp import default_routes, told
from udp_kit import hear, port_of, udp

from netns_fixtures import DhcpClient, DhcpConfig, Host, HostFrozen, Lab, LabEvent, Router

#: Seconds: the shortest lease on the wire that leaves a host time for anything.
SHORT = 2
PATIENCE = 15.0


class World:
    """A laptop with a short lease, and somebody whom it can talk to."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home: Router = lab.router("home", nat="moderate", dhcp=DhcpConfig(lease=SHORT))
        self.laptop: Host = lab.host("laptop", uplink=self.home, dhcp=DhcpClient(retry_interval=0.1))
        self.server: Host = lab.host("server", uplink=lab.router("centre"))


@pytest.fixture
def world() -> Iterator[World]:
    with Lab("leases", seed=7) as lab:
        yield World(lab)


def reaches(sender: Host, receiver: Host, ip: str = "") -> bool:
    """Whether a datagram arrives, and its answer."""
    with udp(sender) as one, udp(receiver) as two:
        one.sendto(b"ping", (ip or receiver.ip, port_of(two)))
        two.sendto(b"pong", hear(two))
        return bool(one.recv(100) == b"pong")


class Waiter:
    """Waits for an event of a lab: from now on."""

    def __init__(self, lab: Lab, kind: str, node: str = "laptop") -> None:
        self._found = threading.Event()
        self._wanted = kind, node
        self._end = lab.on_event(self._see)

    def wait(self) -> None:
        assert self._found.wait(PATIENCE), f"no {self._wanted} within {PATIENCE} s"
        self._end()

    def _see(self, event: LabEvent) -> None:
        if (event.kind, event.node) == self._wanted:
            self._found.set()


def test_lease_ends_while_the_server_is_silent(world: World) -> None:
    """The host asks its server, then all; at the end of the lease address and route are gone; later it is served."""
    world.lab.build()
    expired = Waiter(world.lab, "dhcp_expired")
    world.home.dhcp.silence()
    expired.wait()
    assert (world.laptop.ip, default_routes(world.laptop)) == ("", [])
    world.home.dhcp.resume()
    world.laptop.dhcp.wait("bound")
    assert world.laptop.ip == "192.168.1.100"


def test_lease_in_use_is_renewed_again_and_again(world: World) -> None:
    """Without anybody's doing; the address never changes."""
    world.lab.build()
    for _ in range(2):
        Waiter(world.lab, "dhcp_renewed").wait()
    assert set(told(world.lab)) == {"leased", "renewed"}
    assert [lease.ip for lease in world.home.dhcp.leases()] == [world.laptop.ip]


def test_renumbering_reaches_hosts_at_their_next_renewal(world: World) -> None:
    """NAK, and an address of the new one; then the old one is retired."""
    world.lab.build()
    leased = Waiter(world.lab, "dhcp_leased")
    world.home.dhcp.renumber("192.168.50.0/24")
    assert world.home.lan == "192.168.50.0/24"
    leased.wait()
    assert (world.laptop.ip, default_routes(world.laptop)) == ("192.168.50.100", [("192.168.50.1", 100)])
    assert told(world.lab)[-2:] == ["nak", "leased"]
    world.home.dhcp.retire()
    assert reaches(world.laptop, world.server)
    assert world.home.downlink.addresses[0] == "192.168.50.1/24"


def test_dead_subnet_is_noticed_by_asking_everybody(world: World) -> None:
    """``old="dead"``: the server's address is gone, so nobody answers the renewal; the broadcast at T2 is refused."""
    static = world.lab.host("static", uplink=world.home)
    world.lab.build()
    leased = Waiter(world.lab, "dhcp_leased")
    world.home.dhcp.renumber(old="dead")
    assert static.ip in {f"192.168.2.{n}" for n in range(10, 20)}
    leased.wait()
    assert world.laptop.ip == "192.168.2.100"
    assert told(world.lab)[-2:] == ["nak", "leased"]


def test_public_lan_stays_reachable_by_its_old_subnet() -> None:
    """Without a NAT the world must know the way back to both subnets."""
    with Lab("public") as lab:
        office = lab.router("office", dhcp=True)
        laptop, server = (
            lab.host("laptop", uplink=office, dhcp=True),
            lab.host("server", uplink=lab.router("dc")),
        )
        lab.build()
        old = laptop.ip
        office.dhcp.renumber()
        assert reaches(server, laptop, old)
        laptop.dhcp.renew()
        assert laptop.ip != old
        assert reaches(server, laptop)
        office.dhcp.retire()
        assert reaches(server, laptop)


def test_full_server_has_nothing_for_newcomers(world: World) -> None:
    """Who has an address keeps it; a newcomer is told nothing until there is room again."""
    other = world.lab.router("other", nat="moderate")
    guest = world.lab.host("guest", uplink=other, dhcp=DhcpClient(retry_interval=0.05))
    world.lab.build()
    full = Waiter(world.lab, "dhcp_exhausted", "home")
    world.home.dhcp.exhaust()
    guest.replug(world.home)
    full.wait()
    assert guest.dhcp.state() == "selecting"
    world.laptop.dhcp.renew()
    assert world.laptop.ip == "192.168.1.100"
    assert any(event.text == "home has no address left for guest eth0" for event in world.lab.events)
    world.home.dhcp.resume()
    guest.dhcp.wait("bound")
    assert guest.ip == "192.168.1.101"


def test_router_without_a_server_takes_the_address_away(world: World) -> None:
    """``dhcp=False``: nobody confirms the old address, so the host gives it up and goes on asking."""
    bare = world.lab.router("bare", nat="moderate", dhcp=False)
    world.lab.build()
    gone = Waiter(world.lab, "dhcp_unconfirmed")
    world.laptop.replug(bare)
    gone.wait()
    assert (world.laptop.ip, bare.dhcp.state) == ("", "never")
    world.laptop.replug(world.home)
    assert world.laptop.ip


def test_restarted_server_refuses_and_leases_anew(world: World) -> None:
    """A router without a disk: the lease is unknown, and the host gets one again."""
    world.lab.build()
    world.home.dhcp.restart()
    assert world.home.dhcp.leases() == []
    world.laptop.dhcp.renew()
    assert told(world.lab)[-2:] == ["nak", "leased"]


def test_frozen_host_wakes_after_its_lease(world: World) -> None:
    """A lid that closes: nothing is renewed while it is, and the first thing after is to notice that all is over."""
    world.lab.build()
    world.laptop.freeze()
    world.home.dhcp.wait(0, timeout=PATIENCE)
    assert world.laptop.ip == "192.168.1.100"  # its kernel does not sleep; its client does
    expired, leased = Waiter(world.lab, "dhcp_expired"), Waiter(world.lab, "dhcp_leased")
    world.laptop.thaw()
    expired.wait()
    leased.wait()
    assert world.laptop.ip == "192.168.1.100"


def test_frozen_host_learns_of_its_new_network_when_it_wakes(world: World) -> None:
    """Carried elsewhere while asleep: nothing is asked until it wakes, then the old address is refused."""
    cafe = world.lab.router("cafe", nat="moderate")
    world.lab.build()
    world.home.dhcp.change(lease=3600)
    world.laptop.dhcp.renew()
    with world.laptop.frozen():
        world.laptop.replug(cafe)
        with pytest.raises(HostFrozen, match=r"until laptop\.thaw"):
            world.laptop.dhcp.renew()
        assert (world.laptop.ip, cafe.dhcp.leases()) == ("192.168.1.100", [])
        leased = Waiter(world.lab, "dhcp_leased")
    leased.wait()
    assert world.laptop.ip == "192.168.2.100"
    assert told(world.lab)[-2:] == ["nak", "leased"]


def test_lossy_link_leases_by_retries(world: World) -> None:
    """Lost questions and answers are repeated."""
    phone = world.lab.host("phone", uplink=world.home, dhcp=DhcpClient(retry_interval=0.02), loss=0.3)
    world.lab.build()
    assert phone.ip == "192.168.1.101"
    phone.replug(world.lab.router("other", nat="moderate"))
    assert phone.ip.endswith(".100")
