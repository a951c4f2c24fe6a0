"""What strangers may cost a relay: access, rate, queues, connections."""

from __future__ import annotations

import asyncio
import errno
import socket
import time

import pytest
from relay_kit import V3Client, WsClient, drop_clients, eventually, key, relay

from iroh_py.errors import BindError
from iroh_py.keys import NodeId
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    Health,
    Ping,
    Pong,
    RecvPacket,
    SendDatagrams,
    SendPacket,
    ServerChallenge,
    ServerDeniesAuth,
)
from iroh_py.proto.relay.handshake import client_auth, client_info
from iroh_py.relay import RelayConfig, RelayServer

_A, _B, _C = key(1), key(2), key(3)
_ID_A, _ID_B, _ID_C = (secret.node_id.raw for secret in (_A, _B, _C))


def _upgrade(token: str) -> bytes:
    return (
        f"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    ).encode()


async def test_token_is_required_of_generation_3() -> None:
    """Without the token a client hears that it is not authenticated; with it, it is in."""
    async with relay(token="s3cret") as server:
        stranger = await V3Client.connect(server, request=_upgrade("wrong"))
        stranger.send(client_info(_A))
        assert await stranger.receive() == Health("not authenticated")
        assert await stranger.ended() == b""
        friend = await V3Client.connect(server, _A, request=_upgrade("s3cret"))
        friend.close()


async def test_token_is_required_of_1x() -> None:
    """Header and query are both accepted; a refusal is a frame."""
    async with relay(token="s3cret") as server:
        await WsClient.login(server, _A, token="s3cret")
        for target, allowed in (("/relay?token=s3cret", True), ("/relay?token=no", False), ("/relay", False)):
            client = await WsClient.connect(server, *v1.SUBPROTOCOLS, target=target)
            challenge = await client.receive()
            assert isinstance(challenge, ServerChallenge)
            client.send(client_auth(_B, challenge.challenge))
            denied = await client.receive() == ServerDeniesAuth("not authorized")
            assert denied is not allowed


async def test_access_policy_decides_by_node_id() -> None:
    """A policy sees the proven node id and the token."""
    seen: list[tuple[NodeId, str | None]] = []

    def only_a(node_id: NodeId, token: str | None) -> bool:
        seen.append((node_id, token))
        return node_id == _A.node_id

    async with relay(access=only_a) as server:
        await V3Client.connect(server, _A)
        b = await V3Client.connect(server)
        b.send(client_info(_B))
        assert await b.receive() == Health("not authenticated")
        assert seen == [(_A.node_id, None), (_B.node_id, None)]


@pytest.mark.parametrize("generation", ["v3", "1x"])
async def test_slow_policy_delays_frames_and_loses_none(generation: str) -> None:
    """While a policy thinks, the client's frames wait."""
    decide = asyncio.Event()

    async def after_thinking(node_id: NodeId, token: str | None) -> bool:
        if node_id == _A.node_id:
            await decide.wait()
        return True

    async with relay(access=after_thinking) as server:
        b = await V3Client.connect(server, _B)
        if generation == "v3":
            a = await V3Client.connect(server)
            a.writer.write(v3.encode(client_info(_A)) + v3.encode(SendPacket(_ID_B, b"\x01\x001")))
            a.send(SendPacket(_ID_B, b"\x01\x002"))
        else:
            ws = await WsClient.connect(server, *v1.SUBPROTOCOLS)
            challenge = await ws.receive()
            assert isinstance(challenge, ServerChallenge)
            ws.send(client_auth(_A, challenge.challenge))
            ws.send(SendDatagrams(_ID_B, b"1"))
            ws.send(SendDatagrams(_ID_B, b"2"))
        await b.sync()
        assert server.stats()["packets_out"] == 0
        decide.set()
        assert await b.receive() == RecvPacket(_ID_A, b"\x01\x001")
        assert await b.receive() == RecvPacket(_ID_A, b"\x01\x002")


async def test_failing_policy_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of the policy is a no, and is logged."""

    async def broken(node_id: NodeId, token: str | None) -> bool:
        raise RuntimeError("database is down")

    async with relay(access=broken) as server:
        client = await V3Client.connect(server)
        client.send(client_info(_A))
        assert await client.receive() == Health("not authenticated")
        assert "database is down" in caplog.text


async def test_slow_receiver_costs_only_its_own_packets() -> None:
    """Packets for a client that does not read are dropped; memory stays bounded and others do not wait."""
    limits = {"queue_packets": 32, "write_timeout": 60.0}
    async with relay(limits=limits) as server:
        slow = await V3Client.connect(server, _A, receive_buffer=4096)
        quick = await V3Client.connect(server, _B)
        sender = await V3Client.connect(server, _C)
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]
        started = time.monotonic()
        for _ in range(200):
            sender.send(SendPacket(_ID_A, bytes(60_000)))
            await sender.writer.drain()
        sender.send(SendPacket(_ID_B, b"prompt"))
        assert await quick.receive() == RecvPacket(_ID_C, b"prompt")
        assert time.monotonic() - started < 3
        stats = server.stats()
        assert stats["dropped_queue_full"] > 100
        assert stats["packets_out"] + stats["dropped_queue_full"] == 201


async def test_receiver_that_takes_no_bytes_is_closed() -> None:
    """After the write timeout a stuck client is gone."""
    async with relay(limits={"write_timeout": 0.2}) as server:
        stuck = await V3Client.connect(server, _A, receive_buffer=4096)
        sender = await V3Client.connect(server, _B)
        stuck.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            sender.send(SendPacket(_ID_A, bytes(60_000)))
        await eventually(lambda: server.stats()["write_timeouts"] == 1, "the stuck client is closed")
        await eventually(lambda: server.stats().nodes == 1, "and forgotten")


async def test_client_above_its_rate_is_slowed_down_and_loses_nothing() -> None:
    """The limiter stalls reading; every packet arrives, at the rate allowed."""
    rate, burst = 200_000.0, 50_000
    async with relay(limits={"client_rate": rate, "client_burst": burst}) as server:
        receiver = await V3Client.connect(server, _A)
        sender = await V3Client.connect(server, _B)
        started = time.monotonic()
        for _ in range(100):
            sender.send(SendPacket(_ID_A, bytes(1000)))
        for _ in range(100):
            assert isinstance(await receiver.receive(), RecvPacket)
        # asyncio reads up to 256 KiB at once, so the first read passes whole and is paid for afterwards.
        assert server.stats()["rate_limited"] >= 1
        sender.send(Ping(b"paid off"))
        assert await sender.receive() == Pong(b"paid off")
        assert time.monotonic() - started >= (100 * 1037 - burst) / rate * 0.8


async def test_connections_above_the_limit_are_refused() -> None:
    """The number of open connections is bounded, logged in or not."""
    async with relay(limits={"connections": 2}) as server:
        await V3Client.connect(server, _A)
        second = await V3Client.connect(server, _B)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await V3Client.connect(server)
        assert server.stats()["rejected"] == 1
        second.close()
        await eventually(lambda: server.stats().connections == 1, "a place is free")
        await V3Client.connect(server, _C)


async def test_connections_above_the_accept_rate_are_refused() -> None:
    """A burst of connections passes, then the rate holds."""
    async with relay(limits={"accept_rate": 0.001, "accept_burst": 2}) as server:
        await V3Client.connect(server, _A)
        await V3Client.connect(server, _B)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await V3Client.connect(server)


async def test_gone_notices_are_bounded() -> None:
    """A node that sent to many is remembered with the newest of them only."""
    async with relay(limits={"gone_notices": 1}) as server:
        a = await V3Client.connect(server, _A)
        b = await V3Client.connect(server, _B)
        c = await V3Client.connect(server, _C)
        a.send(SendPacket(_ID_B, b"x"))
        a.send(SendPacket(_ID_C, b"x"))
        await a.sync()
        a.close()
        await c.receive()
        assert await c.receive() != RecvPacket(_ID_A, b"x")
        await b.receive()
        b.send(Ping(b"told me?"))
        assert await b.receive() == Pong(b"told me?")


async def test_restart_on_the_same_port_works_with_clients_connected() -> None:
    """Neither lingering connections nor a reset keep the port busy."""
    config = RelayConfig(bind=(("127.0.0.1", 0),), stun_bind=())
    for graceful in (True, False):
        server = await RelayServer(config).start()
        await V3Client.connect(server, _A)
        port = server.url.port
        await server.close(graceful=graceful)
        config = RelayConfig(bind=(("127.0.0.1", port),), stun_bind=())
        async with RelayServer(config) as again:
            await V3Client.connect(again, _A)
            drop_clients()


async def test_busy_port_is_a_bind_error() -> None:
    """A relay that cannot listen says where and why, and leaves nothing open."""
    async with relay() as server:
        with pytest.raises(BindError, match=str(server.url.port)):
            await RelayServer(RelayConfig(bind=(("127.0.0.1", server.url.port),), stun_bind=())).start()


async def test_machine_without_ipv6_listens_on_ipv4() -> None:
    """A wildcard of a family that does not exist is skipped when another address is there."""

    def only_v4(family: int, kind: int, proto: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        return socket.socket(family, kind, proto)

    config = RelayConfig(bind=(("0.0.0.0", 0), ("::", 0)), stun_bind=())
    async with RelayServer(config, open_socket=only_v4) as server:
        await V3Client.connect(server, _A)
        drop_clients()
    with pytest.raises(BindError):
        await RelayServer(RelayConfig(bind=(("::", 0),), stun_bind=()), open_socket=only_v4).start()
