"""One HTTP/1.1 request over a network's TCP, bounded in time by the caller and in size here (RFC 9112)."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Mapping
from dataclasses import dataclass

import h11

from iroh_py.errors import RemoteProtocolError
from iroh_py.network import Network

#: Bodies of a probe are empty, a router's description has some kilobytes.
MAX_BODY = 256 * 1024
#: Status line and fields of an answer.
MAX_HEAD = 32 * 1024
_READ_SIZE = 16 * 1024


class HttpError(RemoteProtocolError):
    """An answer that is no HTTP, or too large."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer; header names in lower case. ``seconds`` passed between the request and the answer's head."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    #: Our own address of the connection.
    local_ip: str = ""


async def request(
    network: Network,
    ip: str,
    port: int,
    path: str,
    *,
    host: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
) -> HttpResponse:
    """Send one request to an address and read the whole answer; redirects are not followed.

    ``host`` is the Host field. The caller sets the time limit. Raises OSError, HttpError.
    """
    reader, writer = await network.connect_tcp(ip, port, ssl=ssl, server_hostname=server_hostname)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        fields = {"Host": host, "Connection": "close", **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        head = h11.Request(method=method, target=path, headers=list(fields.items()))
        parts = [connection.send(head), connection.send(h11.Data(data=body)) if body else b""]
        parts.append(connection.send(h11.EndOfMessage()))
        writer.write(b"".join(part for part in parts if part))
        local = writer.get_extra_info("sockname")
        return await _read(network, connection, reader, str(local[0]) if local else "")
    except h11.ProtocolError as error:
        raise HttpError(f"{host} answered no proper HTTP: {error}") from error
    finally:
        writer.transport.abort()


async def _read(
    network: Network, connection: h11.Connection, reader: asyncio.StreamReader, local_ip: str
) -> HttpResponse:
    asked = network.time()
    response: h11.Response | None = None
    seconds = 0.0
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_SIZE))
        elif isinstance(event, h11.Response):
            response, seconds = event, network.time() - asked
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise HttpError(f"an answer of more than {MAX_BODY} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            break
    if response is None:
        raise HttpError("the connection was closed without an answer")
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    return HttpResponse(response.status_code, fields, bytes(body), seconds, local_ip)
