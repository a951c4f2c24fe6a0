"""discovery/server.py, store.py, zone.py, web.py: the pkarr relay and its DNS side over loopback."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import warnings
from collections.abc import AsyncIterator, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from discovery_kit import PATIENCE, RELAY, info, key
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.discovery import DiscoveryServer
from iroh_py.discovery.dns_client import new_query
from iroh_py.discovery.pkarr import fitting_packet
from iroh_py.discovery.store import PacketStore
from iroh_py.discovery.web import answer
from iroh_py.discovery.zone import Zone
from iroh_py.errors import BindError, ClosedError, LocalProtocolError
from iroh_py.proto.node_info import NodeInfo, dns_name
from iroh_py.proto.pkarr import SignedPacket

HERE = ("192.0.2.1", 4433)
ORIGIN = "irohdns.example"
#: 3 December 2023, in microseconds.
TIME = 1_701_561_600_000_000


def signed(number: int = 1, at: int = TIME, **fields: object) -> SignedPacket:
    content = info(number, HERE, **fields)  # type: ignore[arg-type]
    return SignedPacket.sign(key(number), fitting_packet(content), at)


def question(name: str, kind: str = "TXT", *, udp_payload: int = 1232) -> dns.message.Message:
    return dns.message.make_query(name, kind, use_edns=0, payload=udp_payload)


def reply(zone: Zone, query: dns.message.Message, *, udp: bool = True) -> dns.message.Message:
    data = zone.answer(query.to_wire(), udp=udp)
    assert data is not None
    message = dns.message.from_wire(data, one_rr_per_rrset=True)
    assert query.is_response(message)
    return message


@pytest.fixture
def zone() -> Zone:
    store = PacketStore()
    store.put(signed(relay=RELAY, user_data="a=b"))
    return Zone(store, [".", ORIGIN])


@pytest.fixture
async def server() -> AsyncIterator[DiscoveryServer]:
    async with DiscoveryServer() as running:
        yield running


# --- the store ---


def test_store_keeps_the_newest_packet_of_a_node() -> None:
    """A later timestamp wins; an older packet is refused, the same one again is not."""
    store = PacketStore()
    assert store.put(signed(at=TIME))
    assert store.put(signed(at=TIME))
    assert store.put(signed(at=TIME + 1))
    assert not store.put(signed(at=TIME))
    kept = store.get(key(1).node_id)
    assert kept is not None
    assert kept.timestamp_us == TIME + 1


def test_store_is_bounded() -> None:
    """The packet that was published longest ago makes room, also if it is an old node's."""
    store = PacketStore(limit=2)
    for number in (1, 2):
        store.put(signed(number))
    store.put(signed(1, TIME + 1))
    store.put(signed(3))
    assert len(store) == 2
    assert store.get(key(2).node_id) is None


# --- HTTP, without a socket ---


def test_packet_is_put_and_got() -> None:
    """204 for a packet that is new, its very bytes for everybody who asks."""
    store, packet = PacketStore(), signed()
    path = f"/pkarr/{key(1).node_id.z32}"
    assert answer(store, "GET", path, b"").status == 404
    assert answer(store, "PUT", path, packet.to_relay_payload()).status == 204
    got = answer(store, "GET", path, b"")
    assert (got.status, got.body) == (200, packet.to_relay_payload())
    assert got.content_type == "application/x-pkarr-signed-packet"


@pytest.mark.parametrize(
    ("method", "path", "change", "status"),
    [
        ("PUT", f"/pkarr/{key(2).node_id.z32}", lambda data: data, 400),
        ("PUT", f"/pkarr/{key(1).node_id.z32}", lambda data: data[:-1], 400),
        ("PUT", f"/pkarr/{key(1).node_id.z32}", lambda data: b"", 400),
        ("PUT", "/pkarr/nobody", lambda data: data, 400),
        ("GET", "/pkarr/" + "y" * 52, lambda data: b"", 400),
        ("GET", "/elsewhere/x", lambda data: b"", 404),
        ("POST", f"/pkarr/{key(1).node_id.z32}", lambda data: data, 405),
        ("GET", "/healthcheck", lambda data: b"", 200),
    ],
)
def test_wrong_request_is_refused(
    method: str, path: str, change: Callable[[bytes], bytes], status: int
) -> None:
    """Foreign, damaged and nameless packets store nothing."""
    store = PacketStore()
    assert answer(store, method, path, change(signed().to_relay_payload())).status == status
    assert len(store) == 0


def test_older_packet_is_a_conflict_and_one_without_dns_is_refused() -> None:
    """409 tells a publisher that its clock is behind; a signature does not make garbage a record."""
    store = PacketStore()
    path = f"/pkarr/{key(1).node_id.z32}"
    garbage = SignedPacket.sign(key(1), b"garbage", TIME)
    assert answer(store, "PUT", path, garbage.to_relay_payload()).status == 400
    assert answer(store, "PUT", path, signed(at=TIME + 1).to_relay_payload()).status == 204
    assert answer(store, "PUT", path, signed(at=TIME).to_relay_payload()).status == 409


# --- DNS, without a socket ---


@pytest.mark.parametrize("origin", [ORIGIN, ""])
def test_packet_is_served_as_txt_below_each_origin(zone: Zone, origin: str) -> None:
    """Authoritative, relay first (iroh 0.28 reads only one string), values with '=' unharmed, any letter case."""
    name = dns_name(key(1).node_id, origin)
    for asked in (name, name.upper()):
        message = reply(zone, question(asked))
        assert message.flags & dns.flags.AA
        assert message.rcode() == dns.rcode.NOERROR
        strings = [rdata.strings[0].decode() for rrset in message.answer for rdata in rrset]
        assert strings == [f"relay={RELAY}", "addr=192.0.2.1:4433", "user-data=a=b"]
    read = NodeInfo.from_dns_packet(key(1).node_id, message.to_wire())
    assert read == info(1, HERE, relay=RELAY, user_data="a=b")


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (dns_name(key(2).node_id, ORIGIN), "TXT", dns.rcode.NXDOMAIN),
        (f"other.{key(1).node_id.z32}.{ORIGIN}", "TXT", dns.rcode.NXDOMAIN),
        (f"nonsense.{ORIGIN}", "TXT", dns.rcode.NXDOMAIN),
        (dns_name(key(1).node_id, ORIGIN), "A", dns.rcode.NOERROR),
        (ORIGIN, "SOA", dns.rcode.NOERROR),
    ],
)
def test_absence_is_told_with_a_short_memory(zone: Zone, name: str, kind: str, code: dns.rcode.Rcode) -> None:
    """No such name and no such type differ, and both carry the SOA that limits negative caching."""
    message = reply(zone, question(name, kind))
    assert message.rcode() == code
    assert not message.answer
    assert [rrset.rdtype for rrset in message.authority] == [dns.rdatatype.SOA]
    assert message.authority[0].ttl == 5


def test_zone_of_others_is_refused() -> None:
    """Without the root as an origin, foreign names are none of our business."""
    zone = Zone(PacketStore(), [ORIGIN])
    assert reply(zone, question("example.com")).rcode() == dns.rcode.REFUSED
    with pytest.raises(LocalProtocolError, match="no domain name"):
        Zone(PacketStore(), ["a..b"])


def test_answer_that_does_not_fit_into_udp_is_cut_to_its_flag() -> None:
    """A small buffer gets TC and nothing else, TCP the whole."""
    store = PacketStore()
    many = info(1, *((f"192.0.2.{n}", 4433) for n in range(1, 21)))
    store.put(SignedPacket.sign(key(1), fitting_packet(many), TIME))
    zone = Zone(store, [ORIGIN])
    query = question(dns_name(key(1).node_id, ORIGIN), udp_payload=512)
    cut = zone.answer(query.to_wire(), udp=True)
    assert cut is not None
    assert len(cut) <= 512
    assert dns.message.from_wire(cut).flags & dns.flags.TC
    assert len(reply(zone, query, udp=False).answer) == 20


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_silence(data: bytes) -> None:
    """The DNS server takes what strangers send without raising, and never answers an answer."""
    answered = Zone(PacketStore(), [ORIGIN, "."]).answer(data, udp=True)
    assert answered is None or not data[2] & 0x80


@given(st.sampled_from(["GET", "PUT"]), st.text(max_size=80), st.binary(max_size=200))
def test_any_request_gets_a_status(method: str, path: str, body: bytes) -> None:
    """The pkarr relay takes what strangers send without raising."""
    assert answer(PacketStore(), method, f"/pkarr/{path}", body).status in (204, 400, 404)


# --- over sockets ---


async def exchange(server: DiscoveryServer, data: bytes) -> bytes:
    """Send bytes to the HTTP port and read until the server closes."""
    port = int(server.pkarr_url.rsplit(":", 1)[1].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(data)
            return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x00garbage\r\n\r\n", b"400"),
        (b"PUT /pkarr/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n" + bytes(2000), b"413"),
        (b"GET /pkarr/x HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", b"417"),
    ],
)
async def test_hostile_request_ends_with_a_status(
    server: DiscoveryServer, request_: bytes, status: bytes
) -> None:
    """Garbage and oversized requests are answered, and the next client is served."""
    assert (await exchange(server, request_)).split(b" ", 2)[1] == status
    good = await exchange(server, b"GET /healthcheck HTTP/1.1\r\nHost: h\r\n\r\n")
    assert good.endswith(b"\r\n\r\nOK")


async def test_client_that_sends_nothing_is_cut_off(
    server: DiscoveryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a request ends by itself."""
    monkeypatch.setattr("iroh_py.discovery.server.REQUEST_TIMEOUT", 0.05)
    assert await exchange(server, b"GET /") == b""


async def test_connections_are_bounded(server: DiscoveryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit a connection is closed at once."""
    monkeypatch.setattr("iroh_py.discovery.server.MAX_CONNECTIONS", 0)
    with pytest.raises((ConnectionResetError, AssertionError)):
        assert await exchange(server, b"GET /healthcheck HTTP/1.1\r\nHost: h\r\n\r\n")


async def test_several_questions_come_by_one_tcp_connection(server: DiscoveryServer) -> None:
    """DNS over TCP with its length prefix, question by question; garbage ends the connection."""
    server.store.put(signed())
    reader, writer = await asyncio.open_connection(*server.dns_addr)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            query = new_query(dns_name(key(1).node_id, ORIGIN), random.Random(0))
            writer.write(query.to_wire(prepend_length=True))
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            assert NodeInfo.from_dns_packet(key(1).node_id, data) == info(1, HERE)
        writer.write(b"\x00\x03abc")
        assert await reader.read() == b""
    writer.transport.abort()


async def test_server_comes_back_with_its_packets_at_the_same_ports() -> None:
    """Closing cuts connections; the same server starts again where it was."""
    server = DiscoveryServer()
    with pytest.raises(ClosedError, match="not started"):
        _ = server.pkarr_url
    async with server:
        url, dns_addr = server.pkarr_url, server.dns_addr
        server.store.put(signed())
        reader, writer = await asyncio.open_connection(*dns_addr)
    async with asyncio.timeout(PATIENCE):
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # cut is cut
    writer.transport.abort()
    async with server:
        assert (server.pkarr_url, server.dns_addr) == (url, dns_addr)
        path = url.partition("://")[2].partition("/")[2]
        got = await exchange(server, f"GET /{path}/{key(1).node_id.z32} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert got.endswith(signed().to_relay_payload())


async def test_taken_port_is_a_bind_error(server: DiscoveryServer) -> None:
    """Two servers cannot have one port, and the second leaves nothing open."""
    with pytest.raises(BindError):
        await DiscoveryServer(dns_port=server.dns_addr[1]).start()


async def test_network_that_cannot_listen_is_named() -> None:
    """A server needs a socket factory or a simulated host."""
    from iroh_py.io.system import SystemNetwork

    with pytest.raises(LocalProtocolError, match="cannot listen"):
        await DiscoveryServer(SystemNetwork()).start()


@pytest.mark.parametrize("turns", range(6))
async def test_connection_that_comes_in_while_the_server_closes_is_closed_too(turns: int) -> None:
    """At whatever turn of the event loop: a forgotten socket would be a ResourceWarning here."""
    server = await DiscoveryServer().start()
    with socket.create_connection(server.dns_addr), socket.create_connection(server.dns_addr):
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        for _ in range(turns + 6):
            await asyncio.sleep(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert [str(each.message) for each in caught] == []
