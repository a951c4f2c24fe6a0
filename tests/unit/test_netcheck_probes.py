"""Probes over real sockets on loopback: HTTPS with TLS, captive portal, a whole endpoint with its relay."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from iroh_py import Endpoint, EndpointConfig, LocalProtocolError
from iroh_py.errors import TicketError
from iroh_py.io.http import MAX_BODY, HttpError, request
from iroh_py.io.probes import ProbeError, captive_portal, https_latency
from iroh_py.io.system import SystemNetwork
from iroh_py.relay import RelayConfig, RelayServer
from iroh_py.relay_map import MAX_RELAYS, RelayNode, relay_map
from iroh_py.relay_url import RelayUrl

LOOPBACK = "127.0.0.1"
PATIENCE = 10.0


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


async def test_https_probe_measures_a_relay_with_tls(tmp_path: Path) -> None:
    """Trap 11: it really works, with the certificate checked."""
    cert, key = certificate(tmp_path)
    config = RelayConfig(bind=((LOOPBACK, 0),), stun_bind=(), certificate=cert, private_key=key)
    async with RelayServer(config) as relay:
        trusting = ssl.create_default_context(cafile=str(cert))
        assert 0 < await https_latency(SystemNetwork(), relay.url, [LOOPBACK], trusting) < 1
        with pytest.raises(ProbeError, match="certificate"):
            await https_latency(SystemNetwork(), relay.url, [LOOPBACK], ssl.create_default_context())


async def test_second_address_is_tried_when_the_first_refuses() -> None:
    """A relay with a dead address family still has a latency."""
    async with RelayServer(RelayConfig(bind=((LOOPBACK, 0),), stun_bind=())) as relay:
        assert await https_latency(SystemNetwork(), relay.url, ["127.0.0.9", LOOPBACK], None) > 0


async def test_dead_relay_fails_with_a_sentence() -> None:
    """Refused is an answer."""
    with pytest.raises(ProbeError, match="HTTPS probe of"):
        await https_latency(SystemNetwork(), RelayUrl("http://127.0.0.1:1/"), [LOOPBACK], None)


async def test_real_relay_is_no_captive_portal() -> None:
    """It answers the challenge."""
    async with RelayServer(RelayConfig(bind=((LOOPBACK, 0),), stun_bind=())) as relay:
        assert await captive_portal(SystemNetwork(), relay.url, [LOOPBACK]) is False


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nX-Tailscale-Response: response other\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_anything_else_is_a_captive_portal(answer: bytes) -> None:
    """Whoever does not know the answer is not the relay."""
    async with await asyncio.start_server(answering(answer), LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = RelayUrl(f"http://{LOOPBACK}:{port}/")
        assert await captive_portal(SystemNetwork(), url, [LOOPBACK]) is True


async def test_endless_answer_is_cut_off() -> None:
    """Memory is ours."""
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * MAX_BODY)
    async with await asyncio.start_server(answering(endless), LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(HttpError, match="more than"):
            await request(SystemNetwork(), LOOPBACK, port, "/", host="x")


def answering(answer: bytes):  # type: ignore[no-untyped-def]  # asyncio's callback type has no public name
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return serve


async def test_endpoint_finds_its_home_relay_and_public_address_on_loopback() -> None:
    """STUN, relay, report: all over real sockets."""
    config = RelayConfig(bind=((LOOPBACK, 0),), stun_bind=((LOOPBACK, 0),))
    async with RelayServer(config) as relay:
        assert relay.stun_addr is not None
        node = RelayNode(relay.url, stun_port=relay.stun_addr[1])
        options = EndpointConfig(relays=(node,), portmap=False)
        async with await Endpoint.bind(bind=[(LOOPBACK, 0)], config=options) as endpoint:
            addr = await endpoint.online(PATIENCE)
            assert addr.relay_url == relay.url
            assert addr.direct_addresses == frozenset(endpoint.bound_addrs)
            relays = endpoint._driver.relays
            assert relays is not None
            async with asyncio.timeout(PATIENCE):
                while relays.report is None:  # noqa: ASYNC110  # a report is no event for users
                    await asyncio.sleep(0.01)
            assert relays.report.udp
            assert relays.report.global_v4 == endpoint.bound_addrs[0]


@pytest.mark.parametrize("relays", [("ftp://x/",), ("nonsense",)])
def test_bad_relay_is_refused_before_anything_is_opened(relays: tuple[RelayUrl, ...]) -> None:
    """Where it was written, not in the middle of bind()."""
    with pytest.raises(TicketError):
        EndpointConfig(relays=relays)


def test_relays_are_ordered_and_unique() -> None:
    """All nodes that know the same relays have them in the same order."""
    nodes = relay_map(["http://b.test/", RelayNode(RelayUrl("http://a.test/"), stun_port=1), "http://b.test"])
    assert [str(node.url) for node in nodes] == ["http://a.test./", "http://b.test./"]
    assert nodes[0].stun_port == 1
    with pytest.raises(LocalProtocolError):
        relay_map(f"http://r{n}.test/" for n in range(MAX_RELAYS + 1))
    with pytest.raises(LocalProtocolError):
        RelayNode(RelayUrl("http://a.test/"), stun_port=None, stun_only=True)
