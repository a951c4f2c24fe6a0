"""iroh_py.testing.pair: real endpoints on the simulated network."""

from __future__ import annotations

import asyncio

import pytest

from iroh_py.errors import ConnectError
from iroh_py.testing import SimNet, TraceEvent, connect_pair, run_virtual, virtual


@virtual()
async def test_an_echo_takes_a_round_trip() -> None:
    """Two endpoints connect, and data come back after one round trip of the simulated path."""
    net = SimNet()
    async with connect_pair(net.host("laptop"), net.host("server")) as pair:
        await pair.echo()
        assert await pair.echo(b"again" * 100) == pytest.approx(0.02, abs=0.001)
        assert pair.connection.node_id == pair.listener.node_id
        assert pair.accepted.node_id == pair.dialler.node_id


@virtual()
async def test_an_uplink_switch_heals_in_virtual_time() -> None:
    """The documented story: behind one NAT, then behind another, and the echo goes on."""
    net = SimNet(seed=7)
    laptop = net.host("laptop", interfaces={"wlan0": net.nat("home"), "wwan0": net.nat("hotspot", "strict")})
    async with connect_pair(laptop, net.host("server")) as pair:
        for number in range(20):
            if number == 10:
                laptop.set_default("wwan0")
            assert await pair.echo(b"%d" % number) < 1
            await asyncio.sleep(0.1)


@virtual()
async def test_keys_come_from_the_seed() -> None:
    """Two networks with one seed have the same node ids, so logs of two runs can be compared."""
    ids = []
    for _ in range(2):
        net = SimNet(seed=3)
        async with connect_pair(net.host("a"), net.host("b")) as pair:
            ids.append((pair.dialler.node_id, pair.listener.node_id))
    assert ids[0] == ids[1]


@virtual()
async def test_an_unreachable_listener_is_an_error_and_leaves_nothing() -> None:
    """A pair that cannot connect raises, closes both endpoints, and leaves no task behind."""
    net = SimNet()
    net.link(dialler := net.host("a"), udp=False)
    with pytest.raises(ConnectError):
        async with connect_pair(dialler, net.host("b")):
            pass
    await asyncio.sleep(60)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def lossy_run(seed: int) -> list[TraceEvent]:
    """Two endpoints over a bad link with an uplink switch: every packet of it."""

    async def story() -> list[TraceEvent]:
        net = SimNet(seed)
        laptop = net.host("laptop", interfaces={"wlan0": net.nat("home"), "wwan0": net.nat("hotspot")})
        net.link(laptop, loss=0.05, jitter=0.01)
        async with connect_pair(laptop, net.host("server")) as pair:
            for number in range(60):
                if number == 30:
                    laptop.set_default("wwan0")
                await pair.echo()
                await asyncio.sleep(0.02)
        return net.trace

    return run_virtual(story, seed=seed)


def test_one_seed_gives_one_run_of_real_endpoints() -> None:
    """With whole endpoints on it, a lossy network still does the same twice, packet by packet."""
    trace = lossy_run(4)
    assert "lost" in {event.fate for event in trace}
    assert trace == lossy_run(4)
    assert trace != lossy_run(5)
