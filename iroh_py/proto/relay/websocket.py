"""Binary messages over a websocket: wsproto's frames with the relay's limits (PROTOCOL.md 7.1, 11.2)."""

from __future__ import annotations

import base64

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping
from wsproto.utilities import generate_accept_token

from iroh_py.errors import RelayError
from iroh_py.proto.relay.frames import MAX_FRAME_LENGTH

#: Frame type byte and payload.
MAX_MESSAGE_LENGTH = 1 + MAX_FRAME_LENGTH
#: RFC 6455 section 7.4.1: the endpoint is going away.
GOING_AWAY = 1001
_KEY_LENGTH = 16


def accept_token(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key. Raises RelayError unless that is 16 bytes of base64."""
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError as error:
        raise RelayError("Sec-WebSocket-Key is not base64") from error
    if len(raw) != _KEY_LENGTH:
        raise RelayError(f"Sec-WebSocket-Key holds {len(raw)} bytes instead of {_KEY_LENGTH}")
    return generate_accept_token(key.encode()).decode()


class WebSocket:
    """One side of an open websocket that carries binary messages.

    ``read`` never raises: messages before a violation are returned, and ``broken`` then holds the error.
    ``closed`` tells that the peer said goodbye. Text is skipped, pings are answered through ``data_to_send``.
    """

    __slots__ = ("_connection", "_out", "_parts", "_size", "broken", "closed")

    def __init__(self, *, client: bool) -> None:
        self._connection = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._parts: list[bytes] = []
        self._size = 0
        self._out: list[bytes] = []
        self.broken: RelayError | None = None
        self.closed = False

    def read(self, data: bytes) -> list[bytes]:
        """The binary messages that these further bytes complete."""
        if self.broken is not None or self.closed:
            return []
        self._connection.receive_data(data)
        messages: list[bytes] = []
        for event in self._connection.events():
            self._handle(event, messages)
            if self.broken is not None or self.closed:
                break
        return messages

    def send(self, message: bytes) -> bytes:
        """The bytes of one binary message; none once a side has said goodbye."""
        if self._connection.state is not ConnectionState.OPEN:
            return b""
        return self._connection.send(Message(data=message))

    def close(self, code: int = GOING_AWAY) -> bytes:
        """The bytes of a close frame; empty when one was sent before."""
        if self._connection.state not in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            return b""
        return self._connection.send(CloseConnection(code=code))

    def data_to_send(self) -> bytes:
        """Answers to the peer's control frames; the caller sends them."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _handle(self, event: Event, messages: list[bytes]) -> None:
        if isinstance(event, BytesMessage):
            self._collect(event, messages)
        elif isinstance(event, Ping):
            self._out.append(self._connection.send(event.response()))
        elif isinstance(event, CloseConnection):
            self.closed = True
            if self._connection.state is ConnectionState.REMOTE_CLOSING:
                self._out.append(self._connection.send(event.response()))
            else:  # wsproto reports its own parse errors this way, without any change of state
                self.broken = RelayError(f"websocket protocol error: {event.reason or event.code}")
        # Text is skipped (7.2); wsproto hands it over in pieces, so it costs no memory. Pongs mean nothing
        # here.

    def _collect(self, event: BytesMessage, messages: list[bytes]) -> None:
        piece = bytes(event.data)
        self._size += len(piece)
        if self._size > MAX_MESSAGE_LENGTH:
            self.broken = RelayError(f"websocket message is longer than {MAX_MESSAGE_LENGTH} bytes")
            return
        if event.message_finished and not self._parts:
            messages.append(piece)
            self._size = 0
            return
        if piece:
            self._parts.append(piece)
        if event.message_finished:
            messages.append(b"".join(self._parts))
            self._parts.clear()
            self._size = 0
