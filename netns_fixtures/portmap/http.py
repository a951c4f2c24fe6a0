"""The web server of UPnP: one request per connection, through h11."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import h11

from netns_fixtures.portmap.soap import MAX_BODY

#: A client on the same cable has its request out at once; another one is hung up on.
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request of the address ``source``. Header names are in lower case."""

    source: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


#: Status and body; None: hang up without an answer.
HttpReply = tuple[int, bytes] | None


async def serve_http(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[HttpRequest], HttpReply]
) -> None:
    """Answer one request, and close."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BODY)
    try:
        async with asyncio.timeout(_TIMEOUT):
            request = await _read(connection, reader, writer.get_extra_info("peername")[0])
            reply = answer(request) if request is not None else (400, b"")
            if reply is not None:
                _write(connection, writer, *reply)
                await writer.drain()
    except (OSError, h11.ProtocolError):  # TimeoutError is one: a client that hangs, or is gone
        pass
    finally:
        writer.close()


async def _read(connection: h11.Connection, reader: asyncio.StreamReader, source: str) -> HttpRequest | None:
    """The request; None for one that is malformed or too large."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                return None
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return HttpRequest(
                source, head.method.decode(), head.target.decode("latin-1"), headers, bytes(body)
            )
        else:
            return None  # the client closed before its request was complete


def _write(connection: h11.Connection, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    headers = [
        ("Content-Type", 'text/xml; charset="utf-8"'),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    for event in (
        h11.Response(status_code=status, headers=headers),
        h11.Data(data=body),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(event) or b"")
