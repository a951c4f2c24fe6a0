"""A bulk transfer leaves room for everything else that shares its endpoint."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from iroh_py import Connection, Endpoint, SecretKey
from iroh_py.network import Addr
from iroh_py.testing import SimNet, run_virtual

ALPN = "test/fair"
SIZE = 4_000_000
#: One segmented send at most.
BATCH = 65535 - 48


async def receive(connection: Connection) -> int:
    """Read one stream to its end; how many bytes it had."""
    stream = await connection.accept_uni()
    size = 0
    while part := await stream.read():
        size += len(part)
    return size


async def transmit(connection: Connection) -> None:
    """Send one long stream."""
    stream = connection.open_uni()
    await stream.write(bytes(SIZE))
    stream.finish()


def test_two_transfers_share_in_bounded_batches() -> None:
    """Of two connections with much to send, neither gets less than a quarter, nor more than a batch at once."""

    async def story() -> None:
        net = SimNet(seed=1)
        rng = random.Random(1)
        async with (
            await Endpoint.bind(network=net.host("client"), rng=rng) as client,
            await Endpoint.bind(network=net.host("server"), alpns=[ALPN], rng=rng) as server,
        ):
            pairs = []
            for _ in range(2):
                near = await client.connect(server.node_addr, ALPN)
                pairs.append((near, await server.accept()))
            sent = spy(client)
            readers = [asyncio.ensure_future(receive(far)) for _, far in pairs]
            await asyncio.gather(*(transmit(near) for near, _ in pairs))
            assert [await reader for reader in readers] == [SIZE, SIZE]
            assert max(size for _, size in sent) <= BATCH
            full = [cid for cid, size in sent if size > BATCH // 2]
            first_half = Counter(full[: len(full) // 2])
            assert len(first_half) == 2
            assert min(first_half.values()) > len(full) // 8, first_half

    run_virtual(story)


def spy(endpoint: Endpoint) -> list[tuple[bytes, int]]:
    """Watch what an endpoint sends: the destination connection id and the bytes of each batch."""
    sent: list[tuple[bytes, int]] = []
    sockets = endpoint._driver.sockets
    send = sockets.send

    def watched(payloads: Sequence[bytes], addr: Addr, via: int, ecn: int = 0) -> None:
        sent.append((payloads[0][1:9], sum(map(len, payloads))))
        send(payloads, addr, via, ecn)

    sockets.send = watched  # type: ignore[method-assign]
    return sent


async def test_echo_is_quick_beside_a_transfer() -> None:
    """On real sockets, with both ends in this one process, the median echo beside a transfer takes below 50 ms."""
    loop = asyncio.get_running_loop()
    here: list[Addr] = [("127.0.0.1", 0)]
    async with (
        await Endpoint.bind(secret_key=SecretKey(bytes(31) + b"\x01"), bind=here) as client,
        await Endpoint.bind(secret_key=SecretKey(bytes(31) + b"\x02"), alpns=[ALPN], bind=here) as server,
    ):
        bulk, far_bulk = await client.connect(server.node_addr, ALPN), await server.accept()
        chat, far_chat = await client.connect(server.node_addr, ALPN), await server.accept()
        reader = asyncio.ensure_future(receive(far_bulk))
        writer = asyncio.ensure_future(transmit_until_cancelled(bulk))
        answering = asyncio.ensure_future(echo(far_chat))
        send, recv = chat.open_bi()
        times = []
        for _ in range(41):
            began = loop.time()
            await send.write(b"ping")
            assert await asyncio.wait_for(recv.read_exact(4), 5) == b"ping"
            times.append(loop.time() - began)
        assert not writer.done()
        assert not reader.done()
        for task in (writer, reader, answering):
            task.cancel()
        await asyncio.gather(writer, reader, answering, return_exceptions=True)
        assert sorted(times)[len(times) // 2] < 0.05


async def transmit_until_cancelled(connection: Connection) -> None:
    """Send for ever."""
    stream = connection.open_uni()
    while True:
        await stream.write(bytes(1 << 20))


async def echo(connection: Connection) -> None:
    """Send back what comes."""
    send, recv = await connection.accept_bi()
    while part := await recv.read():
        await send.write(part)
