"""The web pages of a relay, and its entry for relay clients."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from relay_kit import PATIENCE, UPGRADE, V3Client, eventually, http_get, key, relay

from iroh_py.errors import ClosedError, LocalProtocolError
from iroh_py.proto.relay import v3
from iroh_py.proto.relay.handshake import client_info
from iroh_py.relay import RelayConfig, RelayServer

_KEY = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize("path", ["/ping", "/relay/probe", "/derp/probe"])
async def test_latency_probe_is_empty_and_open_to_browsers(path: str) -> None:
    """Old and new probe paths answer 200 without a body."""
    async with relay() as server:
        status, headers, body = await http_get(server, path)
    assert (status, body) == (200, b"")
    assert headers["access-control-allow-origin"] == "*"
    assert headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("question", "answer"),
    [("X-Tailscale-Challenge", "x-tailscale-response"), ("X-Iroh-Challenge", "x-iroh-response")],
)
async def test_captive_portal_check_echoes_the_challenge(question: str, answer: str) -> None:
    """Both generations' header names work."""
    async with relay() as server:
        status, headers, body = await http_get(server, "/generate_204", f"{question}: ts_relay.example-1")
    assert (status, body) == (204, b"")
    assert headers[answer] == "response ts_relay.example-1"


@pytest.mark.parametrize("challenge", ["x" * 64, "a b", "<script>", ""])
async def test_captive_portal_check_echoes_nothing_suspicious(challenge: str) -> None:
    """A challenge that is too long or has other characters is not repeated."""
    async with relay() as server:
        status, headers, _ = await http_get(server, "/generate_204", f"X-Iroh-Challenge: {challenge}")
    assert status == 204
    assert "x-iroh-response" not in headers


@pytest.mark.parametrize("path", ["/", "/index.html"])
async def test_front_page_is_html(path: str) -> None:
    """Somebody who looks sees what this is."""
    async with relay() as server:
        status, headers, body = await http_get(server, path)
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"iroh relay" in body


async def test_robots_are_sent_away() -> None:
    """No search engine indexes a relay."""
    async with relay() as server:
        assert (await http_get(server, "/robots.txt"))[2] == b"User-agent: *\nDisallow: /\n"


async def test_health_page_is_json() -> None:
    """The health page says that all is well, and which version this is."""
    async with relay() as server:
        status, headers, body = await http_get(server, "/healthz")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body).keys() == {"status", "version", "git_hash"}
    assert json.loads(body)["status"] == "ok"


async def test_unknown_path_is_not_found() -> None:
    """Other paths and methods get a plain 404, and HEAD no body."""
    async with relay() as server:
        assert (await http_get(server, "/nothing"))[::2] == (404, b"Not Found")
        assert (await http_get(server, "/", method="POST"))[0] == 404
        status, headers, body = await http_get(server, "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


async def test_metrics_are_prometheus_text() -> None:
    """Gauges and counters follow what happens."""
    async with relay() as server:
        await V3Client.connect(server, key(1))
        status, headers, body = await http_get(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = body.decode().splitlines()
    assert "iroh_relay_nodes 1" in lines
    assert "# TYPE iroh_relay_logins_total counter" in lines
    assert "iroh_relay_logins_total 1" in lines
    assert all(len(line.split()) == 2 for line in lines if not line.startswith("#"))


async def test_metrics_on_their_own_port_leave_the_main_one() -> None:
    """With a separate listener the public port keeps silent about the numbers."""
    async with relay(metrics_bind=(("127.0.0.1", 0),)) as server:
        assert (await http_get(server, "/metrics"))[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["upgrade: h2c"],
        ["upgrade: websocket"],
        ["upgrade: websocket", _KEY],
        ["upgrade: websocket", "sec-websocket-version: 13"],
        ["upgrade: websocket", "sec-websocket-key: short", "sec-websocket-version: 13"],
        ["upgrade: websocket", _KEY, "sec-websocket-version: 13", "sec-websocket-protocol: chat"],
    ],
    ids=["none", "other", "bare", "no-version", "no-key", "bad-key", "other-subprotocol"],
)
async def test_relay_path_refuses_what_it_does_not_speak(headers: list[str]) -> None:
    """No upgrade, another one, or an incomplete websocket request: 400 without a body."""
    async with relay() as server:
        status, _, body = await http_get(server, "/relay", *headers)
    assert (status, body) == (400, b"")


async def test_other_websocket_version_is_told_the_right_one() -> None:
    """RFC 6455 wants the supported version in the refusal."""
    async with relay() as server:
        status, headers, _ = await http_get(
            server, "/relay", "upgrade: websocket", _KEY, "sec-websocket-version: 8"
        )
    assert (status, headers["sec-websocket-version"]) == (400, "13")


@pytest.mark.parametrize("path", ["/relay", "/derp"])
async def test_native_upgrade_needs_no_connection_header(path: str) -> None:
    """Real clients send three lines and nothing else, to the new or the old path."""
    async with relay() as server:
        await V3Client.connect(server, key(1), request=UPGRADE.replace(b"/relay", path.encode()))
        assert server.stats().nodes == 1


async def test_frames_before_the_101_are_refused() -> None:
    """A client must wait for the answer."""
    async with relay() as server:
        reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
        writer.write(UPGRADE + v3.encode(client_info(key(1))))
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80),
        b"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
    ],
    ids=["tls-to-plain", "no-host", "huge-header", "garbage"],
)
async def test_what_is_no_http_request_gets_an_error_and_is_closed(request_bytes: bytes) -> None:
    """Nothing but a well-formed request of reasonable size is read further."""
    async with relay() as server:
        reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
        writer.write(request_bytes)
        async with asyncio.timeout(PATIENCE):
            try:
                answer = await reader.read()
            except ConnectionResetError:  # it closed with our bytes unread
                answer = b"HTTP/1.1 4"
        writer.close()
        assert answer.startswith(b"HTTP/1.1 4")
        assert server.stats()["bad_requests"] == 1


async def test_slow_request_is_cut_off() -> None:
    """Half a request holds a connection only for the handshake time."""
    async with relay(limits={"handshake_timeout": 0.1}) as server:
        reader, writer = await asyncio.open_connection(server.url.host, server.url.port)
        writer.write(UPGRADE[:20])
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        await eventually(lambda: server.stats().connections == 0, "it is forgotten")


async def test_upgraded_client_that_never_logs_in_is_cut_off() -> None:
    """So does an upgrade without a login."""
    async with relay(limits={"handshake_timeout": 0.1}) as server:
        client = await V3Client.connect(server)
        assert await client.ended() == b""
        assert server.stats()["login_failures"] == 1


async def test_url_names_where_it_listens() -> None:
    """The URL is dialable: loopback for a wildcard, brackets for IPv6, what was configured else."""
    server = RelayServer(RelayConfig(bind=(("0.0.0.0", 0), ("::", 0)), stun_bind=()))
    with pytest.raises(ClosedError):
        _ = server.url
    async with server:
        assert server.url.startswith("http://127.0.0.1:")
    async with RelayServer(RelayConfig(bind=(("::1", 0),), stun_bind=())) as v6:
        assert v6.url.startswith("http://[::1]:")
    with pytest.raises(ClosedError):
        server.stats()


def test_impossible_options_are_refused() -> None:
    """A relay without any address, or with half a certificate, cannot be meant."""
    with pytest.raises(LocalProtocolError, match="address"):
        RelayConfig(bind=())
    with pytest.raises(LocalProtocolError, match="private_key"):
        RelayConfig(certificate=Path("x"))
