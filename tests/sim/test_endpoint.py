"""The endpoint's handles: connect, accept, streams, datagrams, close, and one clear error for each wrong use."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from iroh_py import (
    AlpnMismatchError,
    BindError,
    ClosedError,
    Connection,
    ConnectTimeoutError,
    Endpoint,
    EndpointConfig,
    IdentityMismatchError,
    LocalProtocolError,
    NoAddressError,
    NodeAddr,
    PeerClosedError,
    SecretKey,
    SelfConnectError,
    StreamResetError,
    StreamStoppedError,
    TicketError,
)
from iroh_py.testing import SimHost, SimNet, run_virtual

ALPN = "test/0"


class Place:
    """A client and a server endpoint in a simulated network, and both ends of a connection."""

    def __init__(self, net: SimNet, client: Endpoint, server: Endpoint) -> None:
        self.net = net
        self.client = client
        self.server = server

    async def pair(self) -> tuple[Connection, Connection]:
        near = await self.client.connect(self.server.node_addr, ALPN)
        return near, await self.server.accept()


@contextlib.asynccontextmanager
async def place(**options: object) -> AsyncIterator[Place]:
    net = SimNet(seed=1)
    rng = random.Random(1)
    config = EndpointConfig(**options)  # type: ignore[arg-type]
    async with (
        await Endpoint.bind(network=net.host("client"), config=config, rng=rng) as client,
        await Endpoint.bind(
            network=net.host("server"), alpns=[ALPN, "other/0"], config=config, rng=rng
        ) as server,
    ):
        yield Place(net, client, server)


def virtually(story: Callable[[Place], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        async with place(**options) as p:
            await story(p)

    run_virtual(run)


def test_both_sides_know_who_the_other_is() -> None:
    """A connection is named by node ids, proven by the handshake."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        assert near.node_id == p.server.node_id
        assert far.node_id == p.client.node_id
        assert (near.alpn, far.alpn) == (ALPN, ALPN)
        assert near.dialled
        assert not far.dialled

    virtually(story)


def test_a_ticket_is_all_that_is_needed_to_dial() -> None:
    """Text goes in, a connection comes out."""

    async def story(p: Place) -> None:
        connection = await p.client.connect(p.server.ticket, ALPN)
        assert connection.node_id == p.server.node_id

    virtually(story)


def test_bidirectional_stream_carries_bytes_both_ways() -> None:
    """What is written on one side is read on the other, to the end."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        send, recv = near.open_bi()
        await send.write(b"question")
        send.finish()
        far_send, far_recv = await far.accept_bi()
        assert await far_recv.read_to_end() == b"question"
        await far_send.write(b"answer")
        far_send.finish()
        assert await recv.read_to_end() == b"answer"

    virtually(story)


def test_large_transfer_is_byte_exact_and_waits_for_the_reader() -> None:
    """Backpressure: a writer cannot run ahead of a reader by more than the windows."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        data = random.Random(5).randbytes(3_000_000)
        send = near.open_uni()
        written = 0

        async def push() -> None:
            nonlocal written
            for start in range(0, len(data), 100_000):
                await send.write(data[start : start + 100_000])
                written = start + 100_000
            send.finish()

        pushing = asyncio.create_task(push())
        recv = await far.accept_uni()
        await asyncio.sleep(5.0)
        assert written < 1_000_000
        assert await recv.read_to_end() == data
        await pushing

    virtually(story, stream_window=200_000, connection_window=400_000, send_buffer=200_000)


def test_reset_and_stop_are_typed_and_carry_their_codes() -> None:
    """Whoever gives up a direction tells the other why."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        send, recv = near.open_bi()
        await send.write(b"x")
        far_send, far_recv = await far.accept_bi()
        send.reset(7)
        with pytest.raises(StreamResetError) as reset:
            await far_recv.read_to_end()
        assert reset.value.code == 7
        recv.stop(9)
        await asyncio.sleep(1.0)  # virtual: the stop needs a round trip
        with pytest.raises(StreamStoppedError) as stopped:
            await far_send.write(b"y")
        assert stopped.value.code == 9

    virtually(story)


def test_datagrams_arrive_and_too_large_ones_are_refused() -> None:
    """RFC 9221 datagrams, with the limit said before."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        near.send_datagram(b"ping")
        assert await far.read_datagram() == b"ping"
        near.send_datagram(bytes(near.max_datagram_size))
        assert len(await far.read_datagram()) == near.max_datagram_size
        with pytest.raises(LocalProtocolError, match="datagram"):
            near.send_datagram(bytes(near.max_datagram_size + 1))

    virtually(story)


def test_close_tells_the_peer_code_and_reason() -> None:
    """An application's close is no loss: it has a code and a reason."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        near.close(42, "done here")
        error = await far.wait_closed()
        assert isinstance(error, PeerClosedError)
        assert (error.code, error.reason, error.by_peer) == (42, "done here", True)
        assert isinstance(await near.wait_closed(), ClosedError)
        with pytest.raises(ClosedError):
            near.open_bi()

    virtually(story)


def test_endpoint_close_ends_connections_and_waiters() -> None:
    """Nobody hangs when an endpoint goes."""

    async def story(p: Place) -> None:
        near, far = await p.pair()
        accepting = asyncio.create_task(p.server.accept())
        reading = asyncio.create_task(far.accept_bi())
        await asyncio.sleep(0.1)
        await p.server.close()
        for task in (accepting, reading):
            with pytest.raises(ClosedError):
                await task
        assert isinstance(await near.wait_closed(), PeerClosedError)
        with pytest.raises(ClosedError):
            await p.server.connect(p.client.node_addr, ALPN)

    virtually(story)


def test_dialling_oneself_is_refused() -> None:
    """A node is never its own peer."""

    async def story(p: Place) -> None:
        with pytest.raises(SelfConnectError):
            await p.client.connect(p.client.node_addr, ALPN)

    virtually(story)


def test_dialling_without_any_address_says_what_is_missing() -> None:
    """No address, no relay, no discovery: nothing to wait for."""

    async def story(p: Place) -> None:
        with pytest.raises(NoAddressError, match="ticket"):
            await p.client.connect(SecretKey.generate().node_id, ALPN)

    virtually(story)


def test_unknown_protocol_is_named_as_the_reason() -> None:
    """The peer is there, but does not speak it."""

    async def story(p: Place) -> None:
        with pytest.raises(AlpnMismatchError):
            await p.client.connect(p.server.node_addr, "nobody/speaks/this")

    virtually(story)


def test_node_with_another_id_at_the_address_is_not_accepted() -> None:
    """A node is its key: whoever answers at its address must prove it."""

    async def story(p: Place) -> None:
        stranger = SecretKey.generate().node_id
        addr = NodeAddr(stranger, direct_addresses=p.server.node_addr.direct_addresses)
        with pytest.raises((IdentityMismatchError, ConnectTimeoutError)):
            await p.client.connect(addr, ALPN, timeout=5.0)

    virtually(story)


def test_nobody_at_the_address_times_out_and_says_what_was_tried() -> None:
    """The error names node, time and addresses."""

    async def story(p: Place) -> None:
        addr = NodeAddr(SecretKey.generate().node_id, direct_addresses=[("203.0.113.99", 9)])
        with pytest.raises(ConnectTimeoutError, match=r"203\.0\.113\.99:9"):
            await p.client.connect(addr, ALPN, timeout=2.0)

    virtually(story)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "node", "nodeaaaa", "blobabc", "z" * 64, "node" + "a" * 200]
)
def test_wrong_ticket_is_one_typed_error(text: str) -> None:
    """A text that is no ticket raises TicketError, whatever it is."""

    async def story(p: Place) -> None:
        with pytest.raises(TicketError):
            await p.client.connect(text, ALPN)

    virtually(story)


def test_accepting_without_protocols_is_refused() -> None:
    """A dial-only endpoint says that it is one."""

    async def story(p: Place) -> None:
        with pytest.raises(LocalProtocolError, match="alpns"):
            await p.client.accept()

    virtually(story)


def test_garbage_from_anyone_harms_nothing() -> None:
    """Never 2: datagrams of strangers, at any time, neither end nor move a connection."""

    async def story(p: Place) -> None:
        near, _ = await p.pair()
        rng = random.Random(3)
        target = p.server.bound_addrs[0]
        server_ip = next(a for a in p.server.node_addr.direct_addresses if ":" not in a[0])
        heads = [
            b"",
            b"TS\xf0\x9f\x92\xac",
            b"\xc0\x00\x00\x00\x01\x08",
            b"\x40",
            b"\x01\x01\x00\x00\x21\x12\xa4\x42",
        ]
        for n in range(600):
            data = rng.choice(heads) + rng.randbytes(rng.choice([0, 1, 20, 60, 200, 1200]))
            p.net.inject((f"192.0.2.{n % 200 + 1}", 1000 + n), server_ip, data)
        await asyncio.sleep(1.0)
        before = near.path
        near.send_datagram(b"still here")
        assert near.path == before
        assert len(p.server._core.magic.nodes) == 1
        assert target == p.server.bound_addrs[0]

    virtually(story)


def test_address_of_nobody_here_cannot_be_bound() -> None:
    """The error names the address."""

    async def story() -> None:
        host: SimHost = SimNet(seed=1).host("alone")
        with pytest.raises(BindError, match=r"10\.9\.9\.9"):
            await Endpoint.bind(network=host, bind=[("10.9.9.9", 0)])

    run_virtual(story)


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_interval": 0},
        {"heartbeat_interval": 30},
        {"idle_timeout": -1},
        {"max_mtu": 100},
        {"tls_auth": "none"},
    ],
    ids=lambda o: next(iter(o)),
)
def test_impossible_option_is_refused_at_once(options: dict[str, object]) -> None:
    """A promise that cannot hold is not given."""
    with pytest.raises(LocalProtocolError):
        EndpointConfig(**options)  # type: ignore[arg-type]


def test_network_must_be_one() -> None:
    """Something that opens no sockets is named as the mistake."""

    async def story() -> None:
        with pytest.raises((LocalProtocolError, TypeError), match="socket"):
            await Endpoint.bind(network="eth0")

    run_virtual(story)
