"""discovery/pkarr.py, http.py, race.py: publishing and resolving signed packets over loopback."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from discovery_kit import RELAY, ask, info, key, site, until

from iroh_py.discovery import DiscoveryServer, Found, PkarrDiscovery
from iroh_py.discovery.http import BaseUrl
from iroh_py.discovery.pkarr import PkarrService, fitting_packet, published_part
from iroh_py.discovery.race import first_success
from iroh_py.errors import DiscoveryError, LocalProtocolError, RemoteProtocolError
from iroh_py.network import NetworkState
from iroh_py.proto.node_info import NodeInfo
from iroh_py.proto.pkarr import MAX_DNS_PACKET, SignedPacket

Vectors = Callable[[str], str]
HERE, THERE = ("192.0.2.1", 4433), ("192.0.2.2", 4433)
NODE = key(1).node_id


@pytest.fixture
async def server() -> AsyncIterator[DiscoveryServer]:
    async with DiscoveryServer() as running:
        yield running


def stored(server: DiscoveryServer, number: int = 1) -> NodeInfo | None:
    packet = server.store.get(key(number).node_id)
    return None if packet is None else NodeInfo.from_dns_packet(packet.node_id, packet.dns_packet)


async def test_published_record_is_resolved(server: DiscoveryServer) -> None:
    """PUT by one node, GET by another, under the provenance of the specification."""
    one = await PkarrDiscovery(server.pkarr_url).start(site(1))
    two = await PkarrDiscovery(server.pkarr_url).start(site(2))
    try:
        one.publish(info(1, HERE, user_data="a=b"))
        await until(lambda: one.counters.published == 1)
        assert await ask(two, NODE) == [Found(info(1, HERE, user_data="a=b"), "pkarr")]
        assert await ask(two, key(3).node_id) == []
        assert (two.counters.asked, two.counters.found) == (2, 1)
    finally:
        await one.close()
        await two.close()


async def test_packet_of_the_vectors_is_resolved(server: DiscoveryServer, vector: Vectors) -> None:
    """A payload that the original made is served and read."""
    payload = bytes.fromhex(vector("pkarr.relay_payload"))
    packet = SignedPacket.from_relay_payload(NODE, payload)
    server.store.put(packet)
    service = await PkarrDiscovery(server.pkarr_url, publish=False).start(site(2))
    found = await ask(service, NODE)
    assert [f.info for f in found] == [NodeInfo.from_dns_packet(NODE, packet.dns_packet)]
    assert found[0].info.relay_url is not None


def test_direct_addresses_are_public_only_without_a_relay() -> None:
    """By default the record of a node with a home relay does not tell where it is; the option overrides."""
    relayed, direct = info(1, HERE, relay=RELAY), info(1, HERE)
    assert published_part(relayed, None) == info(1, relay=RELAY)
    assert published_part(direct, None) == direct
    assert published_part(relayed, True) == relayed
    assert published_part(direct, False) == info(1)


def test_too_many_addresses_are_cut_family_by_family() -> None:
    """The packet keeps to 1000 bytes, and neither family crowds the other out."""
    v4 = [(f"192.0.2.{n}", 50000 + n) for n in range(1, 60)]
    v6 = [(f"2001:db8:1:2:3:4:5:{n:x}", 50000 + n) for n in range(1, 60)]
    packet = fitting_packet(info(1, *v4, *v6, user_data="kept"))
    assert MAX_DNS_PACKET - 80 < len(packet) <= MAX_DNS_PACKET
    read = NodeInfo.from_dns_packet(NODE, packet)
    kept_v6 = [a for a in read.direct_addresses if ":" in a[0]]
    assert abs(len(read.direct_addresses) - 2 * len(kept_v6)) <= 1
    assert read.user_data == "kept"


async def test_unchanged_record_is_published_again_and_newer(server: DiscoveryServer) -> None:
    """Republished at the interval; a timestamp is never used twice, even by a clock that stands still."""
    options = PkarrDiscovery(server.pkarr_url, republish_interval=0.02, clock=lambda: 1000.0)
    service = await options.start(site())
    try:
        service.publish(info(1, HERE))
        await until(lambda: service.counters.published >= 3)
    finally:
        await service.close()
    packet = server.store.get(NODE)
    assert packet is not None
    assert packet.timestamp_us >= 1_000_000_000 + 2
    assert stored(server) == info(1, HERE)


async def test_clock_that_went_back_does_not_silence_a_node(server: DiscoveryServer) -> None:
    """The relay has a newer packet of ours: the next one continues from its time."""
    server.store.put(SignedPacket.sign(key(1), fitting_packet(info(1, HERE)), 5_000_000_000))
    service = await PkarrDiscovery(server.pkarr_url, clock=lambda: 1.0).start(site())
    try:
        service.publish(info(1, THERE))
        await until(lambda: service.counters.published == 1)
    finally:
        await service.close()
    assert stored(server) == info(1, THERE)
    assert service.counters.publish_failed == 0


async def test_failed_publication_is_tried_again(server: DiscoveryServer) -> None:
    """A relay that is down is tried again after a second, and at once when the network changed."""
    await server.close()
    service = await PkarrDiscovery(server.pkarr_url).start(site())
    loop = asyncio.get_running_loop()
    try:
        service.publish(info(1, HERE))
        await until(lambda: service.counters.publish_failed == 1)
        async with server:
            begun = loop.time()
            service.handle_network_change(NetworkState())
            await until(lambda: stored(server) == info(1, HERE))
            assert loop.time() - begun < 0.9
    finally:
        await service.close()


async def test_change_overtakes_a_request_that_hangs(server: DiscoveryServer) -> None:
    """New addresses do not wait for the timeout of a request in a network that is gone."""
    hanging: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: hanging.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    service = await PkarrDiscovery(f"http://127.0.0.1:{port}/pkarr").start(site())
    try:
        service.publish(info(1, HERE))
        await until(lambda: len(hanging) == 1)
        service.publish(info(1, THERE))
        await until(lambda: len(hanging) == 2, within=2.0)
        service.handle_network_change(NetworkState())
        await until(lambda: len(hanging) == 3, within=2.0)
    finally:
        await service.close()
        silent.close()
        for writer in hanging:
            writer.transport.abort()


async def test_same_info_again_is_not_published_again(server: DiscoveryServer) -> None:
    """A change of what is not public (addresses beside a relay) costs no request."""
    service = await PkarrDiscovery(server.pkarr_url).start(site())
    try:
        service.publish(info(1, HERE, relay=RELAY))
        await until(lambda: service.counters.published == 1)
        service.publish(info(1, THERE, relay=RELAY))
        assert not service._wake.is_set()
    finally:
        await service.close()


async def test_record_that_cannot_be_signed_is_counted_and_the_next_one_goes_out(
    server: DiscoveryServer,
) -> None:
    """An info above 1000 bytes without any address is a failed publication, not the end of publishing."""
    long_relay = type(RELAY)("http://relay.example/" + "r" * 900)
    service = await PkarrDiscovery(server.pkarr_url).start(site())
    try:
        service.publish(info(1, relay=long_relay, user_data="u" * 245))
        await until(lambda: service.counters.publish_failed == 1)
        service.publish(info(1, HERE))
        await until(lambda: stored(server) == info(1, HERE))
    finally:
        await service.close()


# --- answers that are no good ---


async def resolver(answer: bytes) -> tuple[PkarrService, asyncio.Server]:
    """A resolver and a server that says these bytes to everybody."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return await PkarrDiscovery(url, publish=False).start(site(2)), server


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


_GOOD = SignedPacket.sign(key(1), fitting_packet(info(1, HERE)), 7)
_OTHER = SignedPacket.sign(key(3), fitting_packet(info(3, HERE)), 7)
_EMPTY = SignedPacket.sign(key(1), fitting_packet(info(1)), 7)


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b""),
        http(200, _GOOD.to_relay_payload()[:-1]),
        http(200, _OTHER.to_relay_payload()),
        http(200, _EMPTY.to_relay_payload()),
        http(200, bytes(5000)),
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc",
    ],
)
async def test_bad_answer_is_a_protocol_error_and_counted(answer: bytes) -> None:
    """Unsigned, foreign, empty and broken answers raise one error and count as malformed."""
    service, server = await resolver(answer)
    try:
        with pytest.raises(RemoteProtocolError):
            await ask(service, NODE)
    finally:
        server.close()
    assert (service.counters.malformed, service.counters.found) == (1, 0)


@pytest.mark.parametrize("status", [400, 301, 500])
async def test_refusing_relay_is_an_os_error(status: int) -> None:
    """Neither redirects nor errors are taken for a statement about the node."""
    service, server = await resolver(http(status, b"no"))
    try:
        with pytest.raises(OSError, match=f"answered {status}"):
            await ask(service, NODE)
    finally:
        server.close()
    assert service.counters.failed == 1


async def test_silent_relay_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request ends by itself."""
    monkeypatch.setattr("iroh_py.discovery.pkarr.REQUEST_TIMEOUT", 0.05)
    clients: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: clients.append(writer), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    service = await PkarrDiscovery(url, publish=False).start(site(2))
    try:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"):
            await ask(service, NODE)
    finally:
        silent.close()
        for writer in clients:
            writer.transport.abort()


async def test_switched_off_half_does_nothing(server: DiscoveryServer) -> None:
    """A pure publisher asks nobody; a pure resolver tells nobody."""
    server.store.put(_GOOD)
    publisher = await PkarrDiscovery(server.pkarr_url, resolve=False).start(site(2))
    listener = await PkarrDiscovery(server.pkarr_url, publish=False).start(site(2))
    try:
        assert await ask(publisher, NODE) == []
        listener.publish(info(2, HERE))
        publisher.publish(info(2, THERE))
        await until(lambda: publisher.counters.published == 1)
        assert stored(server, 2) == info(2, THERE)
    finally:
        await publisher.close()
        await listener.close()


# --- TLS ---


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pkarr test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(private, hashes.SHA256())
    )
    pem = built.public_bytes(serialization.Encoding.PEM) + private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "pkarr.pem"
    path.write_bytes(pem)
    return path


async def test_https_relay_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    """With its own authority as an option it works; without, the certificate is refused."""
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    async with DiscoveryServer(ssl=context) as server:
        assert server.pkarr_url.startswith("https://")
        server.store.put(_GOOD)
        trusting = ssl.create_default_context(cafile=str(path))
        good = await PkarrDiscovery(server.pkarr_url, publish=False, ssl=trusting).start(site(2))
        assert [f.info for f in await ask(good, NODE)] == [info(1, HERE)]
        strict = await PkarrDiscovery(server.pkarr_url, publish=False).start(site(2))
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(strict, NODE)


# --- small parts ---


def test_base_url_is_taken_apart() -> None:
    """Host, port, path and Host field, for names and addresses."""
    assert BaseUrl.parse("https://dns.iroh.link/pkarr/") == BaseUrl(
        True, "dns.iroh.link", 443, "/pkarr", "dns.iroh.link"
    )
    assert BaseUrl.parse("http://[2001:db8::1]:8080") == BaseUrl(
        False, "2001:db8::1", 8080, "", "[2001:db8::1]:8080"
    )


@pytest.mark.parametrize(
    "text", ["ftp://x/", "dns.iroh.link", "http://", "http://x:y/", "http://x/?a", "http://u@x/"]
)
def test_other_urls_are_refused(text: str) -> None:
    """The error comes when the option is written, not at the first request."""
    with pytest.raises(LocalProtocolError):
        PkarrDiscovery(text)


async def test_first_success_of_a_race_counts() -> None:
    """Failures pass the turn on at once; the slower attempt is cancelled."""
    cancelled = asyncio.Event()

    async def fails() -> int:
        raise OSError("no")

    async def hangs() -> int:
        try:
            await asyncio.get_running_loop().create_future()
            return 0
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def wins() -> int:
        return 7

    begun = asyncio.get_running_loop().time()
    assert await first_success([fails, hangs, wins], [0.0, 60.0, 0.0]) == 7
    assert asyncio.get_running_loop().time() - begun < 1.0
    assert cancelled.is_set()


async def test_race_without_winner_tells_the_last_failure() -> None:
    """Every attempt was made, and other exceptions than the two expected kinds pass through."""

    def failing(error: Exception) -> Callable[[], asyncio.Future[int]]:
        def attempt() -> asyncio.Future[int]:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            future.set_exception(error)
            return future

        return attempt

    with pytest.raises(DiscoveryError, match="second"):
        await first_success([failing(OSError("first")), failing(DiscoveryError("second"))], [0.0, 9.0])
    with pytest.raises(ZeroDivisionError):
        await first_success([failing(ZeroDivisionError()), failing(OSError())], [0.0, 9.0])
