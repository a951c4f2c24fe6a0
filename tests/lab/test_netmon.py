"""io/netmon.py against a real kernel: what changes in a namespace reaches the callback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError
from rawns import RawNamespace, cable, namespaces, needs_root

from iroh_py.io import netmon
from iroh_py.io.netmon import NetworkMonitor
from iroh_py.network import Family, NetworkState
from iroh_py.proto.netstate import (
    NetworkChange,
    diff,
    kernel_choice,
    kernel_route_usable,
    local_addresses,
    vias,
)

pytestmark = needs_root
PUBLIC = "203.0.113.1"


class Watched:
    """A monitor, what it reported, and waiting for a report."""

    def __init__(self, namespace: RawNamespace) -> None:
        self.states: list[NetworkState] = []
        self.changes: list[NetworkChange] = []
        self._news = asyncio.Event()
        self.monitor = NetworkMonitor(namespace.socket, self._note)
        self._last = self.monitor.state

    def _note(self, state: NetworkState) -> None:
        self.states.append(state)
        self.changes.append(diff(self._last, state))
        self._last = state
        self._news.set()

    @property
    def state(self) -> NetworkState:
        return self.monitor.state

    @property
    def reasons(self) -> list[str]:
        return [reason for change in self.changes for reason in change.reasons]

    async def until(self, condition: Callable[[], bool], within: float = 5.0) -> None:
        """Wait for a report after which the condition holds."""
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def host() -> Iterator[tuple[RawNamespace, RawNamespace]]:
    """A host with wlan0 and wwan0, both to one other namespace (x0, x1), wlan0 preferred."""
    with namespaces("host", "world") as (here, there):
        # Unlike interface indexes at the two ends, or the kernel takes its time with carrier events.
        there.call("link", "add", ifname="pad0", kind="veth", peer={"ifname": "pad1"})
        for number, name in enumerate(("wlan0", "wwan0")):
            cable(here, name, there, f"x{number}")
            here.addr("add", name, f"10.0.{number}.2/24")
            there.addr("add", f"x{number}", f"10.0.{number}.1/24")
            here.route("add", "default", name, gateway=f"10.0.{number}.1", priority=10 + number)
        yield here, there


Host = tuple[RawNamespace, RawNamespace]


@pytest.fixture
async def watched(host: Host) -> AsyncIterator[Watched]:
    """A monitor of the host."""
    watched = Watched(host[0])
    yield watched
    watched.monitor.close()


async def test_first_snapshot_tells_links_addresses_and_routes(host: Host, watched: Watched) -> None:
    """The state is there as soon as the monitor is, of the namespace that the sockets belong to."""
    here, _ = host
    state = watched.monitor.state
    wlan = state.interface(here.index("wlan0"))
    assert wlan is not None
    assert (wlan.name, wlan.up, wlan.running, wlan.loopback) == ("wlan0", True, True, False)
    assert [i.name for i in state.interfaces if i.loopback] == ["lo"]
    assert {r.gateway for r in state.routes if r.is_default and r.family == Family.V4} == {
        "10.0.0.1",
        "10.0.1.1",
    }
    assert local_addresses(state) == ("10.0.0.2", "10.0.1.2")
    assert kernel_choice(state, PUBLIC) == wlan.index


async def test_renumbering_is_reported(host: Host, watched: Watched) -> None:
    """A pure address change is seen (trap 9), and so are the routes that vanish with it without a message."""
    here, _ = host
    here.addr("delete", "wlan0", "10.0.0.2/24")
    here.addr("add", "wlan0", "10.0.0.77/24")
    await watched.until(lambda: "wlan0 10.0.0.77 new" in watched.reasons)
    assert "wlan0 10.0.0.2 gone" in watched.reasons
    await watched.until(lambda: kernel_choice(watched.state, PUBLIC) == here.index("wwan0"))
    assert all(change.major for change in watched.changes if change.gone or change.new)


async def test_added_address_is_seen_before_the_loop_turns_twice(host: Host, watched: Watched) -> None:
    """The report is made in the very turn of the event loop that finds the message: no debounce."""
    here, _ = host
    here.addr("add", "wlan0", "10.0.0.3/24")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert watched.reasons == ["wlan0 10.0.0.3 new"]


@pytest.mark.parametrize("address", ["2001:db8::7/64", "fd00::7/64"])
async def test_ipv6_address_and_route_are_reported(host: Host, watched: Watched, address: str) -> None:
    """IPv6 changes are as visible as IPv4 ones."""
    here, _ = host
    ip = address.partition("/")[0]
    here.addr("add", "wlan0", address)
    await watched.until(lambda: f"wlan0 {ip} new" in watched.reasons)
    gateway = ip[:-1] + "1"
    here.route("add", "default", "wlan0", gateway=gateway, family=Family.V6)
    await watched.until(lambda: f"default route via {gateway} dev wlan0" in watched.reasons)
    here.addr("delete", "wlan0", address)
    await watched.until(lambda: f"wlan0 {ip} gone" in watched.reasons)


async def test_rule_change_is_reported(host: Host, watched: Watched) -> None:
    """Policy routing is part of the picture."""
    here, _ = host
    here.call("rule", "add", table=100, src="10.9.0.0", src_len=16, priority=77)
    await watched.until(lambda: "policy routing rules changed" in watched.reasons)


async def test_lost_carrier_is_reported_although_address_and_route_stay(host: Host, watched: Watched) -> None:
    """The other end goes down: the kernel keeps address and default route, the state knows better."""
    here, there = host
    there.link("x0", state="down")
    await watched.until(lambda: "wlan0 lost its carrier" in watched.reasons)
    state = watched.state
    wlan = state.interface(here.index("wlan0"))
    assert wlan is not None
    assert [a.ip for a in wlan.addresses if ":" not in a.ip] == ["10.0.0.2"]
    assert kernel_choice(state, PUBLIC) == wlan.index
    assert not kernel_route_usable(state, PUBLIC)
    assert vias(state, PUBLIC) == (here.index("wwan0"),)
    assert local_addresses(state) == ("10.0.1.2",)


async def test_flaps_within_one_turn_raise_the_generation(host: Host, watched: Watched) -> None:
    """A link that was down and up again before anybody looked may lead elsewhere now (M2)."""
    here, there = host
    index = here.index("wlan0")
    before = watched.monitor.state.interface(index)
    there.link("x0", state="down")
    there.link("x0", state="up")
    await watched.until(lambda: diff_of_generation(watched, index, before) > 0)


def diff_of_generation(watched: Watched, index: int, before: Any) -> int:
    """How far the generation is above that of an earlier interface, once the link is usable again."""
    now = watched.state.interface(index)
    return now.generation - before.generation if now is not None and now.usable else 0


async def test_link_down_and_up_is_reported(host: Host, watched: Watched) -> None:
    """Administrative down takes the default route along; both are told, and the return too."""
    here, _ = host
    here.link("wlan0", state="down")
    await watched.until(lambda: "default route via 10.0.0.1 dev wlan0 gone" in watched.reasons)
    assert "wlan0 is down" in watched.reasons
    here.link("wlan0", state="up")
    await watched.until(lambda: "wlan0 is up" in watched.reasons)


async def test_another_mac_behind_the_gateway_address_is_reported(host: Host, watched: Watched) -> None:
    """Same addresses, another router behind the gateway (M2); other neighbours do not count."""
    here, _ = host
    wlan = here.index("wlan0")
    here.call("neigh", "replace", ifindex=wlan, dst="10.0.0.1", lladdr="02:00:00:00:00:01", state=0x02)
    await watched.until(lambda: ("10.0.0.1", "02:00:00:00:00:01") in watched.state.gateways)
    assert not watched.reasons
    here.call("neigh", "replace", ifindex=wlan, dst="10.0.0.50", lladdr="02:00:00:00:00:50", state=0x02)
    here.call("neigh", "replace", ifindex=wlan, dst="10.0.0.1", lladdr="02:00:00:00:00:99", state=0x02)
    await watched.until(lambda: "gateway 10.0.0.1 has another MAC" in watched.reasons)
    assert "10.0.0.50" not in dict(watched.state.gateways)


async def test_multipath_and_table_routes_are_read(host: Host) -> None:
    """Each next hop is a route, other tables are named, the local table is left out."""
    here, _ = host
    hops = [{"gateway": "10.0.0.1", "hops": 0}, {"gateway": "10.0.1.1", "hops": 0}]
    here.call("route", "add", dst="198.51.100.0/24", multipath=hops)
    here.route("add", "default", "wwan0", gateway="10.0.1.1", table=1000)
    watched = Watched(here)
    routes = watched.monitor.state.routes
    multipath = {(r.interface, r.gateway) for r in routes if r.destination == "198.51.100.0/24"}
    assert multipath == {(here.index("wlan0"), "10.0.0.1"), (here.index("wwan0"), "10.0.1.1")}
    assert [r.gateway for r in routes if r.table == 1000] == ["10.0.1.1"]
    assert {r.table for r in routes} == {254, 1000}
    watched.monitor.close()


async def test_storm_is_bounded_and_the_last_state_arrives(host: Host, watched: Watched) -> None:
    """Hundreds of changes make few reports; the first comes at once, the final state always."""
    here, _ = host
    for number in range(300):
        here.addr("add", "wlan0", f"10.1.{number // 200}.{number % 200 + 1}/32")
        await asyncio.sleep(0)
    expected = 300 + 2
    await watched.until(lambda: len(watched.state.interfaces[1].addresses) >= expected, within=10)
    assert "10.1.0.1" in watched.changes[0].new
    assert len(watched.changes[0].new) < 10
    assert watched.monitor.callbacks <= netmon.CALLBACK_BURST + 25


async def test_lost_events_lead_to_a_fresh_look(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel says that events were lost (ENOBUFS), the monitor reads everything anew."""
    here, _ = host
    # The smallest receive buffer that the kernel gives: it overruns within this test.
    monkeypatch.setattr(netmon, "EVENT_BUFFER", 1)
    watched = Watched(here)
    for number in range(200):
        here.addr("add", "wlan0", f"10.1.1.{number + 1}/32")
    await watched.until(lambda: "wlan0 10.1.1.200 new" in watched.reasons)
    assert watched.monitor.overruns > 0
    watched.monitor.close()


async def test_broken_socket_is_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netlink socket that fails is opened again; nothing that changed meanwhile is missed."""
    here, _ = host
    monkeypatch.setattr(netmon, "REOPEN_DELAY", 0.01)
    opened: list[socket.socket] = []

    def opener(family: int, kind: int, proto: int) -> socket.socket:
        opened.append(here.socket(family, kind, proto))
        return opened[-1]

    news: asyncio.Queue[NetworkState] = asyncio.Queue()
    monitor = NetworkMonitor(opener, news.put_nowait)
    queries = opened[1]
    queries.close()
    here.addr("add", "wlan0", "10.0.0.3/24")
    async with asyncio.timeout(5):
        state = await news.get()
    assert "10.0.0.3" in local_addresses(state)
    assert monitor.failures == 1
    assert len(opened) == 4
    monitor.close()


async def test_refresh_reports_before_it_returns(host: Host, watched: Watched) -> None:
    """A caller who suspects a change learns of it synchronously."""
    here, _ = host
    here.addr("add", "wlan0", "10.0.0.3/24")
    watched.monitor.refresh()
    assert watched.reasons == ["wlan0 10.0.0.3 new"]
    watched.monitor.refresh()
    assert len(watched.states) == 1


async def test_closed_monitor_is_silent(host: Host, watched: Watched) -> None:
    """After close nothing is reported, not even on request, and closing again is fine."""
    here, _ = host
    watched.monitor.close()
    watched.monitor.close()
    here.addr("add", "wlan0", "10.0.0.3/24")
    watched.monitor.refresh()
    await asyncio.sleep(0)
    assert not watched.states


async def test_interface_that_vanishes_is_reported(host: Host, watched: Watched) -> None:
    """A pulled adapter: link, address and route go."""
    here, _ = host
    index = here.index("wlan0")
    here.call("link", "del", index=index)
    await watched.until(lambda: "wlan0 is gone" in watched.reasons)
    assert watched.state.interface(index) is None
    with pytest.raises(NetlinkError):
        here.call("link", "set", index=index, state="up")


async def test_lost_carrier_is_seen_before_the_kernel_announces_it(host: Host) -> None:
    """The kernel may announce a lost carrier a second late; its flags are looked at meanwhile."""
    here, there = host
    # The first socket is for events: of the other namespace, so that none of the host's ever arrives.
    deaf = iter([there.socket])
    news = asyncio.Event()
    monitor = NetworkMonitor(lambda *kind: next(deaf, here.socket)(*kind), lambda state: news.set())
    there.link("x0", state="down")
    async with asyncio.timeout(5):
        while kernel_route_usable(monitor.state, PUBLIC):
            news.clear()
            await news.wait()
    assert vias(monitor.state, PUBLIC) == (here.index("wwan0"),)
    monitor.close()
