"""Netcheck in endpoints on the simulated network, with real relay servers and STUN."""

from __future__ import annotations

import asyncio

import pytest
from netcheck_kit import Relay, endpoint

from iroh_py import Endpoint
from iroh_py.events import AddressesChanged, Event, HomeRelayChanged, ReportMade
from iroh_py.io.netcheck import run_netcheck
from iroh_py.io.relays import Relays
from iroh_py.network import Addr
from iroh_py.testing import SimNet, virtual

#: Host, NAT and relay have links of 5 ms each.
RTT = 0.03


async def relays_in(net: SimNet, count: int = 1, delay: float = 0.005) -> list[Relay]:
    """Relays at 198.51.100.1 and following, each 10 ms farther away than the one before."""
    found = []
    for number in range(count):
        relay = await Relay(net, f"relay{number}", f"198.51.100.{number + 1}").start()
        net.link(relay.host, delay=delay + 0.005 * number)
        found.append(relay)
    return found


def services(of: Endpoint) -> Relays:
    """The relay glue of an endpoint."""
    relays = of._driver.relays
    assert relays is not None
    return relays


def times(events: list[Event], kind: type[Event]) -> list[float]:
    """When events of a kind happened."""
    return [event.time for event in events if isinstance(event, kind)]


@virtual()
async def test_public_address_is_known_after_one_round_trip() -> None:
    """The first STUN answer completes the addresses; the report goes on behind it."""
    net = SimNet()
    relays = await relays_in(net)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, _):
        started = host.time()
        addr = await one.watch_node_addr().wait_until(lambda a: len(a.direct_addresses) == 2)
        assert host.time() - started <= RTT + 0.001
        assert ("203.0.113.10", one.bound_addrs[0][1]) in addr.direct_addresses
    await relays[0].kill()


@virtual()
async def test_relay_url_appears_when_the_relay_forwards_to_us() -> None:
    """TCP, upgrade, first ping: three round trips; not a moment before, since peers would talk to nobody."""
    net = SimNet()
    relays = await relays_in(net)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, _):
        started = host.time()
        await one.online()
        assert 2.5 * RTT <= host.time() - started <= 3.2 * RTT
        assert relays[0].server.stats().nodes == 1
    await relays[0].kill()


@virtual()
async def test_nearest_of_several_relays_becomes_home_with_the_first_answer() -> None:
    """Nobody waits for the report."""
    net = SimNet()
    relays = await relays_in(net, 3)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, events):
        started = host.time()
        addr = await one.online()
        assert addr.relay_url == relays[0].url
        assert host.time() - started <= 4.2 * RTT
        await asyncio.sleep(60)
        assert len(times(events, HomeRelayChanged)) <= 1
    for relay in relays:
        await relay.kill()


@virtual()
async def test_address_always_names_a_relay_while_home_moves() -> None:
    """A peer that learns it between the choice of a new home and its answer still has a way to us."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, events):
        assert (await one.online()).relay_url == relays[0].url
        seen: list[str] = []
        watching = asyncio.create_task(_collect(one, seen))
        relays[0].stun_delay = 0.1
        await one.watch_node_addr().wait_until(lambda addr: addr.relay_url == relays[1].url)
        watching.cancel()
        assert times(events, HomeRelayChanged)
        assert "None" not in seen
    for relay in relays:
        await relay.kill()


async def _collect(one: Endpoint, seen: list[str]) -> None:
    async for addr in one.watch_node_addr():
        seen.append(str(addr.relay_url))


@virtual()
async def test_without_udp_the_home_relay_is_chosen_over_tcp() -> None:
    """Trap 11: HTTPS (here HTTP) latencies decide, and data has a way."""
    net = SimNet()
    relays = await relays_in(net, 2)
    for relay in relays:
        relay.stun_delay = None
    host = net.host("laptop", nat=net.nat("home"))
    host.icmp_allowed = False
    async with endpoint(host, *relays) as (one, events):
        addr = await one.online()
        assert addr.relay_url == relays[0].url
        await asyncio.sleep(10)
        reports = [event for event in events if isinstance(event, ReportMade)]
        assert not reports[0].udp
        assert dict(reports[0].latencies).keys() == {relays[0].url, relays[1].url}
        assert reports[0].captive_portal is False
        report = services(one).report
        assert report is not None
        assert any("ICMP" in note for note in report.notes)
    for relay in relays:
        await relay.kill()


@virtual()
async def test_nothing_answers_the_only_relay_is_home_and_connects_when_it_can() -> None:
    """A relay that starts later is used within a second of being there."""
    net = SimNet()
    relay = Relay(net, "relay", "198.51.100.1")
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, relay) as (one, _):
        await asyncio.sleep(30)
        assert one.node_addr.relay_url is None
        await relay.start()
        started = host.time()
        await one.online()
        assert host.time() - started <= 1.0 + 3 * RTT
    await relay.kill()


@virtual()
async def test_lost_stun_freezes_no_addresses() -> None:
    """Trap 5: after a move our local addresses are told within a second, and the rest when it is known."""
    net = SimNet()
    relays = await relays_in(net)
    homes = net.nat("home"), net.nat("other")
    host = net.host("laptop", nat=homes[0])
    async with endpoint(host, *relays) as (one, events):
        await one.online()
        relays[0].stun_delay = 2.0
        moved = host.time()
        host.interface().replug(homes[1])
        await asyncio.sleep(4)
        found = [(e.time - moved, e.addresses) for e in events if isinstance(e, AddressesChanged)]
        after = [(at, {ip for ip, _ in addresses}) for at, addresses in found if at >= 0]
        assert [ips for _, ips in after] == [{"192.168.2.10"}, {"192.168.2.10", "203.0.113.11"}]
        assert [at for at, _ in after] == pytest.approx([1.0, 2.0 + RTT])
    await relays[0].kill()


@virtual()
async def test_no_address_of_the_old_network_is_told_after_a_move() -> None:
    """M4: neither early nor late, however slow STUN is."""
    net = SimNet()
    relays = await relays_in(net)
    homes = net.nat("home"), net.nat("other")
    host = net.host("laptop", nat=homes[0])
    async with endpoint(host, *relays) as (one, events):
        await one.online()
        relays[0].stun_delay = 0.8
        await asyncio.sleep(21)
        moved = host.time()
        host.interface().replug(homes[1])
        await asyncio.sleep(3)
        told = {
            ip for e in events if isinstance(e, AddressesChanged) and e.time >= moved for ip, _ in e.addresses
        }
        assert told == {"192.168.2.10", "203.0.113.11"}
    await relays[0].kill()


@virtual()
async def test_changed_mapping_is_seen_by_the_next_report() -> None:
    """M6: nobody tells the host; the periodic report does, within 26 s."""
    net = SimNet()
    relays = await relays_in(net)
    home = net.nat("home")
    host = net.host("laptop", nat=home)
    async with endpoint(host, *relays) as (one, _):
        await one.online()
        home.rebind(address="203.0.113.99")

        def has_new(addresses: tuple[Addr, ...]) -> bool:
            return any(ip == "203.0.113.99" for ip, _ in addresses)

        started = host.time()
        await one.watch_node_addr().wait_until(lambda a: has_new(tuple(a.direct_addresses)))
        assert host.time() - started <= 26.5
    await relays[0].kill()


@virtual()
async def test_lost_relay_connection_makes_a_report_at_once() -> None:
    """Whatever cut TCP may have changed our address."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, _):
        await one.online()
        await asyncio.sleep(5)
        before = services(one).reports_started
        await relays[0].kill()
        await asyncio.sleep(0.1)
        assert services(one).reports_started == before + 1
    await relays[1].kill()


@virtual()
async def test_flapping_link_makes_a_bounded_number_of_reports() -> None:
    """Never 9: forty changes in ten seconds; a minute later the traffic is at its baseline."""
    net = SimNet()
    relays = await relays_in(net)
    host = net.host("laptop", nat=net.nat("home"))
    async with endpoint(host, *relays) as (one, _):
        await one.online()
        await asyncio.sleep(2)
        before, requests = services(one).reports_started, relays[0].stun_requests
        for _ in range(20):
            host.interface().down()
            await asyncio.sleep(0.25)
            host.interface().up()
            await asyncio.sleep(0.25)
        await asyncio.sleep(1.0 + RTT)
        assert services(one).reports_started - before <= 6 + 11 + 1
        assert len(one.node_addr.direct_addresses) == 2
        assert relays[0].stun_requests - requests <= 18 * 3
        await asyncio.sleep(60)
        calm, quiet = services(one).reports_started, relays[0].stun_requests
        await asyncio.sleep(120)
        assert services(one).reports_started - calm <= 7
        assert relays[0].stun_requests - quiet <= 7 * 4
        assert len(asyncio.all_tasks()) < 20
    await relays[0].kill()


@virtual()
async def test_strict_nat_does_not_change_our_address_with_every_report() -> None:
    """Whichever relay answers first: the address stays, and the guess of a forwarded port is told, too."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home", "strict"))
    async with endpoint(host, *relays) as (one, events):
        await one.online()
        await asyncio.sleep(2)
        settled = host.time()
        for _ in range(5):
            relays[0].stun_delay, relays[1].stun_delay = relays[1].stun_delay, 0.05
            await asyncio.sleep(30)
        assert [at for at in times(events, AddressesChanged) if at > settled] == []
        assert ("203.0.113.10", one.bound_addrs[0][1]) in one.node_addr.direct_addresses
        report = services(one).report
        assert report is not None
    for relay in relays:
        await relay.kill()


@virtual()
async def test_carrier_lost_stun_leaves_by_the_other_uplink() -> None:
    """The kernel goes on routing into the dead link; our address on the living one is found all the same."""
    net = SimNet()
    relays = await relays_in(net)
    host = net.host("laptop", interfaces={"wlan0": net.nat("home"), "wwan0": net.nat("other")})
    async with endpoint(host, *relays) as (one, _):
        await one.online()
        host.interface("wlan0").carrier(False)
        await asyncio.sleep(3 * RTT)
        assert {ip for ip, _ in one.node_addr.direct_addresses} == {"203.0.113.11", "192.168.2.10"}
    await relays[0].kill()


@virtual()
async def test_closed_endpoint_leaves_no_task_and_sends_nothing() -> None:
    """Never 10 and 12: closing ends everything, also in the middle of a report."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home"))
    before = len(asyncio.all_tasks())
    async with endpoint(host, *relays):
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
    requests = relays[0].stun_requests
    await asyncio.sleep(60)
    assert relays[0].stun_requests <= requests + 1  # one was under way
    for relay in relays:
        await relay.kill()


# --- the one-shot for the command line ---


@virtual()
async def test_one_shot_report_is_complete() -> None:
    """UDP, addresses, latencies, hairpin, captive portal, port mapping, home relay: all looked at."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home"))
    report = await run_netcheck(host, [relay.url for relay in relays])
    assert report.full
    assert report.udp
    assert report.ipv4_can_send
    assert report.os_has_ipv6
    assert not report.ipv6
    assert report.mapping_varies_by_dest_ip is False
    assert report.global_v4 is not None
    assert report.global_v4[0] == "203.0.113.10"
    assert report.preferred_relay == relays[0].url
    assert report.relay_latency[relays[1].url] == pytest.approx(0.04, abs=0.001)
    assert report.captive_portal is False
    assert report.hair_pinning is not None
    assert report.portmap_probe is not None
    assert report.finished - report.started <= 5
    for relay in relays:
        await relay.kill()


@virtual()
@pytest.mark.parametrize(("kind", "varies"), [("open", False), ("moderate", False), ("strict", True)])
async def test_one_shot_tells_the_kind_of_nat(kind: str, varies: bool) -> None:
    """Only different servers can tell."""
    net = SimNet()
    relays = await relays_in(net, 2)
    host = net.host("laptop", nat=net.nat("home", kind))
    report = await run_netcheck(host, [relay.url for relay in relays], portmap=False)
    assert report.mapping_varies_by_dest_ip is varies
    assert report.portmap_probe is None
    for relay in relays:
        await relay.kill()


@virtual()
@pytest.mark.parametrize("hairpin", [True, False])
async def test_one_shot_tells_whether_the_nat_hairpins(hairpin: bool) -> None:
    """A packet to our own public address comes back, or not."""
    net = SimNet()
    relays = await relays_in(net)
    host = net.host("laptop", nat=net.nat("home", "open", hairpin=hairpin))
    report = await run_netcheck(host, [relays[0].url], portmap=False)
    assert report.hair_pinning is hairpin
    await relays[0].kill()


@virtual()
async def test_one_shot_in_a_captive_portal_says_so() -> None:
    """Trap 12: somebody else answers in the relay's place."""
    net = SimNet()
    portal = net.host("portal", "198.51.100.1")

    async def log_in_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    portal.listen_tcp(3340, log_in_page)
    host = net.host("laptop", nat=net.nat("hotel"))
    host.icmp_allowed = False
    report = await run_netcheck(host, ["http://198.51.100.1:3340/"], portmap=False)
    assert report.captive_portal is True
    assert not report.udp
    assert report.https_ok == frozenset()
    assert report.preferred_relay is None


@virtual()
async def test_one_shot_without_network_ends_with_an_empty_report() -> None:
    """No link, no hang."""
    net = SimNet()
    host = net.host("lonely", interfaces={"eth0": None})
    report = await run_netcheck(host, ["http://198.51.100.1:3340/"])
    assert not report.udp
    assert report.preferred_relay is None
    assert report.finished - report.started < 1.0
