"""Storms over random networks: afterwards the kernel has what the description says, and connections heal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from iroh_py import PING_INTERVAL, EndpointConfig
from netns_fixtures import Host, Lab, Router, Scenario
from netns_fixtures.plug import Plug
from netns_fixtures.strategies import storms, topologies
from pytest_iroh import Endpoints, Recorder, heals

pytestmark = pytest.mark.requires_netns
#: Seconds for one command in a node; each takes milliseconds.
PATIENCE = 30
#: The same examples in each run, and no shrinking: a lab that fails would do so hundreds of times.
LAB = settings(
    max_examples=6,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

ADDRESS, ROUTE_4, ROUTE_6 = "ip -j address", "ip -j -4 route show default", "ip -j -6 route show default"


def kernel(node: Host | Router) -> tuple[dict[str, set[str]], set[tuple[str, str, int]]]:
    """Global addresses per interface, and default routes as (interface, gateway, metric)."""
    text = node.popen(["sh", "-c", f"{ADDRESS} && {ROUTE_4} && {ROUTE_6}"]).check(PATIENCE)
    links, *families = [json.loads(line or "[]") for line in _arrays(text)]
    addresses = {
        link["ifname"]: {
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"
        }
        for link in links
    }
    routes: list[dict[str, Any]] = [route for family in families for route in family]
    return addresses, {(route["dev"], route["gateway"], route["metric"]) for route in routes}


def _arrays(text: str) -> list[str]:
    """Each command prints one JSON array, some of them over several lines."""
    found, decoder = [], json.JSONDecoder()
    text = text.strip()
    while text:
        _value, end = decoder.raw_decode(text)
        found.append(text[:end])
        text = text[end:].strip()
    return found


def described(plugs: list[Plug]) -> tuple[dict[str, set[str]], set[tuple[str, str, int]]]:
    """The same as the lab's description has it: routes of interfaces that are down are gone."""
    routes = {
        (plug.name, gateway, plug.metric)
        for plug in plugs
        if plug.up and plug.metric is not None
        for pool, gateway in ((pool, pool.gateway) for pool in plug.segment.pools)
        if plug.ip(pool.network.version)
    }
    return {plug.name: {str(address) for address in plug.addresses} for plug in plugs}, routes


def _leases(network: Scenario) -> bool:
    return any(node.options.get("dhcp") for node in network.nodes)


def check(lab: Lab) -> None:
    """Every node of a lab has the addresses and default routes of its description."""
    for host in lab.hosts.values():
        plugs = [interface.plug for interface in host.interfaces.values()]
        _compare(host, plugs)
    for router in lab.routers.values():
        _compare(router, [router.uplink.plug, router.downlink.plug])


def _compare(node: Host | Router, plugs: list[Plug]) -> None:
    addresses, routes = kernel(node)
    wanted, wanted_routes = described(plugs)
    assert {name: addresses[name] for name in wanted} == wanted, node
    assert routes == wanted_routes, node


@given(storms(max_gap=0.01))
@LAB
def test_kernel_has_what_the_description_says_after_any_storm(storm: Scenario) -> None:
    """Addresses and default routes, of every host and router, whatever happened in whatever order."""
    with storm.build() as lab:
        storm.timeline(lab).run()
        check(lab)


@given(storms(topologies(dhcp=True).filter(_leases), max_gap=0.01, settle=True))
@settings(LAB, max_examples=4)
def test_hosts_that_lease_their_addresses_have_what_their_servers_granted(storm: Scenario) -> None:
    """After a storm of links, replugs and renumberings: kernel, description and server agree, and nobody shares."""
    with storm.build() as lab:
        storm.timeline(lab).run()
        check(lab)
        for router in lab.routers.values():
            granted = {lease.mac: lease.ip for lease in router.dhcp.leases()}
            assert len(set(granted.values())) == len(granted)
            for plug in lab.topology.plugs():
                if plug.dhcp is not None and plug.segment is router.plan.lan.segment:
                    assert granted[plug.mac] == plug.ip(4)


@given(storms(max_gap=0.01, settle=True))
@settings(LAB, max_examples=3)
def test_recorded_storm_leads_to_the_same_lab(storm: Scenario) -> None:
    """What the tape says about a storm, done to another lab, gives the same addresses."""
    with storm.build() as lab:
        storm.timeline(lab).run()
        again = Scenario.parse(str(Scenario.of(lab)))
    with again.build() as twin:
        again.timeline(twin).run()
        for one, other in zip(lab.topology.plugs(), twin.topology.plugs(), strict=True):
            assert (one.owner, one.name, one.addresses) == (other.owner, other.name, other.addresses)


PEERS = Scenario.parse(
    """
    seed: 7
    routers:
      home: {nat: moderate}
      hotspot: {nat: cgnat}
      centre: {}
    hosts:
      laptop: {uplink: {wlan0: home, wwan0: hotspot}}
      server: {uplink: centre}
    """
)


@given(storms(PEERS, among=("laptop", "home", "hotspot"), max_events=6, max_gap=0.1, settle=True))
@settings(LAB, max_examples=3)
async def test_connection_heals_within_the_ping_interval_after_any_storm(storm: Scenario) -> None:
    """Whatever happens to one side and its routers: when both have a network again, data flows, and none is lost."""
    with storm.build() as lab, Recorder() as recorder:
        recorder.watch_lab(lab)
        endpoints = Endpoints(recorder, EndpointConfig())
        try:
            laptop, server = lab.hosts["laptop"], lab.hosts["server"]
            async with endpoints.connect(laptop, server) as connection:
                async with heals(connection, within=PING_INTERVAL, recorder=recorder) as healing:
                    await storm.timeline(lab).play()
            assert healing.healed
            assert healing.bytes_lost == 0
        finally:
            await endpoints.aclose()
