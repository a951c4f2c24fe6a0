"""The relay client against real servers on loopback."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl as ssl_module
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from relay_kit import PATIENCE, LoopbackNetwork, eventually, key, relay

from iroh_py.io import relay_link
from iroh_py.io.relay_client import RelayClient
from iroh_py.keys import NodeId
from iroh_py.proto.relay.upgrade import Generation
from iroh_py.relay import RelayConfig, RelayServer
from iroh_py.relay_url import RelayUrl


class _Node:
    """A client with its inbox and its states."""

    def __init__(self, number: int, url: RelayUrl, **options: Any) -> None:
        self.id: NodeId = key(number).node_id
        self.inbox: asyncio.Queue[tuple[NodeId, list[bytes]]] = asyncio.Queue()
        self.states: list[tuple[bool, str]] = []
        self.gone: list[NodeId] = []
        self.network = LoopbackNetwork()
        self.client = RelayClient(
            self.network,  # type: ignore[arg-type]  # relay clients need no UDP, no monitor
            key(number),
            url,
            on_datagrams=lambda _, node_id, datagrams: self.inbox.put_nowait((node_id, datagrams)),
            on_state=lambda _, connected, detail: self.states.append((connected, detail)),
            on_gone=lambda _, node_id: self.gone.append(node_id),
            **{"is_home": True} | options,
        )

    async def connect(self) -> None:
        """Start, and wait for the first pong: then the relay certainly knows us."""
        self.client.start()
        await eventually(lambda: self.client.latency is not None, "connected")

    async def receive(self) -> tuple[NodeId, list[bytes]]:
        """The next datagrams."""
        async with asyncio.timeout(PATIENCE):
            return await self.inbox.get()


@pytest.mark.parametrize("first", list(Generation))
@pytest.mark.parametrize("second", [Generation.V3_NATIVE, Generation.V2])
async def test_every_generation_reaches_every_other(first: Generation, second: Generation) -> None:
    """Datagrams arrive whole, in order and with their sender, whatever both ends speak."""
    datagrams = [b"a" * 1200, b"b" * 1200, b"c" * 7, b"d" * 1300]
    async with relay() as server:
        a, b = _Node(1, server.url, generation=first), _Node(2, server.url, generation=second)
        await a.connect()
        await b.connect()
        a.client.send(b.id, datagrams)
        got: list[bytes] = []
        while len(got) < len(datagrams):
            sender, some = await b.receive()
            assert sender == a.id
            got += some
        assert got == datagrams
        await asyncio.gather(a.client.close(), b.client.close())


async def test_state_tells_connection_and_loss_and_peers_that_leave() -> None:
    """Callbacks say what happened in words; nothing is called back after close."""
    async with relay() as server:
        a, b = _Node(1, server.url), _Node(2, server.url)
        await a.connect()
        await b.connect()
        assert a.client.local_ip == "127.0.0.1"
        b.client.send(a.id, [b"hi"])
        await a.receive()
        await b.client.close()
        await eventually(lambda: a.gone == [b.id], "the peer is gone")
        assert [connected for connected, _ in b.states] == [True]
        await server.close()
        await eventually(lambda: len(a.states) >= 2, "the loss is told")
        assert a.states[1] == (False, "the relay closed the connection")
        assert not a.client.connected
        await a.client.close()


async def test_relay_restarted_on_its_port_gets_its_clients_back() -> None:
    """Both ends come back by themselves and data flows."""
    server = await RelayServer(RelayConfig(bind=(("127.0.0.1", 0),), stun_bind=())).start()
    a, b = _Node(1, server.url), _Node(2, server.url)
    await a.connect()
    await b.connect()
    await server.close(graceful=False)
    await eventually(lambda: not a.client.connected and not b.client.connected, "both noticed")
    again = RelayConfig(bind=(("127.0.0.1", server.url.port),), stun_bind=())
    async with RelayServer(again) as server:
        await eventually(lambda: server.stats().nodes == 2, "both are back")
        a.client.send(b.id, [b"again"])
        assert await b.receive() == (a.id, [b"again"])
        await asyncio.gather(a.client.close(), b.client.close())


async def test_token_opens_the_door() -> None:
    """A client without the token is refused and says so; with it, it is in."""
    async with relay(token="s3cret") as server:
        stranger, friend = (
            _Node(1, server.url, generation=Generation.V2),
            _Node(2, server.url, token="s3cret"),
        )
        stranger.client.start()
        await friend.connect()
        await eventually(lambda: bool(stranger.states), "the refusal is told")
        assert "not authorized" in stranger.states[0][1]
        await asyncio.gather(stranger.client.close(), friend.client.close())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not parse"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n", "h2c"),
        (b"", "closed"),
    ],
    ids=["web-server", "ssh", "other-protocol", "closed"],
)
async def test_what_is_no_relay_is_reported_and_not_trusted(answer: bytes, words: str) -> None:
    """The reason is told; nothing is raised and no identity shown."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    node = _Node(1, RelayUrl.parse(f"http://127.0.0.1:{port}"))
    node.client.start()
    await eventually(lambda: bool(node.states), "the failure is told")
    assert node.states[0][0] is False
    assert words in node.states[0][1]
    await node.client.close()
    server.close()
    await server.wait_closed()
    assert heard.startswith(
        b"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\nhost: 127.0.0.1:%d\r\n\r\n" % port
    )
    assert node.id.raw not in bytes(heard)


async def test_relay_that_sends_nonsense_is_left() -> None:
    """A broken frame ends that connection only; the next one is tried."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: iroh derp http\r\n\r\n\x63\x00\x00\x00\x00"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    node = _Node(1, RelayUrl.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    node.client.start()
    await eventually(lambda: connections >= 2, "it tries again")
    await node.client.close()
    server.close()
    await server.wait_closed()


async def test_datagram_that_fits_into_no_frame_is_dropped_and_counted() -> None:
    """Others go on."""
    async with relay() as server:
        a, b = _Node(1, server.url), _Node(2, server.url)
        await a.connect()
        await b.connect()
        a.client.send(b.id, [bytes(65503)])
        await eventually(lambda: a.client.dropped == 1, "counted")
        a.client.send(b.id, [b"fits"])
        assert await b.receive() == (a.id, [b"fits"])
        await asyncio.gather(a.client.close(), b.client.close())


async def test_kernel_says_when_the_relay_last_acknowledged() -> None:
    """On real sockets a late answer can be told from a dead connection."""
    async with relay() as server:
        reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
        age = relay_link._last_ack_age(writer)
        assert age is not None
        assert 0 <= age < PATIENCE
        writer.transport.abort()
        assert reader is not None


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and 127.0.0.1, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    paths = tmp_path / "relay.crt", tmp_path / "relay.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.mark.parametrize("generation", [Generation.V3_NATIVE, Generation.V2])
async def test_tls_works_with_an_authority_of_our_own(
    certificate: tuple[Path, Path], generation: Generation
) -> None:
    """The relay serves its certificate files, the client trusts them by option."""
    trusting = ssl_module.create_default_context(cafile=str(certificate[0]))
    async with relay(certificate=certificate[0], private_key=certificate[1]) as server:
        assert server.url.startswith("https://127.0.0.1:")
        url = RelayUrl.parse(f"https://localhost:{server.url.port}")
        a = _Node(1, url, ssl_context=trusting, generation=generation)
        b = _Node(2, server.url, ssl_context=trusting)
        await a.connect()
        await b.connect()
        a.client.send(b.id, [b"over TLS"])
        assert await b.receive() == (a.id, [b"over TLS"])
        await asyncio.gather(a.client.close(), b.client.close())


async def test_unknown_authority_is_not_trusted(certificate: tuple[Path, Path]) -> None:
    """Without the option the system's authorities decide, and the reason is told."""
    async with relay(certificate=certificate[0], private_key=certificate[1]) as server:
        node = _Node(1, server.url)
        node.client.start()
        await eventually(lambda: bool(node.states), "the failure is told")
        assert "certificate verify failed" in node.states[0][1].lower()
        assert server.stats()["http_requests"] == 0
        await node.client.close()


async def test_hint_of_trouble_another_connection_stands_ready_when_this_one_breaks() -> None:
    """Dialled beside, it is there at once; the relay does not know of it before it is needed."""
    async with relay() as server:
        node = _Node(1, server.url)
        await node.connect()
        before = node.client.dials
        node.client.check(beside=True)
        await eventually(lambda: node.client.dials > before, "another one is dialled")
        assert node.client.connects == 1
        assert node.client.connected
        link = node.client._link
        assert link is not None
        link.lose("broken for this test")
        await eventually(lambda: node.client.connects == 2, "the other one is in use")
        assert node.client.dials == before + 1
        await node.client.close()


async def test_hint_of_trouble_was_wrong_nothing_changes() -> None:
    """The connection that works stays, and the spare one is dropped."""
    async with relay() as server:
        a, b = _Node(1, server.url), _Node(2, server.url)
        await a.connect()
        await b.connect()
        a.client.check(beside=True)
        await eventually(lambda: a.client.dials == 2, "another one is dialled")
        await eventually(lambda: a.client._dial is None, "and dropped")
        a.client.send(b.id, [b"still here"])
        assert await b.receive() == (a.id, [b"still here"])
        assert a.client.connects == 1
        assert a.states == [(True, a.states[0][1])]
        await asyncio.gather(a.client.close(), b.client.close())
