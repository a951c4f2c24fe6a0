"""A client of iroh 1.x: websocket messages of iroh-relay-v1 or -v2 (PROTOCOL.md 11.2-11.5)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    CHALLENGE_LENGTH,
    STATUS_HEALTHY,
    STATUS_SAME_ID_CONNECTED,
    ClientAuth,
    Health,
    NodeGone,
    Ping,
    Pong,
    RecvDatagrams,
    SendDatagrams,
    ServerChallenge,
    ServerConfirmsAuth,
    ServerDeniesAuth,
    Status,
    V1Frame,
)
from iroh_py.proto.relay.handshake import V1_DENIED, verify_client_auth
from iroh_py.proto.relay.upgrade import Generation
from iroh_py.proto.relay.websocket import WebSocket
from iroh_py.relay.session import Session

if TYPE_CHECKING:
    from iroh_py.relay.hub import Hub

#: What v1 clients read where v2 has a status code.
_SAME_ID = "The same endpoint id is connected elsewhere"


class V1Session(Session):
    """Greets with a challenge; keeps older connections of one endpoint id parked."""

    parkable = True

    def __init__(
        self,
        hub: Hub,
        transport: asyncio.Transport,
        token: str | None,
        *,
        generation: Generation,
        challenge: bytes,
    ) -> None:
        super().__init__(hub, transport, token)
        assert len(challenge) == CHALLENGE_LENGTH
        self._subprotocol = generation.value
        self._has_status = generation is Generation.V2
        self._challenge = challenge
        self._websocket = WebSocket(client=False)
        self._waiting: list[bytes] = []
        self.send_control(self._encode(ServerChallenge(challenge)))

    def handle_bytes(self, data: bytes) -> None:
        """Cut into messages and handle each. Raises RelayError."""
        messages = self._websocket.read(data)
        if answers := self._websocket.data_to_send():
            self.send_control(answers)
        self._handle_messages(messages)
        if self._websocket.broken is not None:
            raise self._websocket.broken
        if self._websocket.closed:
            self.close("the client closed its websocket")

    def _handle_messages(self, messages: list[bytes]) -> None:
        for position, message in enumerate(messages):
            frame = v1.decode(message, self._subprotocol)
            if self.logged_in:
                self._handle_frame(frame)
                continue
            self._handle_auth(frame)
            if self.deciding:
                self._waiting = messages[position + 1 :]
            if self.deciding or self._closed:
                return

    def handle_login(self) -> None:
        """A client that sends before it is confirmed loses nothing."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._handle_messages(waiting)

    def _handle_auth(self, frame: V1Frame) -> None:
        if not isinstance(frame, ClientAuth):
            raise RelayError(f"{type(frame).__name__} before the login")
        try:
            node_id = verify_client_auth(frame, self._challenge)
        except RelayError as error:
            self.send_control(self._encode(ServerDeniesAuth(str(error))))
            raise
        self.login(node_id)

    def _handle_frame(self, frame: V1Frame) -> None:
        if isinstance(frame, SendDatagrams):
            self.hub.counters.bytes_in += len(frame.data)
            target = self.find(frame.node_id)
            if target is not None and frame.data:
                target.deliver_v1(self.node_id, frame.ecn, frame.segment_size, frame.data)
        elif isinstance(frame, Ping):
            self.send_control(self._encode(Pong(frame.data)))
        elif not isinstance(frame, Pong):
            raise RelayError(f"a client may not send a {type(frame).__name__} frame")

    def deliver_v1(self, source: bytes, ecn: int, segment_size: int, data: bytes) -> None:
        """As received: only type and id differ."""
        self.send_packet(self._encode(RecvDatagrams(source, data, ecn, segment_size)))

    def deliver_v3(self, source: bytes, data: bytes) -> None:
        """Take the lengths off; runs of equally long datagrams stay together."""
        try:
            batches = v1.batch_datagrams(v3.unpack_datagrams(data))
        except LocalProtocolError:
            self.hub.counters.dropped_untranslatable += 1
            return
        for segment_size, segments in batches:
            self.deliver_v1(source, 0, segment_size, segments)

    def tell_active(self, active: bool) -> None:
        """Status in v2, Health in v1."""
        if self._has_status:
            code = STATUS_HEALTHY if active else STATUS_SAME_ID_CONNECTED
            self.send_control(self._encode(Status(code)))
        else:
            self.send_control(self._encode(Health("" if active else _SAME_ID)))

    def send_gone(self, node_id: bytes) -> None:
        """An EndpointGone frame."""
        self.send_control(self._encode(NodeGone(node_id)))

    def encode_ping(self, data: bytes) -> bytes:
        """A Ping frame."""
        return self._encode(Ping(data))

    def encode_welcome(self) -> bytes:
        """The client waits for this before it calls itself connected."""
        return self._encode(ServerConfirmsAuth())

    def encode_denial(self) -> bytes:
        """The policy's no."""
        return self._encode(ServerDeniesAuth(V1_DENIED))

    def encode_goodbye(self) -> bytes:
        """A websocket close frame."""
        return self._websocket.close()

    def _encode(self, frame: V1Frame) -> bytes:
        return self._websocket.send(v1.encode(frame))
