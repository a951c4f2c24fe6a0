"""The moves of SCENARIOS 2 with a relay, both sides behind NATs, on a real kernel network and in both roles.

M1 is tests/lab/test_parity_switch.py, M16 and M17 tests/lab/test_moves.py, M18 ``add_faster_link`` in
tests/lab/test_parity_links.py, M14 tests/lab/test_freeze.py, M19 tests/lab/test_ipv6_slaac.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from parity_kit import BOTH_ROLES, HOLEPUNCH, STEP, Pair, meet, moderate_pair, nat_pair, scaled, start_relay

from iroh_py import PING_INTERVAL
from iroh_py.events import CallMeMaybeSent, RelayStateChanged, ReportMade, SocketRebound
from netns_fixtures import Host, Lab, NatConfig, Router
from pytest_iroh import Endpoints, echo
from pytest_iroh.relays import Relays

#: What a change that is seen may cost at most, in seconds: the ceiling of DESIGN 2.
SEEN = 1.0
#: Without a sign of the change: the silence has to be noticed first, in seconds.
UNSEEN = 1.5

Heals = Callable[..., Any]


async def punched(endpoints: Endpoints, hosts: dict[str, Host], lab: Lab, relay: Relays) -> Pair:
    """A pair that met through a relay and went direct."""
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    await pair.go_direct(STEP)
    return pair


@BOTH_ROLES
async def test_m2_same_addresses_in_another_network(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """The next network hands out the same address and has the same gateway address: all that was known is void."""
    hosts = moderate_pair(lab)
    other = lab.router("other", nat="moderate", ipv6=False)
    pair = await punched(endpoints, hosts, lab, relay)
    host = hosts[side]
    before, gateway = host.ip, home(host).lan
    other.renumber(gateway)
    async with heals(pair.connection, within=SEEN):
        host.replug(other)
    assert (host.ip, other.lan) == (before, gateway), "the situation is not the one that is tested"
    await pair.go_direct(HOLEPUNCH)


@BOTH_ROLES
@pytest.mark.parametrize("late", [0.1, 0.5, 2.0])
async def test_m3_default_route_comes_after_the_address(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str, late: float
) -> None:
    """The interface is there before the way out is; counted from the route."""
    hosts = moderate_pair(lab)
    other = lab.router("other", nat="moderate", ipv6=False)
    pair = await punched(endpoints, hosts, lab, relay)
    host = hosts[side]
    async with heals(pair.connection, within=SEEN):
        host.replug(other)
        host.drop_default_route()
        await asyncio.sleep(late)  # the situation: a slow DHCP
        host.set_default_route(host.link)
    await pair.go_direct(HOLEPUNCH)


@BOTH_ROLES
async def test_m4_call_me_maybe_never_names_an_address_of_the_network_that_was_left(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """The relay, and so STUN, is 400 ms away one way: what is told waits for the answer."""
    hosts = moderate_pair(lab)
    other = lab.router("other", nat="moderate", ipv6=False)
    far = start_relay(lab, relay)
    pair = await meet(endpoints, hosts["client"], hosts["server"], far)
    await pair.go_direct(STEP)
    host, endpoint = hosts[side], pair.side(side).endpoint
    left = {host.ip, home(host).ip}
    lab.hosts["relay"].link.condition(delay=0.4)
    told: list[CallMeMaybeSent] = []
    async with heals(pair.connection, within=8.0):
        endpoint.on_event(lambda e: told.append(e) if isinstance(e, CallMeMaybeSent) else None)
        host.replug(other)
    await pair.go_direct(STEP * 2)
    assert told
    assert all(ip not in left for event in told for ip, _ in event.addresses)
    assert any(ip == other.ip for event in told for ip, _ in event.addresses)


@BOTH_ROLES
@pytest.mark.parametrize("address", [False, True], ids=["new-port", "new-address"])
async def test_m5_m6_nat_rebinds_silently_while_data_flows(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str, address: bool
) -> None:
    """UDP comes from elsewhere, and the relay's TCP is cut: the relay carries data first, then a new hole."""
    hosts = moderate_pair(lab)
    pair = await punched(endpoints, hosts, lab, relay)
    async with heals(pair.connection, within=UNSEEN) as healing:
        home(hosts[side]).nat.rebind(address=address)
    assert healing.bytes_lost == 0
    await pair.go_direct(STEP)


@BOTH_ROLES
async def test_m5_ten_megabytes_each_way_across_a_silent_rebind(
    lab: Lab, relay: Relays, endpoints: Endpoints, side: str
) -> None:
    """Every byte arrives once, in order and unaltered."""
    hosts = moderate_pair(lab)
    pair = await punched(endpoints, hosts, lab, relay)
    data = bytes(range(256)) * 40_000
    transfer = asyncio.create_task(echo(pair.connection, data, timeout=60.0))
    await asyncio.sleep(0.2)  # some bytes are under way
    home(hosts[side]).nat.rebind()
    assert await transfer == data


@BOTH_ROLES
async def test_m7_udp_is_cut_and_comes_back(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """Down to the relay while a firewall takes UDP, and direct again afterwards."""
    hosts = moderate_pair(lab)
    pair = await punched(endpoints, hosts, lab, relay)
    router = home(hosts[side])
    async with heals(pair.connection, within=UNSEEN) as healing:
        router.firewall.set("udp-blocked")
    assert healing.bytes_lost == 0
    assert not healing.direct
    router.firewall.clear()
    await pair.go_direct(PING_INTERVAL + HOLEPUNCH)


async def test_m8_both_direct_ways_die_after_the_second_was_trusted(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals
) -> None:
    """A phone on two networks: first one way is cut, then the other. No path is trusted for its past."""
    routers = {name: lab.router(name, nat="moderate", ipv6=False) for name in ("wifi", "mobile")}
    phone = lab.host("phone", uplink={"wlan0": routers["wifi"], "wwan0": routers["mobile"]})
    desk = lab.host("desk", uplink=lab.router("centre", ipv6=False))
    pair = await meet(endpoints, phone, desk, start_relay(lab, relay))
    await pair.go_direct(STEP)
    async with heals(pair.connection, within=UNSEEN):
        routers["wifi"].firewall.set("udp-blocked")
    await pair.go_direct(STEP)
    async with heals(pair.connection, within=UNSEEN) as healing:
        routers["mobile"].firewall.set("udp-blocked")
    assert not healing.direct


@BOTH_ROLES
async def test_m9_relay_connection_is_half_open(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """Its packets vanish for four seconds and nobody says so; TCP's own back-off is not what we wait for."""
    hosts = nat_pair(lab, "strict", "strict")
    running = start_relay(lab, relay)
    pair = await meet(endpoints, hosts["client"], hosts["server"], running, port_prediction=False)
    router = home(hosts[side])
    async with heals(pair.connection, within=UNSEEN) as healing:
        router.firewall.block(destination=lab.hosts["relay"])
        await asyncio.sleep(4.0)  # the outage is the situation, not a wait
        router.firewall.unblock()
    assert healing.bytes_lost == 0


@BOTH_ROLES
async def test_m13_carrier_drops_each_mapping_soon_after_its_creation(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """50 s in the wild, two here: the path dies although it is in use, again and again, and heals each time."""
    config = NatConfig(mapping="eim", filtering="apdf", lifetime=2.0)
    nats = {role: config if role == side else "moderate" for role in ("client", "server")}
    hosts = {
        role: lab.host(role, uplink=lab.router(f"{role}-nat", nat=nat, ipv6=False))
        for role, nat in nats.items()
    }
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    async with heals(pair.connection, within=UNSEEN) as healing:
        await asyncio.sleep(7.0)  # three lifetimes
    assert healing.bytes_lost == 0
    assert healing.gap is not None
    assert healing.gap < scaled(UNSEEN)


@BOTH_ROLES
@pytest.mark.parametrize("kind", ["moderate", "strict"])
@pytest.mark.parametrize("seconds", [1.0, 5.0])
async def test_m10_outage_ends(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str, kind: str, seconds: float
) -> None:
    """From link-up, whatever the back-offs have become meanwhile; direct or, if both are strict, by the relay."""
    hosts = nat_pair(lab, kind, kind)
    pair = await meet(endpoints, hosts["client"], hosts["server"], start_relay(lab, relay))
    if kind == "moderate":
        await pair.go_direct(STEP)
    async with heals(pair.connection, within=UNSEEN):
        hosts[side].link.down()
        await asyncio.sleep(seconds)  # the outage is the situation, not a wait
        hosts[side].link.up()
    if kind == "moderate":
        await pair.go_direct(HOLEPUNCH)


async def test_m12_twenty_seconds_without_a_network_in_the_middle_of_a_transfer(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """QUIC's back-off does not outlive the outage, and no byte is lost."""
    hosts = moderate_pair(lab)
    pair = await punched(endpoints, hosts, lab, relay)
    data = bytes(range(256)) * 200_000
    transfer = asyncio.create_task(echo(pair.connection, data, timeout=90.0))
    await asyncio.sleep(0.3)  # some bytes are under way
    assert not transfer.done()
    hosts["client"].link.down()
    await asyncio.sleep(20.0)  # the outage is the situation, not a wait
    assert not transfer.done()
    hosts["client"].link.up()
    await pair.ping(STEP)
    assert await transfer == data


@pytest.mark.parametrize("how", ["killed", "black hole"])
async def test_m11_home_relay_dies_and_another_one_lives(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, how: str
) -> None:
    """Both strict, so all data is relayed: it goes on through the second relay."""
    hosts = nat_pair(lab, "strict", "strict")
    relays = (start_relay(lab, relay), start_relay(lab, relay, "relay2"))
    pair = await meet(endpoints, hosts["client"], hosts["server"], *relays, port_prediction=False)
    way = pair.connection.path.text  # by the home of the server, or by the one that was it at first
    dying = next(one for one in relays if str(one.url) in way)
    async with heals(pair.connection, within=12.0) as healing:
        if how == "killed":
            dying.kill()
        else:
            lab.hosts["relay" if dying is relays[0] else "relay2"].link.condition(loss=1.0)
    assert healing.bytes_lost == 0


async def test_m15_both_sides_move_within_100_ms(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals
) -> None:
    """Neither knows where the other one is; the relay does."""
    hosts = moderate_pair(lab)
    others = [lab.router(f"other-{n}", nat="moderate", ipv6=False) for n in range(2)]
    pair = await punched(endpoints, hosts, lab, relay)
    async with heals(pair.connection, within=SEEN):
        hosts["client"].replug(others[0])
        await asyncio.sleep(0.05)
        hosts["server"].replug(others[1])
    await pair.go_direct(STEP)


@BOTH_ROLES
async def test_m20_twenty_flaps_make_no_storm(
    lab: Lab, relay: Relays, endpoints: Endpoints, heals: Heals, side: str
) -> None:
    """Data flows afterwards, and what the flaps cost is bounded per flap (Never 9)."""
    hosts = moderate_pair(lab)
    pair = await punched(endpoints, hosts, lab, relay)
    events: list[Any] = []
    pair.side(side).endpoint.on_event(events.append)
    flaps = 20
    async with heals(pair.connection, within=SEEN):
        for _ in range(flaps):
            hosts[side].link.down()
            await asyncio.sleep(0.05)  # the rhythm of the flaps
            hosts[side].link.up()
            await asyncio.sleep(0.05)
    await pair.go_direct(STEP)
    for kind, each in ((ReportMade, 1), (RelayStateChanged, 4), (SocketRebound, 2), (CallMeMaybeSent, 6)):
        assert sum(isinstance(e, kind) for e in events) <= each * flaps, kind.__name__


def home(host: Host) -> Router:
    """The router that a host is plugged into."""
    router = host.link.router
    assert router is not None
    return router
