"""The HTTP entry of the relay protocol, both sides (PROTOCOL.md 7.1 and 11.2).

The server side turns the headers of a request into a decision; the client side writes the request exactly
as real endpoints do (order and case included, some middleboxes care) and reads the answer with h11.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from iroh_py.errors import RelayError
from iroh_py.proto.relay.v1 import SUBPROTOCOL_V1, SUBPROTOCOL_V2, SUBPROTOCOLS
from iroh_py.proto.relay.websocket import accept_token

if TYPE_CHECKING:
    from iroh_py.addr import RelayUrl

RELAY_PATH = "/relay"
#: Where old clients look (7.10).
RELAY_PATHS = frozenset({RELAY_PATH, "/derp"})
NATIVE_UPGRADE = "iroh derp http"
WEBSOCKET_VERSION = "13"
#: An answer to an upgrade has a handful of headers; more than this is not a relay.
MAX_RESPONSE_HEAD = 16 * 1024


class Generation(enum.Enum):
    """What is spoken after the upgrade, and how it is framed."""

    V3_NATIVE = "v3"
    V3_WEBSOCKET = "v3-websocket"
    V1 = SUBPROTOCOL_V1
    V2 = SUBPROTOCOL_V2

    @property
    def is_v3(self) -> bool:
        """Whether the frames are those of generation 3."""
        return self in (Generation.V3_NATIVE, Generation.V3_WEBSOCKET)

    @property
    def is_websocket(self) -> bool:
        """Whether frames travel as websocket messages."""
        return self is not Generation.V3_NATIVE


@dataclass(frozen=True, slots=True)
class UpgradeAnswer:
    """What a relay server answers: status 101 with a generation, or 400 with None."""

    status: int
    generation: Generation | None
    headers: tuple[tuple[str, str], ...]


def answer_upgrade(headers: Mapping[str, str]) -> UpgradeAnswer:
    """Decide about a request for the relay path; ``headers`` has lower-case names. Never raises."""
    upgrade = headers.get("upgrade", "").strip().lower()
    if upgrade == NATIVE_UPGRADE:
        return UpgradeAnswer(101, Generation.V3_NATIVE, (("Upgrade", NATIVE_UPGRADE),))
    if upgrade != "websocket":
        return UpgradeAnswer(400, None, ())
    return _answer_websocket(headers)


def _answer_websocket(headers: Mapping[str, str]) -> UpgradeAnswer:
    version = headers.get("sec-websocket-version")
    if version is not None and version.strip() != WEBSOCKET_VERSION:
        return UpgradeAnswer(400, None, (("Sec-WebSocket-Version", WEBSOCKET_VERSION),))
    try:
        token = accept_token(headers.get("sec-websocket-key", ""))
    except RelayError:
        return UpgradeAnswer(400, None, ())
    offer = headers.get("sec-websocket-protocol")
    generation = Generation.V3_WEBSOCKET if offer is None else _pick(offer)
    if version is None or generation is None:
        return UpgradeAnswer(400, None, ())
    accepted = [("Upgrade", "websocket"), ("Connection", "upgrade"), ("Sec-WebSocket-Accept", token)]
    if not generation.is_v3:
        accepted.append(("Sec-WebSocket-Protocol", generation.value))
    return UpgradeAnswer(101, generation, tuple(accepted))


def _pick(offer: str) -> Generation | None:
    offered = {name.strip() for name in offer.split(",")}
    return next((Generation(name) for name in SUBPROTOCOLS if name in offered), None)


def host_header(url: RelayUrl) -> str:
    """The Host header: no trailing dot, brackets around IPv6, the port only when the URL spells it out."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host if url.port == (443 if url.is_tls else 80) else f"{host}:{url.port}"


def native_request(url: RelayUrl, token: str | None = None) -> bytes:
    """The upgrade request of generation 3, byte for byte as 0.28 and 0.35 send it (plus any token)."""
    lines = [f"GET {RELAY_PATH} HTTP/1.1", f"upgrade: {NATIVE_UPGRADE}", f"host: {host_header(url)}"]
    return _request(lines, token)


def websocket_request(url: RelayUrl, key: str, subprotocols: str, token: str | None = None) -> bytes:
    """The websocket request of 1.x, or of generation 3 when ``subprotocols`` is empty; ``key`` is base64."""
    lines = [
        f"GET {RELAY_PATH} HTTP/1.1",
        f"host: {host_header(url)}",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-key: {key}",
        f"sec-websocket-version: {WEBSOCKET_VERSION}",
    ]
    if subprotocols:
        lines.append(f"sec-websocket-protocol: {subprotocols}")
    return _request(lines, token)


def _request(lines: list[str], token: str | None) -> bytes:
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True, slots=True)
class Switched:
    """The relay switched protocols: the headers of its answer and the bytes that came behind it."""

    headers: dict[str, str]
    rest: bytes


class UpgradeResponse:
    """Reads the answer to an upgrade request, however it is split."""

    def __init__(self, url: RelayUrl) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_RESPONSE_HEAD)
        # h11 has to believe that it wrote the request; ours was written by hand to keep the original's order.
        fields = [("host", host_header(url)), ("upgrade", NATIVE_UPGRADE)]
        self._http.send(h11.Request(method="GET", target=RELAY_PATH, headers=fields))
        self._http.send(h11.EndOfMessage())

    def read(self, data: bytes) -> Switched | None:
        """None while the answer is incomplete. Raises RelayError unless it is a 101."""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise RelayError(f"the relay's HTTP answer does not parse: {error}") from error
        if event is h11.NEED_DATA:
            return None
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            return Switched(headers, self._http.trailing_data[0])
        status = getattr(event, "status_code", "nothing")
        raise RelayError(f"the relay answered {status} instead of 101 Switching Protocols")
