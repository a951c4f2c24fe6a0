"""What the monitor of a simulated host hears, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sim_host_kit import SERVER, Batch, Scene

from iroh_py.network import Family, NetworkState
from iroh_py.testing import SimNet, virtual


@virtual()
async def test_replug_looks_like_another_network() -> None:
    """Same addresses behind another router: generation and gateway MAC differ, and data flow (M2)."""
    net = SimNet()
    old, new = (net.nat(name, "moderate", lan="192.168.1.0/24") for name in ("old", "new"))
    laptop = net.host("laptop", nat=old)
    got: Batch = []
    net.host("server", SERVER[0]).open_udp(Family.V4, "0.0.0.0", SERVER[1], got.extend)
    sock = laptop.open_udp(Family.V4, laptop.ip, 6000, lambda batch: None)
    before = laptop.state
    laptop.interface().replug(new, laptop.ip)
    after = laptop.state
    assert [i.addresses for i in before.interfaces] == [i.addresses for i in after.interfaces]
    assert before.routes == after.routes
    assert dict(before.gateways).keys() == dict(after.gateways).keys()
    assert before.gateways != after.gateways
    assert before.interfaces[1].generation < after.interfaces[1].generation
    sock.send([b"hi"], SERVER)
    await asyncio.sleep(1)
    assert got[0][1][0] == new.outside_ip


@virtual()
async def test_unplugged_means_no_carrier() -> None:
    """An interface replugged to nothing, or never plugged in, has no carrier and passes nothing."""
    net = SimNet()
    host = net.host("host", interfaces={"eth0": None, "eth1": net.internet})
    assert not host.state.interfaces[1].running
    host.interface("eth1").replug(None)
    assert not host.state.interfaces[2].running
    assert host.cut_off


@virtual()
async def test_monitors_hear_of_each_change_at_once() -> None:
    """Every verb gives a new snapshot through the callback; changes of one instant come together."""
    scene = Scene()
    seen: list[NetworkState] = []
    watch = scene.laptop.watch(seen.append)
    verbs: tuple[Callable[[], None], ...] = (
        scene.wlan.down,
        scene.wlan.up,
        lambda: scene.wlan.carrier(False),
        lambda: scene.wlan.carrier(True),
        lambda: scene.wlan.renumber("192.168.1.99"),
        lambda: scene.wlan.add_address("2001:db8:1::5"),
        lambda: scene.wlan.deprecate("2001:db8:1::5"),
        lambda: scene.wlan.remove_address("2001:db8:1::5"),
        lambda: scene.laptop.set_default("wwan0"),
        lambda: scene.wlan.set_default_route(False),
        lambda: scene.wlan.replug(scene.hotspot),
    )
    for number, verb in enumerate(verbs, start=1):
        verb()
        assert len(seen) == number - 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(seen) == number
        assert watch.state == seen[-1] == scene.laptop.state
    scene.wlan.down()
    scene.wwan.down()
    await asyncio.sleep(1)
    assert len(seen) == len(verbs) + 1
    watch.close()
    scene.wlan.up()
    await asyncio.sleep(1)
    assert len(seen) == len(verbs) + 1


@virtual()
async def test_a_late_monitor_sees_changes_late_unless_it_refreshes() -> None:
    """With a watch delay a snapshot comes that much later; refresh looks at once; a flap back is no news."""
    scene = Scene()
    scene.laptop.watch_delay = 0.5
    seen: list[NetworkState] = []
    watch = scene.laptop.watch(seen.append)
    before = watch.state
    scene.wlan.down()
    await asyncio.sleep(0.4)
    assert (seen, watch.state) == ([], before)
    await asyncio.sleep(0.2)
    assert len(seen) == 1
    scene.wwan.set_metric(7)
    watch.refresh()
    await asyncio.sleep(0.1)
    assert len(seen) == 2
    scene.wwan.set_metric(8)
    scene.wwan.set_metric(7)
    await asyncio.sleep(1)
    assert len(seen) == 2
    watch.close()


@virtual()
async def test_silent_changes_are_silent() -> None:
    """Black holes, NAT rebinds and partitions reach no monitor."""
    scene = Scene()
    seen: list[NetworkState] = []
    watch = scene.laptop.watch(seen.append)
    scene.laptop.blackhole()
    assert await scene.seen_from() is None
    scene.laptop.blackhole(False)
    scene.home.rebind()
    scene.net.partition(scene.laptop, scene.server)
    await asyncio.sleep(10)
    assert seen == []
    watch.close()


@virtual()
async def test_a_frozen_host_misses_all_and_finds_out_afterwards() -> None:
    """Frozen, nothing gets in or out; after the thaw boottime is ahead and monitors catch up (M14)."""
    scene = Scene()
    seen: list[NetworkState] = []
    watch = scene.laptop.watch(seen.append)
    ahead = scene.laptop.boottime() - scene.laptop.time()
    await scene.seen_from()
    scene.laptop.freeze()
    assert await scene.seen_from() is None
    scene.answering.send([b"missed"], scene.got[0][1])
    scene.wlan.renumber("192.168.1.99")
    await asyncio.sleep(29)
    assert (seen, scene.back) == ([], [])
    scene.laptop.thaw()
    await asyncio.sleep(1)
    assert scene.laptop.boottime() - scene.laptop.time() == pytest.approx(ahead + 30)
    assert len(seen) == 1
    watch.close()
