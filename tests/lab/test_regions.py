"""Regions: how long packets take between them, what a cut link does, and the way around it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from udp_kit import close_all, hear, is_silent, udp

from netns_fixtures import Host, Lab, TopologyError

#: What a busy machine may add to a round trip, seconds.
SLACK = 0.03


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


def round_trip(here: Host, there: Host, family: int = 4) -> float:
    """The fastest of three round trips, seconds; the first pays for neighbour discovery."""
    any_ip = "::" if family == 6 else ""
    asking, answering = udp(here, ip=any_ip), udp(there, ip=any_ip)
    inner = (here.ip6 or "") if family == 6 else ""
    outside = there.interfaces["eth0"].router
    assert outside is not None
    # An open NAT lets strangers in where somebody went out.
    target = there.ip6 if family == 6 else outside.ip
    assert target is not None
    port = opened(answering, here) if family == 4 else answering.getsockname()[1]
    best = 9.9
    for _ in range(3):
        began = time.perf_counter()
        asking.sendto(inner.encode() or b"?", (target, port))
        source = hear(answering)
        answering.sendto(b"!", source)
        hear(asking)
        best = min(best, time.perf_counter() - began)
    return best


def opened(answering: socket.socket, towards: Host) -> int:
    """Send one packet out, so that the NAT has a mapping (it keeps the port)."""
    router = towards.interfaces["eth0"].router
    assert router is not None
    answering.sendto(b"open", (router.ip, 9))
    port: int = answering.getsockname()[1]
    return port


@pytest.mark.parametrize("family", [4, 6])
def test_round_trip_is_twice_the_latency_of_the_pair(world: Lab, family: int) -> None:
    """Each pair has its own, whatever the others have, over both families."""
    eu, us, asia = (world.hosts[f"{name}-host"] for name in ("eu", "us", "asia"))
    assert 0.08 <= round_trip(eu, us, family) < 0.08 + SLACK
    assert 0.12 <= round_trip(eu, asia, family) < 0.12 + SLACK
    assert 0.02 <= round_trip(us, asia, family) < 0.02 + SLACK


def test_latency_changes_while_packets_flow(world: Lab) -> None:
    """Also between regions that had none: before, they met at the exchange."""
    world.region("moon")
    moon = world.host("rover", uplink=world.router("base", nat="open", region="moon"))
    eu = world.hosts["eu-host"]
    assert round_trip(eu, moon) < SLACK
    world.latency("eu", "moon", 0.1)
    assert 0.2 <= round_trip(eu, moon) < 0.2 + SLACK
    world.latency(world.regions["moon"], "eu", 0.02)
    assert 0.04 <= round_trip(eu, moon) < 0.04 + SLACK
    assert world.events[-1].text == "moon - eu is now 20 ms"


def test_cut_loses_packets_until_it_is_restored(world: Lab) -> None:
    """Silence both ways and no error, while others go on."""
    eu, us, asia = (world.hosts[f"{name}-host"] for name in ("eu", "us", "asia"))
    asking, answering = udp(eu), udp(us)
    target = (world.routers["us-home"].ip, opened(answering, eu))
    asking.sendto(b"1", target)
    hear(answering)
    world.cut("eu", "us")
    asking.sendto(b"2", target)
    assert is_silent(answering)
    assert round_trip(us, asia) < 0.02 + SLACK
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
    assert 0.14 <= round_trip(eu, us) < 0.14 + SLACK
    assert 0.14 <= round_trip(eu, us, 6) < 0.14 + SLACK
    with pytest.raises(TopologyError, match="no way from eu to us"):
        world.cut("eu", "asia", detour=True)
    assert round_trip(eu, us) < 0.14 + SLACK
    world.restore("eu", "us")
    assert round_trip(eu, us) < 0.08 + SLACK


def test_router_of_a_region_reaches_those_at_the_exchange(world: Lab) -> None:
    """Who is in no region is near to all."""
    outside = world.host("outside", uplink=world.router("centre", nat="open"))
    for name in world.regions:
        assert round_trip(world.hosts[f"{name}-host"], outside) < SLACK


def test_renumbered_region_keeps_its_ways(world: Lab) -> None:
    """The routes of the others follow."""
    eu, us = world.hosts["eu-host"], world.hosts["us-host"]
    world.regions["us"].renumber()
    assert 0.08 <= round_trip(eu, us) < 0.08 + SLACK


def test_preset_regions_have_their_latencies() -> None:
    """Known numbers with their source."""
    with Lab("preset") as lab:
        assert set(lab.region_preset("patchbay")) == {"us", "eu", "asia"}
        eu = lab.host("eu-host", uplink=lab.router("a", region="eu"))
        us = lab.host("us-host", uplink=lab.router("b", region="us"))
        asking, answering = udp(eu), udp(us)
        asking.sendto(b"?", (us.ip, answering.getsockname()[1]))
        hear(answering)
        began = time.perf_counter()
        asking.sendto(b"?", (us.ip, answering.getsockname()[1]))
        hear(answering)
        assert 0.04 <= time.perf_counter() - began < 0.04 + SLACK
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
