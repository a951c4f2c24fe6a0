"""A client of generation 3 (iroh 0.28 to 0.35), over an HTTP upgrade or a websocket (PROTOCOL.md 7.2-7.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from iroh_py.errors import LocalProtocolError, RelayError
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    MAX_PACKET_LENGTH,
    NODE_ID_LENGTH,
    ClientInfo,
    Health,
    KeepAlive,
    NodeGone,
    NotePreferred,
    Ping,
    Pong,
    V3Frame,
)
from iroh_py.proto.relay.handshake import V3_DENIED, verify_client_info
from iroh_py.proto.relay.websocket import WebSocket
from iroh_py.relay.session import Session

if TYPE_CHECKING:
    from iroh_py.relay.hub import Hub

_ID = NODE_ID_LENGTH
_MAX_PACKET_FRAME = _ID + MAX_PACKET_LENGTH
_RECV_PACKET = bytes((v3.RECV_PACKET,))


class V3Session(Session):
    """``websocket`` chooses the transport; the frames are the same."""

    def __init__(self, hub: Hub, transport: asyncio.Transport, token: str | None, *, websocket: bool) -> None:
        super().__init__(hub, transport, token)
        self._reader = v3.FrameReader()
        self._websocket = WebSocket(client=False) if websocket else None
        self._waiting: list[tuple[int, bytes]] = []

    def handle_bytes(self, data: bytes) -> None:
        """Cut into frames and handle each. Raises RelayError."""
        if self._websocket is None:
            self._handle_frames(self._reader.read(data))
            if self._reader.broken is not None:
                raise self._reader.broken
            return
        messages = self._websocket.read(data)
        if answers := self._websocket.data_to_send():
            self.send_control(answers)
        self._handle_frames([(message[0] if message else -1, message[1:]) for message in messages])
        if self._websocket.broken is not None:
            raise self._websocket.broken
        if self._websocket.closed:
            self.close("the client closed its websocket")

    def _handle_frames(self, frames: list[tuple[int, bytes]]) -> None:
        for position, (kind, payload) in enumerate(frames):
            if kind == v3.SEND_PACKET and self.logged_in:
                self._route(payload)
            elif self.logged_in:
                self._handle_frame(v3.decode(kind, payload))
            else:
                self._handle_client_info(v3.decode(kind, payload))
                if self.deciding:
                    self._waiting = frames[position + 1 :]
                if self.deciding or self._closed:
                    return

    def handle_login(self) -> None:
        """Packets often come right behind the ClientInfo, before a slow policy has answered."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._handle_frames(waiting)

    def _handle_client_info(self, frame: V3Frame) -> None:
        if not isinstance(frame, ClientInfo):
            raise RelayError(f"{type(frame).__name__} before the login")
        self.login(verify_client_info(frame))

    def _route(self, payload: bytes) -> None:
        size = len(payload)
        if not _ID <= size <= _MAX_PACKET_FRAME:
            raise RelayError(f"packet frame of {size} bytes")
        self.hub.counters.bytes_in += size
        target = self.find(payload[:_ID])
        if target is not None:
            target.deliver_v3(self.node_id, payload[_ID:])

    def _handle_frame(self, frame: V3Frame) -> None:
        if isinstance(frame, Ping):
            self.send_control(self._encode(Pong(frame.data)))
        elif not isinstance(frame, Pong | NotePreferred | KeepAlive):
            raise RelayError(f"a client may not send a {type(frame).__name__} frame")

    def deliver_v3(self, source: bytes, data: bytes) -> None:
        """As received: only type and id differ."""
        if self._websocket is None:
            size = _ID + len(data)
            self.send_packet(b"".join((_RECV_PACKET, size.to_bytes(4, "big"), source, data)))
        else:
            self.send_packet(self._websocket.send(b"".join((_RECV_PACKET, source, data))))

    def deliver_v1(self, source: bytes, ecn: int, segment_size: int, data: bytes) -> None:
        """Put the length in front of each datagram; ECN has no place here."""
        try:
            packets = v3.pack_datagrams(v1.cut_segments(data, segment_size))
        except LocalProtocolError:
            self.hub.counters.dropped_untranslatable += 1
            return
        for packet in packets:
            self.deliver_v3(source, packet)

    def send_gone(self, node_id: bytes) -> None:
        """A NodeGone frame."""
        self.send_control(self._encode(NodeGone(node_id)))

    def encode_ping(self, data: bytes) -> bytes:
        """A Ping frame."""
        return self._encode(Ping(data))

    def encode_denial(self) -> bytes:
        """A Health frame, after which the original closes too."""
        return self._encode(Health(V3_DENIED))

    def encode_goodbye(self) -> bytes:
        """A websocket close frame; the native form has nothing of the kind."""
        return b"" if self._websocket is None else self._websocket.close()

    def _encode(self, frame: V3Frame) -> bytes:
        if self._websocket is None:
            return v3.encode(frame)
        return self._websocket.send(v3.encode_message(frame))
