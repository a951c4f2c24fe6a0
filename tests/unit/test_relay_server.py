"""The relay server with raw clients of every generation: who gets what from whom."""

from __future__ import annotations

import asyncio

import pytest
from relay_kit import V3Client, WsClient, eventually, key, relay

from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    Health,
    KeepAlive,
    NodeGone,
    NotePreferred,
    Ping,
    Pong,
    RecvDatagrams,
    RecvPacket,
    Restarting,
    SendDatagrams,
    SendPacket,
    ServerChallenge,
    ServerDeniesAuth,
    Status,
    V3Frame,
)
from iroh_py.proto.relay.handshake import client_auth, client_info

_A, _B, _C = key(1), key(2), key(3)
_ID_A, _ID_B = _A.node_id.raw, _B.node_id.raw


async def test_packet_arrives_with_the_senders_id() -> None:
    """A generation 3 packet goes to the node it names, says who sent it, and is otherwise untouched."""
    async with relay() as server:
        a = await V3Client.connect(server, _A)
        b = await V3Client.connect(server, _B)
        a.send(SendPacket(_ID_B, b"opaque, not even a datagram list"))
        assert await b.receive() == RecvPacket(_ID_A, b"opaque, not even a datagram list")
        stats = server.stats()
        assert (stats["packets_in"], stats["packets_out"], stats["bytes_in"]) == (1, 1, 64)
        assert stats["bytes_out"] == 5 + 64 + 2 * 13  # the packet, and a pong for each login of the kit


async def test_packets_behind_the_client_info_are_not_lost() -> None:
    """A client may send data in the same segment as its login, and frames in any number of pieces."""
    async with relay() as server:
        b = await V3Client.connect(server, _B)
        a = await V3Client.connect(server)
        wire = v3.encode(client_info(_A)) + v3.encode(SendPacket(_ID_B, b"one")) * 2
        a.writer.write(wire[:150])
        await asyncio.sleep(0)
        a.writer.write(wire[150:])
        assert await b.receive() == await b.receive() == RecvPacket(_ID_A, b"one")


async def test_websocket_clients_of_generation_3_take_part() -> None:
    """A websocket without a subprotocol carries the same frames as messages."""
    async with relay() as server:
        native = await V3Client.connect(server, _A)
        ws = await WsClient.connect(server)
        ws.send_message(v3.encode_message(client_info(_B)))
        ws.send_message(v3.encode_message(Ping(b"12345678")))
        assert v3.decode_message(await ws.receive_message()) == Pong(b"12345678")
        native.send(SendPacket(_ID_B, b"to ws"))
        assert v3.decode_message(await ws.receive_message()) == RecvPacket(_ID_A, b"to ws")
        ws.send_message(v3.encode_message(SendPacket(_ID_A, b"to native")))
        assert await native.receive() == RecvPacket(_ID_B, b"to native")


@pytest.mark.parametrize("subprotocol", v1.SUBPROTOCOLS)
async def test_1x_clients_exchange_datagrams_and_batches(subprotocol: str) -> None:
    """ECN and segment size arrive as they were sent."""
    async with relay() as server:
        a = await WsClient.login(server, _A, subprotocol)
        b = await WsClient.login(server, _B, subprotocol)
        assert a.subprotocol == subprotocol
        a.send(SendDatagrams(_ID_B, b"one", ecn=2))
        a.send(SendDatagrams(_ID_B, b"aabbc", ecn=3, segment_size=2))
        assert await b.receive() == RecvDatagrams(_ID_A, b"one", 2, 0)
        assert await b.receive() == RecvDatagrams(_ID_A, b"aabbc", 3, 2)


async def test_the_newest_subprotocol_is_chosen() -> None:
    """A 1.x client that offers both speaks v2."""
    async with relay() as server:
        client = await WsClient.connect(server, v1.SUBPROTOCOL_V1, v1.SUBPROTOCOL_V2)
        assert client.subprotocol == v1.SUBPROTOCOL_V2


async def test_generations_talk_to_each_other() -> None:
    """Datagram lists are translated between generation 3 and 1.x in both directions."""
    async with relay() as server:
        old = await V3Client.connect(server, _A)
        new = await WsClient.login(server, _B)
        [packed] = v3.pack_datagrams([b"aa", b"bb", b"c", b"dddd"])
        old.send(SendPacket(_ID_B, packed))
        assert await new.receive() == RecvDatagrams(_ID_A, b"aabbc", 0, 2)
        assert await new.receive() == RecvDatagrams(_ID_A, b"dddd", 0, 0)
        new.send(SendDatagrams(_ID_A, b"aabbc", ecn=2, segment_size=2))
        assert await old.receive() == RecvPacket(_ID_B, v3.pack_datagrams([b"aa", b"bb", b"c"])[0])


async def test_packet_for_nobody_is_dropped_and_counted() -> None:
    """A node that is not connected costs its sender nothing but the packet."""
    async with relay() as server:
        a = await V3Client.connect(server, _A)
        a.send(SendPacket(_ID_B, b"?"))
        await a.sync()
        assert server.stats()["dropped_no_destination"] == 1


async def test_ping_is_answered_and_home_relay_notes_are_ignored() -> None:
    """Real 0.28 clients send NotePreferred; pongs and keep-alives are as harmless."""
    async with relay() as server:
        a = await V3Client.connect(server, _A)
        for frame in (NotePreferred(True), KeepAlive(), Pong(bytes(8)), Ping(b"abcdefgh")):
            a.send(frame)
        assert await a.receive() == Pong(b"abcdefgh")


async def test_newer_generation_3_connection_replaces_the_older() -> None:
    """Packets go to the newest connection of a node id; the older one is closed."""
    async with relay() as server:
        old = await V3Client.connect(server, _A)
        new = await V3Client.connect(server, _A)
        assert await old.ended() == b""
        b = await V3Client.connect(server, _B)
        b.send(SendPacket(_ID_A, b"x"))
        assert await new.receive() == RecvPacket(_ID_B, b"x")
        assert server.stats().nodes == 2


@pytest.mark.parametrize(
    ("subprotocol", "parked", "healthy"),
    [
        (v1.SUBPROTOCOL_V2, Status(1), Status(0)),
        (v1.SUBPROTOCOL_V1, Health("The same endpoint id is connected elsewhere"), Health("")),
    ],
)
async def test_older_1x_connection_is_parked_until_the_newer_ends(
    subprotocol: str, parked: Status | Health, healthy: Status | Health
) -> None:
    """It hears that it is inactive, and gets packets again when it is the only one left."""
    async with relay() as server:
        old = await WsClient.login(server, _A, subprotocol)
        new = await WsClient.login(server, _A, subprotocol)
        b = await WsClient.login(server, _B)
        assert await old.receive() == parked
        b.send(SendDatagrams(_ID_A, b"to the newest"))
        assert await new.receive() == RecvDatagrams(_B.node_id.raw, b"to the newest")
        new.close()
        assert await old.receive() == healthy
        b.send(SendDatagrams(_ID_A, b"to the old one"))
        assert await old.receive() == RecvDatagrams(_B.node_id.raw, b"to the old one")


async def test_parked_connections_are_bounded() -> None:
    """A node that connects again and again keeps only a few connections; the oldest are closed."""
    async with relay(limits={"parked": 2}) as server:
        clients = [await WsClient.login(server, _A) for _ in range(4)]
        assert [v1.decode(message) for message in await clients[0].ended()] == [Status(1)]
        await eventually(lambda: server.stats().connections == 3, "one of four connections is closed")


async def test_everybody_a_node_sent_to_hears_that_it_is_gone() -> None:
    """Peers of either generation are told, others are not."""
    async with relay() as server:
        a = await V3Client.connect(server, _A)
        b = await V3Client.connect(server, _B)
        c = await WsClient.login(server, _C)
        bystander = await V3Client.connect(server, key(4))
        a.send(SendPacket(_ID_B, b"\x01\x00x"))
        a.send(SendPacket(_C.node_id.raw, b"\x01\x00x"))
        await a.sync()
        a.close()
        assert [await b.receive(), await b.receive()] == [RecvPacket(_ID_A, b"\x01\x00x"), NodeGone(_ID_A)]
        assert [await c.receive(), await c.receive()] == [RecvDatagrams(_ID_A, b"x"), NodeGone(_ID_A)]
        bystander.send(Ping(b"nothing?"))
        assert await bystander.receive() == Pong(b"nothing?")


_FORBIDDEN: list[tuple[str, V3Frame | bytes]] = [
    ("recv-packet", RecvPacket(_ID_B, b"x")),
    ("health", Health("sick")),
    ("restarting", Restarting(1, 1)),
    ("node-gone", NodeGone(_ID_B)),
    ("second-login", client_info(_A)),
    ("unknown-type", b"\x63\x00\x00\x00\x00"),
    ("short-packet", b"\x04\x00\x00\x00\x1f" + bytes(31)),
    ("long-packet", b"\x04\x00\x01\x00\x21" + bytes(65569)),
    ("huge-length", b"\x04\xff\xff\xff\xff"),
    ("garbage", bytes(range(256))),
]


@pytest.mark.parametrize(("name", "bad"), _FORBIDDEN, ids=[name for name, _ in _FORBIDDEN])
async def test_client_that_breaks_the_protocol_is_closed_alone(name: str, bad: V3Frame | bytes) -> None:
    """The offender loses its connection, everybody else keeps theirs."""
    async with relay() as server:
        a = await V3Client.connect(server, _A)
        b = await V3Client.connect(server, _B)
        if isinstance(bad, bytes):
            a.writer.write(bad)
        else:
            a.send(bad)
        assert await a.ended() == b""
        await b.sync()
        assert server.stats()["protocol_errors"] == 1
        assert server.stats().nodes == 1


@pytest.mark.parametrize(
    "first",
    [
        v3.encode(SendPacket(_ID_B, b"x")),
        v3.encode(Ping(bytes(8))),
        v3.encode(client_info(_A))[:-1] + b"\x02",
        bytes.fromhex("0200000069") + bytes(105),
    ],
    ids=["data", "ping", "forged", "zeros"],
)
async def test_nobody_sends_before_a_valid_login(first: bytes) -> None:
    """The first frame must be a ClientInfo with a valid signature; a victim gets nothing else."""
    async with relay() as server:
        b = await V3Client.connect(server, _B)
        stranger = await V3Client.connect(server)
        stranger.writer.write(first)
        assert await stranger.ended() == b""
        assert server.stats()["login_failures"] == 1
        assert server.stats()["packets_out"] == 0
        await b.sync()


async def test_1x_client_with_a_wrong_signature_is_denied_in_words() -> None:
    """The reason is a frame, then the connection is closed."""
    async with relay() as server:
        client = await WsClient.connect(server, *v1.SUBPROTOCOLS)
        assert isinstance(await client.receive(), ServerChallenge)
        client.send(client_auth(_A, bytes(16)))
        assert await client.receive() == ServerDeniesAuth("signature invalid")
        assert await client.ended() == []


async def test_1x_challenges_differ() -> None:
    """An answer cannot be replayed because no two connections get the same challenge."""
    async with relay() as server:
        challenges = {await (await WsClient.connect(server, *v1.SUBPROTOCOLS)).receive() for _ in range(3)}
        assert len(challenges) == 3


async def test_1x_client_that_breaks_the_protocol_is_closed_alone() -> None:
    """Frames of the relay, and oversized ones, end the connection that sent them."""
    async with relay() as server:
        other = await WsClient.login(server, _B)
        for bad in (v1.encode(RecvDatagrams(_ID_B, b"x")), b"\x04" + bytes(65537), b"\x3f", b""):
            client = await WsClient.login(server, _A)
            client.send_message(bad)
            assert await client.ended() == []
        other.send(Ping(b"12345678"))
        assert await other.receive() == Pong(b"12345678")


async def test_endless_websocket_message_is_cut_off() -> None:
    """A message that never ends costs at most 1 MiB."""
    async with relay() as server:
        client = await WsClient.login(server, _A)
        client.writer.write(b"\x02\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
        for _ in range(40):
            client.writer.write(bytes(65536))
        assert await client.ended() == []
        assert server.stats()["protocol_errors"] == 1


async def test_graceful_close_says_goodbye_and_leaves_nothing() -> None:
    """Websocket clients get a close frame, native ones the end of the stream."""
    async with relay() as server:
        native = await V3Client.connect(server, _A)
        ws = await WsClient.login(server, _B)
        await server.close()
        assert await native.ended() == b""
        assert await ws.ended() == []


async def test_silent_clients_are_pinged_and_dropped_when_they_do_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client gets a ping after silence; one that answers stays, one that does not is closed."""
    monkeypatch.setattr("iroh_py.relay.session.PING_INTERVAL", 0.05)
    monkeypatch.setattr("iroh_py.relay.session.PING_JITTER", (0.0, 0.0))
    monkeypatch.setattr("iroh_py.relay.session.PONG_TIMEOUT", 0.05)
    async with relay() as server:
        silent = await V3Client.connect(server, _A)
        polite = await V3Client.connect(server, _B)

        async def answer() -> None:
            while True:
                frame = await polite.receive()
                assert isinstance(frame, Ping)
                polite.send(Pong(frame.data))

        task = asyncio.create_task(answer())
        rest = await silent.ended()
        assert rest[:5] == b"\x0c\x00\x00\x00\x08"
        assert server.stats()["ping_timeouts"] == 1
        assert server.stats().nodes == 1
        task.cancel()
