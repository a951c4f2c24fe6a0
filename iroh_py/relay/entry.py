"""The HTTP side of a relay's port: answers pages, and hands upgraded connections to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import h11

from iroh_py.proto.relay.frames import CHALLENGE_LENGTH
from iroh_py.proto.relay.upgrade import RELAY_PATHS, Generation, answer_upgrade
from iroh_py.relay import pages
from iroh_py.relay.pages import Page
from iroh_py.relay.session import Session
from iroh_py.relay.session_v1 import V1Session
from iroh_py.relay.session_v3 import V3Session
from iroh_py.relay.sockets import tune_relay_socket

if TYPE_CHECKING:
    from iroh_py.relay.hub import Hub


#: A token is one field; parsing is linear, but strangers send the query.
_MAX_QUERY_FIELDS = 16

#: The answer to a GET of a path with these headers (lower-case names).
PageSource = Callable[[str, dict[str, str]], Page]


class HttpEntry(asyncio.Protocol):
    """One accepted connection until it is answered or upgraded. Each connection carries one request.

    ``page`` answers every path but the relay's; ``relays`` is whether the relay lives on this listener.
    """

    def __init__(self, hub: Hub, page: PageSource, *, relays: bool = False) -> None:
        self._hub = hub
        self._page = page
        self._relays = relays
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=hub.limits.request_head)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in, or close it right away."""
        assert isinstance(transport, asyncio.Transport)
        if not self._hub.admit(transport):
            transport.abort()
            return
        self._transport = transport
        self._timer = self._hub.loop.call_later(self._hub.limits.handshake_timeout, self._timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out. After an upgrade the session gets this call instead."""
        if self._transport is not None:
            self._cancel_timer()
            self._hub.leave(self._transport)

    def data_received(self, data: bytes) -> None:
        """Read the request; anything that is none gets a 400."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._received += len(data)
        if self._received > self._hub.limits.request_head:
            # h11 looks at its own limit only while a head is incomplete, and one read may bring 256 KiB.
            self._hub.counters.bad_requests += 1
            self._answer(transport, Page(431))
            return
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._hub.counters.bad_requests += 1
            self._answer(transport, Page(error.error_status_hint))
            return
        if isinstance(event, h11.Request):
            self._hub.counters.http_requests += 1
            self._handle_request(transport, event)

    def _handle_request(self, transport: asyncio.Transport, request: h11.Request) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        target = request.target.decode("latin-1")
        path, _, query = target.partition("?")
        if self._relays and path in RELAY_PATHS and request.method == b"GET":
            self._upgrade(transport, headers, query)
        elif request.method in (b"GET", b"HEAD"):
            path = urlsplit(target).path if target.startswith("http") else path
            self._answer(transport, self._page(path, headers), with_body=request.method != b"HEAD")
        else:
            self._answer(transport, pages.NOT_FOUND)

    def _upgrade(self, transport: asyncio.Transport, headers: dict[str, str], query: str) -> None:
        answer = answer_upgrade(headers)
        if answer.generation is None:
            self._answer(transport, Page(answer.status, answer.headers))
            return
        ended = isinstance(self._http.next_event(), h11.EndOfMessage)
        if not ended or self._http.trailing_data[0]:
            # A client that cannot wait for the 101 would have its frames lost by any proxy between us (7.1).
            self._answer(transport, Page(400))
            return
        response = h11.InformationalResponse(
            status_code=101, headers=[*answer.headers, *pages.SECURITY_HEADERS], reason=b"Switching Protocols"
        )
        self._write(transport, self._http.send(response))
        self._cancel_timer()
        tune_relay_socket(transport)
        transport.set_protocol(self._session(transport, answer.generation, _token(headers, query)))

    def _session(self, transport: asyncio.Transport, generation: Generation, token: str | None) -> Session:
        if generation.is_v3:
            return V3Session(self._hub, transport, token, websocket=generation.is_websocket)
        challenge = self._hub.rng.randbytes(CHALLENGE_LENGTH)
        return V1Session(self._hub, transport, token, generation=generation, challenge=challenge)

    def _answer(self, transport: asyncio.Transport, page: Page, *, with_body: bool = True) -> None:
        fields = [*page.headers, *pages.SECURITY_HEADERS, ("Connection", "close")]
        if page.status != 204:
            fields.append(("Content-Length", str(len(page.body))))
        response = h11.Response(status_code=page.status, headers=fields, reason=page.reason.encode())
        self._write(transport, self._http.send(response))
        if page.body and with_body:
            self._write(transport, self._http.send(h11.Data(data=page.body)))
        transport.close()

    def _write(self, transport: asyncio.Transport, data: bytes | None) -> None:
        if data:
            transport.write(data)

    def _timed_out(self) -> None:
        assert self._transport is not None
        self._hub.counters.bad_requests += 1
        self._transport.abort()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _token(headers: dict[str, str], query: str) -> str | None:
    """The bearer token: in a header, or from browsers in the query (11.2)."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    try:
        values = parse_qs(query, max_num_fields=_MAX_QUERY_FIELDS).get("token")
    except ValueError:  # more fields than that: nobody who has a token sends such a query
        return None
    return values[0] if values else None
