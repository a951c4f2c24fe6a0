"""The port mapper against routers that speak PCP, NAT-PMP, UPnP, or nothing (PROTOCOL.md 10)."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.errors import PortmapError
from iroh_py.io.portmap import PortMapper, gateway_of, probe_portmap
from iroh_py.network import Addr, Family, NetworkState
from iroh_py.proto import natpmp, pcp, upnp
from iroh_py.proto.netcheck.report import PortmapProbe
from iroh_py.testing import SimHost, SimNet, virtual

GATEWAY = "198.51.100.254"
EXTERNAL = "192.0.2.9"
PORT = 4444
DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>/control</controlURL></service></serviceList></device></root>"""


class Router:
    """A router at the default gateway's address; ``speaks`` says which languages."""

    def __init__(self, host: SimHost, *speaks: str, lifetime: int = 3600) -> None:
        self.host = host
        self.speaks = set(speaks)
        self.lifetime = lifetime
        self.external_port = 5555
        self.mappings: dict[int, int] = {}
        self.released: list[int] = []
        self.requests = 0
        self.lease_refused = False
        self._udp = host.open_udp(Family.V4, "0.0.0.0", pcp.PORT, self._mapping_request)
        self._ssdp = host.open_udp(Family.V4, "0.0.0.0", upnp.PORT, self._search)
        host.listen_tcp(5000, self._http)

    def _mapping_request(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            self.requests += 1
            answer = self._pcp(data) if data[0] == 2 else self._nat_pmp(data)
            if answer is not None:
                self._udp.send([answer], source)

    def _pcp(self, data: bytes) -> bytes | None:
        if "pcp" not in self.speaks:
            return None
        request = pcp.parse_request(data)
        if isinstance(request, pcp.AnnounceRequest):
            return pcp.encode_response(pcp.AnnounceResponse(1))
        external = self._map(request.internal_port, request.lifetime)
        return pcp.encode_response(
            pcp.MapResponse(request.nonce, request.internal_port, external, EXTERNAL, self.lifetime, 1)
        )

    def _nat_pmp(self, data: bytes) -> bytes | None:
        if "nat_pmp" not in self.speaks:
            return None
        request = natpmp.parse_request(data)
        if isinstance(request, natpmp.ExternalAddressRequest):
            return natpmp.encode_response(natpmp.ExternalAddressResponse(EXTERNAL, 1))
        external = self._map(request.internal_port, request.lifetime)
        return natpmp.encode_response(natpmp.MapResponse(request.internal_port, external, self.lifetime, 1))

    def _map(self, internal: int, lifetime: int) -> int:
        if lifetime == 0:
            self.released.append(internal)
            self.mappings.pop(internal, None)
            return 0
        return self.mappings.setdefault(internal, self.external_port)

    def _search(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            if "upnp" in self.speaks and data.startswith(b"M-SEARCH"):
                answer = f"HTTP/1.1 200 OK\r\nLOCATION: http://{GATEWAY}:5000/desc.xml\r\nST: x\r\n\r\n"
                self._ssdp.send([answer.encode()], source)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = (await reader.readexactly(int(length[1]))).decode() if length else ""
        status, answer = (200, DESCRIPTION) if head.startswith("GET") else self._soap(head, body)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
        await writer.drain()
        writer.close()

    def _soap(self, head: str, body: str) -> tuple[int, str]:
        values = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        if "GetExternalIPAddress" in head:
            return 200, f"<r><NewExternalIPAddress>{EXTERNAL}</NewExternalIPAddress></r>"
        if "DeletePortMapping" in head:
            self.released.append(int(values["NewExternalPort"]))
            return 200, "<r/>"
        if self.lease_refused and values["NewLeaseDuration"] != "0":
            return 500, "<f><errorCode>725</errorCode></f>"
        self.mappings[int(values["NewInternalPort"])] = int(values["NewExternalPort"])
        return 200, "<r/>"


@asynccontextmanager
async def mapper(host: SimHost) -> AsyncIterator[tuple[PortMapper, list[Addr | None]]]:
    """A port mapper, and the external addresses that it told, in order."""
    news: list[Addr | None] = []
    made = PortMapper(
        host,
        state=lambda: host.state,
        port=lambda: PORT,
        rng=random.Random(1),
        on_change=lambda: news.append(made.external),
    )
    made.start()
    try:
        yield made, news
    finally:
        await made.close()


def net_with_router(*speaks: str, lifetime: int = 3600) -> tuple[SimHost, Router]:
    net = SimNet()
    return net.host("laptop", "198.51.100.10"), Router(net.host("gw", GATEWAY), *speaks, lifetime=lifetime)


@virtual()
@pytest.mark.parametrize(("language", "port"), [("pcp", 5555), ("nat_pmp", 5555), ("upnp", PORT)])
async def test_mapping_is_asked_for_and_given_back(language: str, port: int) -> None:
    """Whatever the router speaks, its external address becomes ours, and is released at the end."""
    host, router = net_with_router(language)
    async with mapper(host) as (m, news):
        await asyncio.sleep(4)
        assert m.external == (EXTERNAL, port)
        assert news == [(EXTERNAL, port)]
        assert m.probe is not None
        assert getattr(m.probe, language)
    await asyncio.sleep(0.1)
    assert router.released == [port if language == "upnp" else PORT]


@virtual()
async def test_router_that_speaks_nothing_is_asked_rarely() -> None:
    """No answer, no mapping, and no storm of requests."""
    host, router = net_with_router()
    async with mapper(host) as (m, news):
        await asyncio.sleep(300)
        assert m.external is None
        assert news == []
        assert m.attempts <= 4
        assert router.requests <= 4 * 4


@virtual()
async def test_no_gateway_nothing_is_sent() -> None:
    """A host without a default route has nobody to ask."""
    net = SimNet()
    host = net.host("lonely", interfaces={"eth0": None})
    async with mapper(host) as (m, _):
        await asyncio.sleep(60)
        assert m.attempts == 0
    assert gateway_of(NetworkState()) is None
    assert await probe_portmap(host, host.state) is None


@virtual()
async def test_mapping_is_renewed_before_it_ends() -> None:
    """At half of its lifetime; it stays the same address for hours."""
    host, router = net_with_router("pcp", lifetime=100)
    async with mapper(host) as (m, news):
        await asyncio.sleep(1000)
        assert m.external == (EXTERNAL, 5555)
        assert len(news) == 1
        assert 10 <= router.requests <= 30


@virtual()
async def test_mapping_that_cannot_be_renewed_is_dropped_and_asked_for_again() -> None:
    """A router that restarted without its memory."""
    host, router = net_with_router("pcp", lifetime=100)
    async with mapper(host) as (m, news):
        await asyncio.sleep(10)
        router.speaks.clear()
        await asyncio.sleep(120)
        assert m.external is None
        router.speaks.add("pcp")
        await asyncio.sleep(130)
        assert m.external == (EXTERNAL, 5555)
        assert news == [(EXTERNAL, 5555), None, (EXTERNAL, 5555)]


@virtual()
async def test_network_change_ends_the_mapping_at_once_and_asks_the_new_router() -> None:
    """Trap 21: the old router's address must not be told from another network."""
    host, router = net_with_router("pcp")
    async with mapper(host) as (m, news):
        await asyncio.sleep(1)
        host.interface().renumber("198.51.100.77")
        m.handle_network_change()
        assert m.external is None
        await asyncio.sleep(1)
        assert m.external == (EXTERNAL, 5555)
        assert news == [(EXTERNAL, 5555), None, (EXTERNAL, 5555)]
        requests = router.requests
        m.handle_network_change()  # nothing changed: nothing happens
        await asyncio.sleep(1)
        assert router.requests == requests


@virtual()
async def test_router_that_grants_only_permanent_leases_is_understood() -> None:
    """UPnP error 725."""
    host, router = net_with_router("upnp")
    router.lease_refused = True
    async with mapper(host) as (m, _):
        await asyncio.sleep(5)
        assert m.external == (EXTERNAL, PORT)


@virtual()
async def test_probe_tells_what_the_router_speaks() -> None:
    """All three are asked at the same time."""
    host, _ = net_with_router("pcp", "upnp")
    started = host.time()
    assert await probe_portmap(host, host.state) == PortmapProbe(upnp=True, pcp=True, nat_pmp=False)
    assert host.time() - started < 1.5


@virtual()
async def test_stranger_that_answers_in_the_routers_place_is_not_believed() -> None:
    """Only the gateway's address counts."""
    net = SimNet()
    host = net.host("laptop", "198.51.100.10")
    router = Router(net.host("gw", GATEWAY))
    evil = net.host("evil", "198.51.100.66")
    sock = evil.open_udp(Family.V4, "0.0.0.0", pcp.PORT, lambda batch: None)

    def tap(sender: SimHost, src: Addr, dst: Addr, payload: bytes) -> None:
        if sender is host and dst == (GATEWAY, pcp.PORT) and payload[0] == 2:
            request = pcp.parse_request(payload)
            if isinstance(request, pcp.MapRequest):
                answer = pcp.MapResponse(request.nonce, PORT, 6666, "192.0.2.66", 3600, 1)
                sock.send([pcp.encode_response(answer)], src)

    net.taps.append(tap)
    async with mapper(host) as (m, _):
        await asyncio.sleep(5)
        assert m.external is None
    assert router.requests


# --- UPnP's texts ---

LOCATION = f"http://{GATEWAY}:5000/desc.xml"


def test_description_names_the_service_and_its_url() -> None:
    """Relative URLs are relative to the description."""
    service = upnp.parse_description(DESCRIPTION.encode(), LOCATION)
    assert service == upnp.Service(upnp.SERVICES[1], f"http://{GATEWAY}:5000/control")


@pytest.mark.parametrize(
    "location",
    [
        "http://198.51.100.66:5000/desc.xml",
        f"https://{GATEWAY}/desc.xml",
        "file:///etc/passwd",
        f"http://{GATEWAY}:99999/",
        f"http://user@{GATEWAY}.evil/",
        "",
    ],
)
def test_location_elsewhere_is_refused(location: str) -> None:
    """Else anybody on the network could make us fetch any URL."""
    answer = f"HTTP/1.1 200 OK\r\nLocation: {location}\r\n\r\n".encode()
    with pytest.raises(PortmapError):
        upnp.parse_search_response(answer, GATEWAY)


def test_control_url_elsewhere_is_refused() -> None:
    """Neither may the description lead away."""
    text = DESCRIPTION.replace("/control", "http://198.51.100.66/control")
    with pytest.raises(PortmapError):
        upnp.parse_description(text.encode(), LOCATION)


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        "<a>" * 1000,
        "<a>" + "x" * 300_000 + "</a>",
        "<a>",
        "",
        '<?xml version="1.0" encoding="nonsense"?><a/>',
    ],
)
def test_hostile_xml_is_refused(document: str) -> None:
    """No entities, no depth, no size."""
    with pytest.raises(PortmapError):
        upnp.parse_description(document.encode(), LOCATION)


def test_error_of_the_router_is_told() -> None:
    """Its code and text are in the exception."""
    body = b"<s><errorCode>718</errorCode><errorDescription>ConflictInMapping</errorDescription></s>"
    with pytest.raises(PortmapError, match="error 718 ConflictInMapping"):
        upnp.parse_soap_answer(500, body)


def test_arguments_cannot_break_out_of_the_call() -> None:
    """What we send is escaped."""
    _, body = upnp.soap_call(upnp.Service("t", LOCATION), "Add", {"NewX": "<a>&"})
    assert b"<NewX>&lt;a&gt;&amp;</NewX>" in body


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_the_protocol_error(data: bytes) -> None:
    """Routers send anything."""
    for parse in (
        lambda: upnp.parse_search_response(data, GATEWAY),
        lambda: upnp.parse_description(data, LOCATION),
        lambda: upnp.parse_soap_answer(200, data),
    ):
        try:
            parse()
        except PortmapError:
            continue
