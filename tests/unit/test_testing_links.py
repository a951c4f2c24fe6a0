"""iroh_py.testing: what links do to datagrams, reproducibly."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from iroh_py.network import Addr, Family, Receiver
from iroh_py.testing import LinkCondition, SimNet, TopologyError, TraceEvent, run_virtual, virtual

Batch = list[tuple[bytes, Addr, int]]
SERVER: Addr = ("198.51.100.1", 5000)


def test_delay_and_rate_decide_the_arrival() -> None:
    """A datagram takes both links' delay, and at a rate its size over the rate more."""

    @virtual()
    async def story() -> None:
        net, loop = SimNet(), asyncio.get_running_loop()
        times: list[float] = []
        net.host("server", SERVER[0]).open_udp(*bound(5000), lambda batch: times.append(loop.time() - start))
        client = net.host("client")
        sock = client.open_udp(*bound(0), lambda batch: None)
        net.link(client, delay=0.1, direction="up")
        start = loop.time()
        sock.send([b"x"], SERVER)
        await asyncio.sleep(1)
        net.link(client, rate=1000.0)
        start = loop.time()
        sock.send([bytes(72), bytes(72)], SERVER)
        await asyncio.sleep(1)
        # 72 bytes and 28 of headers at 1000 bytes per second: 0.1 s each, one behind the other.
        assert times == pytest.approx([0.105, 0.205, 0.305])

    story()


def test_what_arrives_at_once_is_one_batch() -> None:
    """Datagrams that arrive in one instant come in one call, in the order of sending."""

    @virtual()
    async def story() -> None:
        net, batches = SimNet(), list[Batch]()
        net.host("server", SERVER[0]).open_udp(*bound(5000), batches.append)
        client = net.host("client")
        sock = client.open_udp(*bound(6000), lambda batch: None)
        assert sock.send([b"%d" % n for n in range(50)], SERVER) == 50
        await asyncio.sleep(1)
        assert batches == [[(b"%d" % n, (client.ip, 6000), 2) for n in range(50)]]

    story()


def test_jitter_keeps_the_order_unless_asked_to_reorder() -> None:
    """A link with jitter delays but does not swap packets; with reorder it swaps some."""

    @virtual()
    async def story() -> None:
        for reorder in (False, True):
            net, got = SimNet(seed=2), list[bytes]()
            net.host("server", SERVER[0]).open_udp(*bound(5000), collect(got))
            client = net.host("client")
            net.link(client, jitter=0.05, reorder=reorder)
            sock = client.open_udp(*bound(0), lambda batch: None)
            sent = [b"%d" % number for number in range(40)]
            for data in sent:
                sock.send([data], SERVER)
                await asyncio.sleep(0.005)
            await asyncio.sleep(1)
            assert sorted(got) == sorted(sent)
            assert (got == sent) is not reorder

    story()


def collect(got: list[bytes]) -> Receiver:
    return lambda batch: got.extend(data for data, _, _ in batch)


def bound(port: int) -> tuple[Family, str, int]:
    return Family.V4, "0.0.0.0", port


def losses(seed: int) -> list[bool]:
    """Which of 2000 datagrams a link with 10 % loss lost."""

    async def story() -> list[bool]:
        net = SimNet(seed)
        net.host("server", SERVER[0]).open_udp(*bound(5000), lambda batch: None)
        client = net.host("client")
        net.link(client, loss=0.1)
        sock = client.open_udp(*bound(6000), lambda batch: None)
        for _ in range(2000):
            sock.send([b"x"], SERVER)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        return [event.fate == "lost" for event in net.trace if event.kind == "udp"]

    return run_virtual(story)


def test_loss_is_near_its_share_and_decided_by_the_seed() -> None:
    """10 % loss loses about 10 %, the same packets for the same seed and others for another."""
    one = losses(1)
    assert len(one) == 2000
    assert 160 <= sum(one) <= 240
    assert losses(1) == one
    assert losses(2) != one


def test_large_datagrams_vanish_or_fail_as_the_link_says() -> None:
    """Above the MTU a datagram is lost silently, or the sender's own link raises EMSGSIZE after what fits."""

    @virtual()
    async def story() -> None:
        net, got = SimNet(), Batch()
        net.host("server", SERVER[0]).open_udp(*bound(5000), got.extend)
        client = net.host("client")
        sock = client.open_udp(*bound(0), lambda batch: None)
        net.link(client, mtu=1300)
        assert sock.send([bytes(1272), bytes(1273)], SERVER) == 2
        await asyncio.sleep(1)
        assert [len(data) for data, _, _ in got] == [1272]
        assert net.counts["udp", "too-big"] == 1
        net.link(client, oversize="error")
        assert sock.send([bytes(1272), bytes(1273)], SERVER) == 1
        with pytest.raises(OSError, match="1273 bytes") as caught:
            sock.send([bytes(1273)], SERVER)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(OSError, match="65536 bytes"):
            sock.send([bytes(65_536)], SERVER)

    story()


def test_a_full_queue_drops_the_rest() -> None:
    """A burst beyond rate and queue is cut, and the link recovers afterwards."""

    @virtual()
    async def story() -> None:
        net, got = SimNet(), Batch()
        net.host("server", SERVER[0]).open_udp(*bound(5000), got.extend)
        client = net.host("client")
        net.link(client, rate=100_000.0, queue=0.05)
        sock = client.open_udp(*bound(0), lambda batch: None)
        sock.send([bytes(972)] * 100, SERVER)
        await asyncio.sleep(1)
        assert len(got) == 6
        assert net.counts["udp", "queue-full"] == 94
        sock.send([b"again"], SERVER)
        await asyncio.sleep(1)
        assert got[-1][0] == b"again"

    story()


def test_blocked_udp_and_partitions_end_where_they_are_lifted() -> None:
    """A firewall against UDP and a partition of two hosts let nothing through, a third host all."""

    @virtual()
    async def story() -> None:
        net, got = SimNet(), Batch()
        server = net.host("server", SERVER[0])
        server.open_udp(*bound(5000), got.extend)
        client, third = net.host("client"), net.host("third")
        socks = [host.open_udp(*bound(0), lambda batch: None) for host in (client, third)]
        net.partition(client, server)
        for sock in socks:
            sock.send([b"partition"], SERVER)
        await asyncio.sleep(1)
        net.heal(client)
        net.link(client, udp=False)
        socks[0].send([b"blocked"], SERVER)
        await asyncio.sleep(1)
        net.link(client, udp=True)
        socks[0].send([b"free"], SERVER)
        await asyncio.sleep(1)
        assert [(data, source[0]) for data, source, _ in got] == [
            (b"partition", third.ip),
            (b"free", client.ip),
        ]
        assert net.counts["udp", "partitioned"] == net.counts["udp", "udp-blocked"] == 1

    story()


def test_taps_see_and_strangers_inject() -> None:
    """A tap sees each datagram as sent, and a test can send from any source address, as a stranger could."""

    @virtual()
    async def story() -> None:
        net, got, seen = SimNet(), Batch(), list[tuple[str, Addr, Addr, bytes]]()
        net.taps.append(lambda host, src, dst, payload: seen.append((host.name, src, dst, payload)))
        net.host("server", SERVER[0]).open_udp(*bound(5000), got.extend)
        client = net.host("client")
        sock = client.open_udp(*bound(6000), lambda batch: None)
        sock.send([b"mine"], SERVER)
        await asyncio.sleep(1)
        net.inject((client.ip, 6000), SERVER, b"forged")
        await asyncio.sleep(1)
        assert seen == [("client", (client.ip, 6000), SERVER, b"mine")]
        assert [(data, source) for data, source, _ in got] == [
            (b"mine", (client.ip, 6000)),
            (b"forged", (client.ip, 6000)),
        ]

    story()


def messy_run(seed: int) -> tuple[list[TraceEvent], list[Batch]]:
    """A minute with loss, jitter, two NATs, a rebind and an uplink switch."""

    async def story() -> tuple[list[TraceEvent], list[Batch]]:
        net, batches = SimNet(seed), list[Batch]()
        home = net.nat("home", "strict")
        laptop = net.host("laptop", interfaces={"wlan0": home, "wwan0": net.nat("hotspot", "cgnat")})
        server = net.host("server", SERVER[0])
        net.link(laptop, loss=0.1, jitter=0.02, reorder=True)
        sock = laptop.open_udp(*bound(0), batches.append)

        def echo(batch: Batch) -> None:
            for data, source, _ in batch:
                answering.send([data], source)

        answering = server.open_udp(*bound(5000), echo)
        for number in range(600):
            sock.send([b"%d" % number], SERVER)
            await asyncio.sleep(0.1)
            if number == 200:
                home.rebind()
            if number == 400:
                laptop.set_default("wwan0")
        return net.trace, batches

    return run_virtual(story, seed=seed)


def test_the_same_seed_gives_the_same_trace() -> None:
    """Two runs with one seed agree in every event and every byte received; another seed gives another run."""
    trace, batches = messy_run(11)
    assert (trace, batches) == messy_run(11)
    assert len(trace) > 1000
    assert trace != messy_run(12)[0]
    assert {"delivered", "lost", "default wwan0"} <= {event.fate for event in trace}


def test_the_trace_names_each_fate() -> None:
    """A datagram to nobody is recorded with its time, addresses, size and why it went nowhere."""

    @virtual()
    async def story() -> None:
        net = SimNet()
        client = net.host("client")
        sock = client.open_udp(*bound(6000), lambda batch: None)
        now = client.time()
        sock.send([b"four"], ("198.51.100.77", 9))
        assert net.trace == [
            TraceEvent(now, "udp", "client", (client.ip, 6000), ("198.51.100.77", 9), 4, "no-host")
        ]

    story()


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"delay": -1.0}, {"mtu": 0}, {"rate": 0.0}, {"lag": 1}])
def test_impossible_conditions_are_refused(wrong: dict[str, Any]) -> None:
    """A condition that no link has, or a misspelt one, is a clear error, and the link stays as it was."""
    net = SimNet()
    host = net.host("a")
    with pytest.raises(TopologyError, match="link"):
        net.link(host, **wrong)
    assert host.interface().link.up.condition == LinkCondition()
