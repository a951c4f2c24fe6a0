"""Regions: how long packets take between them, what a cut link does, and the way around it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from udp_kit import close_all, hear, is_silent, port_of, udp

from netns_fixtures import Host, Lab, TopologyError

#: What a machine may add to a round trip of which it was not busy, seconds.
SLACK = 0.03
#: For how long a packet is waited for, and how long such a one is looked for.
TRY, TRYING = 1.0, 15.0


@pytest.fixture
def world() -> Iterator[Lab]:
    """Three regions, a router with a host in each."""
    with Lab("world", seed=1) as lab:
        lab.region("eu")
        lab.region("us", latency={"eu": 0.04})
        lab.region("asia", latency={"eu": 0.06, "us": 0.01})
        for name in lab.regions:
            lab.host(f"{name}-host", uplink=lab.router(f"{name}-home", nat="open", region=name))
        yield lab
    close_all()


def round_trip(here: Host, there: Host, below: float, family: int = 4) -> float:
    """Seconds of a round trip: of the first that takes less than ``below``, or the fastest of all that were tried.

    A busy machine adds what it likes to any one of them, and takes nothing away from any.
    """
    any_ip = "::" if family == 6 else ""
    asking, answering = udp(here, ip=any_ip), udp(there, ip=any_ip)
    router = there.link.router
    assert router is not None
    assert there.ip6 is not None
    target = (there.ip6 if family == 6 else router.ip, port_of(answering))
    asking.settimeout(TRY)
    answering.settimeout(TRY)
    best, deadline, number = float("inf"), time.monotonic() + TRYING, 0
    while best >= below and time.monotonic() < deadline:
        number += 1
        if family == 4:
            open_nat(answering, here)
        with contextlib.suppress(
            TimeoutError
        ):  # before the NAT was open, or while a neighbour was looked for
            began = time.perf_counter()
            asking.sendto(b"%d" % number, target)
            answering.sendto(b"%d" % number, hear_number(answering, number))
            hear_number(asking, number)
            best = min(best, time.perf_counter() - began)
    return best


def hear_number(sock: socket.socket, number: int) -> tuple[str, int]:
    """Where this very datagram comes from; late ones of earlier tries are passed over. Raises TimeoutError."""
    while True:
        data, source = sock.recvfrom(100)
        if data == b"%d" % number:
            return source[0], source[1]


def open_nat(answering: socket.socket, towards: Host) -> int:
    """Send one packet out, so that the NAT has a mapping for everybody (it keeps the port)."""
    router = towards.link.router
    assert router is not None
    answering.sendto(b"open", (router.ip, 9))
    return port_of(answering)


@pytest.mark.parametrize("family", [4, 6])
def test_round_trip_is_twice_the_latency_of_the_pair(world: Lab, family: int) -> None:
    """Each pair has its own, whatever the others have, over both families."""
    eu, us, asia = (world.hosts[f"{name}-host"] for name in ("eu", "us", "asia"))
    assert 0.08 <= round_trip(eu, us, 0.08 + SLACK, family) < 0.08 + SLACK
    assert 0.12 <= round_trip(eu, asia, 0.12 + SLACK, family) < 0.12 + SLACK
    assert 0.02 <= round_trip(us, asia, 0.02 + SLACK, family) < 0.02 + SLACK


def test_latency_changes_while_packets_flow(world: Lab) -> None:
    """Also between regions that had none: before, they met at the exchange."""
    world.region("moon")
    moon = world.host("rover", uplink=world.router("base", nat="open", region="moon"))
    eu = world.hosts["eu-host"]
    assert round_trip(eu, moon, SLACK) < SLACK
    world.latency("eu", "moon", 0.1)
    assert 0.2 <= round_trip(eu, moon, 0.2 + SLACK) < 0.2 + SLACK
    world.latency(world.regions["moon"], "eu", 0.02)
    assert 0.04 <= round_trip(eu, moon, 0.04 + SLACK) < 0.04 + SLACK
    assert world.events[-1].text == "moon - eu is now 20 ms"


def test_cut_loses_packets_until_it_is_restored(world: Lab) -> None:
    """Silence both ways and no error, while others go on."""
    eu, us, asia = (world.hosts[f"{name}-host"] for name in ("eu", "us", "asia"))
    asking, answering = udp(eu), udp(us)
    target = (world.routers["us-home"].ip, open_nat(answering, eu))
    asking.sendto(b"1", target)
    hear(answering)
    world.cut("eu", "us")
    asking.sendto(b"2", target)
    assert is_silent(answering)
    assert round_trip(us, asia, 0.02 + SLACK) < 0.02 + SLACK
    world.restore("eu", "us")
    asking.sendto(b"3", target)
    assert answering.recv(10) == b"3"
    assert [e.text for e in world.events if e.kind.startswith("region_")] == [
        "eu - us is cut",
        "eu - us is restored",
    ]


def test_detour_goes_through_the_region_that_is_left(world: Lab) -> None:
    """eu - us the long way round through asia, and back to the short one."""
    eu, us = world.hosts["eu-host"], world.hosts["us-host"]
    world.cut("eu", "us", detour=True)
    assert 0.14 <= round_trip(eu, us, 0.14 + SLACK) < 0.14 + SLACK
    assert 0.14 <= round_trip(eu, us, 0.14 + SLACK, 6) < 0.14 + SLACK
    with pytest.raises(TopologyError, match="no way from eu to us"):
        world.cut("eu", "asia", detour=True)
    assert 0.14 <= round_trip(eu, us, 0.14 + SLACK) < 0.14 + SLACK
    world.restore("eu", "us")
    assert 0.08 <= round_trip(eu, us, 0.08 + SLACK) < 0.08 + SLACK


def test_router_of_a_region_reaches_those_at_the_exchange(world: Lab) -> None:
    """Who is in no region is near to all."""
    outside = world.host("outside", uplink=world.router("centre", nat="open"))
    for name in world.regions:
        assert round_trip(world.hosts[f"{name}-host"], outside, SLACK) < SLACK


def test_renumbered_region_keeps_its_ways(world: Lab) -> None:
    """The routes of the others follow."""
    eu, us = world.hosts["eu-host"], world.hosts["us-host"]
    world.regions["us"].renumber()
    assert 0.08 <= round_trip(eu, us, 0.08 + SLACK) < 0.08 + SLACK


def test_preset_regions_have_their_latencies() -> None:
    """Known numbers with their source."""
    with Lab("preset") as lab:
        assert set(lab.region_preset("patchbay")) == {"us", "eu", "asia"}
        eu = lab.host("eu-host", uplink=lab.router("a", nat="open", region="eu"))
        us = lab.host("us-host", uplink=lab.router("b", nat="open", region="us"))
        assert 0.08 <= round_trip(eu, us, 0.08 + SLACK) < 0.08 + SLACK
    close_all()


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda lab: lab.latency("eu", "mars", 1), "no region 'mars'; there are eu, us"),
        (lambda lab: lab.latency("eu", "eu", 1), "twice"),
        (lambda lab: lab.cut("eu", "us"), "no link to cut"),
        (lambda lab: lab.router("home", region="mars"), "no region 'mars'"),
        (lambda lab: lab.router("home", region="eu", upstream=lab.regions["us"]), "upstream or a region"),
        (lambda lab: lab.region("eu"), "already"),
        (lambda lab: lab.region("lan"), "no name for a region"),
        (lambda lab: lab.region_preset("venus"), "there are patchbay"),
    ],
)
def test_impossible_region_is_a_topology_error(verb: object, message: str) -> None:
    """Before the kernel has a part in it."""
    lab = Lab("regions")
    lab.region("eu")
    lab.region("us")
    with pytest.raises(TopologyError, match=message):
        verb(lab)  # type: ignore[operator]
