"""The HTTP side of a pkarr relay: PUT and GET of signed packets (PROTOCOL 9.4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11

from iroh_py.discovery.pkarr import CONTENT_TYPE
from iroh_py.discovery.store import PacketStore
from iroh_py.discovery.zone import read_packet
from iroh_py.errors import DiscoveryError, TicketError
from iroh_py.keys import NodeId
from iroh_py.proto.pkarr import MAX_PAYLOAD, SignedPacket

#: Bytes of a request's head; ours have some 200.
_MAX_HEAD = 8 * 1024
_READ_SIZE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


def answer(store: PacketStore, method: str, path: str, body: bytes) -> Answer:
    """What a request to a pkarr relay at ``/pkarr`` gets."""
    if path == "/healthcheck":
        return Answer(200, b"OK")
    prefix, _, z32 = path.rpartition("/")
    if prefix != "/pkarr":
        return Answer(404, b"pkarr packets are at /pkarr/<z-base-32 node id>\n")
    if method not in ("GET", "HEAD", "PUT"):
        return Answer(405, b"only GET and PUT\n")
    try:
        node_id = NodeId.from_z32(z32)
        return _put(store, node_id, body) if method == "PUT" else _get(store, node_id)
    except (TicketError, DiscoveryError) as error:
        return Answer(400, f"{error}\n".encode())


def _get(store: PacketStore, node_id: NodeId) -> Answer:
    packet = store.get(node_id)
    if packet is None:
        return Answer(404, b"nothing is known of this node\n")
    return Answer(200, packet.to_relay_payload(), CONTENT_TYPE)


def _put(store: PacketStore, node_id: NodeId, body: bytes) -> Answer:
    packet = SignedPacket.from_relay_payload(node_id, body)
    read_packet(packet.dns_packet)  # what does not parse could not be served by DNS either
    return Answer(204) if store.put(packet) else Answer(409, b"a newer packet is known\n")


async def serve_http(store: PacketStore, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request; the connection is closed after it. The caller sets the time limit."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
    try:
        request, body = await _read(connection, reader)
    except h11.RemoteProtocolError as error:
        await _send(connection, writer, Answer(error.error_status_hint))
        return
    if request is None:
        return
    method = request.method.decode("ascii")
    path = request.target.decode("latin-1").partition("?")[0]
    reply = Answer(413) if len(body) > MAX_PAYLOAD else answer(store, method, path, body)
    await _send(connection, writer, reply, with_body=method != "HEAD")


async def _read(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request | None, bytes]:
    """The request and its body, cut just above the limit; None if the client left."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                raise h11.RemoteProtocolError("no 100-continue here", error_status_hint=417)
            connection.receive_data(await reader.read(_READ_SIZE))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_PAYLOAD:
                return request, bytes(body)
        else:
            return request if isinstance(event, h11.EndOfMessage) else None, bytes(body)


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, reply: Answer, *, with_body: bool = True
) -> None:
    fields = [("Connection", "close"), ("X-Content-Type-Options", "nosniff")]
    if reply.status != 204:
        fields += [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    parts = [connection.send(h11.Response(status_code=reply.status, headers=fields))]
    if reply.body and with_body:
        parts.append(connection.send(h11.Data(data=reply.body)))
    writer.write(b"".join(part for part in parts if part))
    await writer.drain()
