"""A relay client without its socket: bytes and commands in, bytes and frames out (PROTOCOL.md 7 and 11).

Theory of operation. The machine goes ``UPGRADING -> UPGRADED -> READY``. ``request`` starts it; ``receive``
takes what the socket read and returns frames; ``authenticate`` may be called once it is UPGRADED:
generation 3 is READY by sending one frame, 1.x by answering a challenge. Whatever has to be sent is
collected and fetched with ``data_to_send``. Splitting login from upgrade lets a driver race several
connections and show its identity on one only: a relay throws the older connection of an identity out.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Sequence

from iroh_py.errors import RelayError
from iroh_py.keys import SecretKey
from iroh_py.proto.relay import handshake, upgrade, v1, v3
from iroh_py.proto.relay.frames import (
    ClientAuth,
    ClientInfo,
    NotePreferred,
    Ping,
    Pong,
    RecvDatagrams,
    RecvPacket,
    SendDatagrams,
    SendPacket,
    ServerChallenge,
    ServerConfirmsAuth,
    ServerDeniesAuth,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.upgrade import Generation, UpgradeResponse
from iroh_py.proto.relay.websocket import WebSocket, accept_token
from iroh_py.relay_url import RelayUrl

#: 1.x frames that only a relay receives, or that only belong into the login.
_NOT_FOR_CLIENTS = (ServerChallenge, ClientAuth, ServerConfirmsAuth, ServerDeniesAuth, SendDatagrams)


class Phase(enum.Enum):
    """How far a connection is."""

    UPGRADING = "upgrading"
    UPGRADED = "upgraded"
    READY = "ready"


class RelayMachine:
    """The client's side of one relay connection.

    ``generation`` is what is asked for; V1 and V2 both mean "1.x, the best the relay has". ``nonce`` is 16
    random bytes for the websocket key. Once ``broken`` holds an error the connection is of no further use.
    """

    def __init__(
        self,
        url: RelayUrl,
        secret_key: SecretKey,
        *,
        generation: Generation = Generation.V3_NATIVE,
        nonce: bytes = bytes(16),
        token: str | None = None,
    ) -> None:
        self.url = url
        self.phase = Phase.UPGRADING
        self.generation = generation
        self.broken: RelayError | None = None
        self._secret_key = secret_key
        self._key = base64.b64encode(nonce).decode()
        self._token = token
        self._response = UpgradeResponse(url)
        self._reader = v3.FrameReader()
        self._websocket = WebSocket(client=True)
        self._wants_login = False
        self._challenge: bytes | None = None
        self._answered = False
        self._out: list[bytes] = []

    def request(self) -> None:
        """Queue the HTTP request."""
        if self.generation is Generation.V3_NATIVE:
            self._out.append(upgrade.native_request(self.url, self._token))
            return
        offer = "" if self.generation.is_v3 else ", ".join(v1.SUBPROTOCOLS)
        self._out.append(upgrade.websocket_request(self.url, self._key, offer, self._token))

    def authenticate(self) -> None:
        """Show who we are, now or as soon as the relay asks."""
        if self.generation.is_v3:
            self._send_v3(handshake.client_info(self._secret_key))
            self.phase = Phase.READY
            return
        self._wants_login = True
        self._answer_challenge()

    @property
    def has_data_to_send(self) -> bool:
        """Whether ``data_to_send`` would give something."""
        return any(self._out)

    def data_to_send(self) -> bytes:
        """The bytes to write now."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def send_datagrams(self, node_id: bytes, datagrams: Sequence[bytes]) -> None:
        """Queue datagrams for a node. Raises LocalProtocolError for one that is too long."""
        if self.generation.is_v3:
            for data in v3.pack_datagrams(datagrams):
                self._send_v3(SendPacket(node_id, data))
            return
        for segment_size, data in v1.batch_datagrams(datagrams):
            self._send_v1(SendDatagrams(node_id, data, 0, segment_size))

    def send_ping(self, data: bytes) -> None:
        """Queue a ping of 8 bytes."""
        self._send_common(Ping(data))

    def send_pong(self, data: bytes) -> None:
        """Queue the answer to a ping."""
        self._send_common(Pong(data))

    def receive(self, data: bytes) -> list[V3Frame | V1Frame]:
        """The frames that these bytes complete; during upgrade and login there are none.

        Never raises: frames before a violation are returned, and ``broken`` then holds the error.
        """
        frames: list[V3Frame | V1Frame] = []
        if self.broken is None:
            try:
                self._receive(data, frames)
            except RelayError as error:
                self.broken = error
        return frames

    def _receive(self, data: bytes, frames: list[V3Frame | V1Frame]) -> None:
        if self.phase is Phase.UPGRADING:
            switched = self._response.read(data)
            if switched is None:
                return
            self._check_switch(switched.headers)
            self.phase = Phase.UPGRADED
            data = switched.rest
        if self.generation is Generation.V3_NATIVE:
            self._read_native(data, frames)
        else:
            self._read_websocket(data, frames)

    def _check_switch(self, headers: dict[str, str]) -> None:
        wanted = "websocket" if self.generation.is_websocket else upgrade.NATIVE_UPGRADE
        if headers.get("upgrade", "").lower() != wanted:
            raise RelayError(f"the relay switched to {headers.get('upgrade')!r} instead of {wanted!r}")
        if not self.generation.is_websocket:
            return
        if headers.get("sec-websocket-accept") != accept_token(self._key):
            raise RelayError("the relay's Sec-WebSocket-Accept does not match our key")
        if self.generation.is_v3:
            return
        chosen = headers.get("sec-websocket-protocol", "")
        if chosen not in v1.SUBPROTOCOLS:
            raise RelayError(f"the relay chose the subprotocol {chosen!r}")
        self.generation = Generation(chosen)

    def _read_native(self, data: bytes, frames: list[V3Frame | V1Frame]) -> None:
        for kind, payload in self._reader.read(data):
            frames.append(self._v3_frame(kind, payload))
        if self._reader.broken is not None:
            raise self._reader.broken

    def _read_websocket(self, data: bytes, frames: list[V3Frame | V1Frame]) -> None:
        for message in self._websocket.read(data):
            if self.generation.is_v3:
                frames.append(self._v3_frame(message[0] if message else -1, message[1:]))
            elif (frame := self._v1_frame(message)) is not None:
                frames.append(frame)
        self._out.append(self._websocket.data_to_send())
        if self._websocket.broken is not None:
            raise self._websocket.broken
        if self._websocket.closed:
            raise RelayError("the relay closed the websocket")

    def _v3_frame(self, kind: int, payload: bytes) -> V3Frame:
        frame = v3.decode(kind, payload)
        if isinstance(frame, ClientInfo | SendPacket | NotePreferred):
            raise RelayError(f"the relay sent a {type(frame).__name__} frame, which only clients send")
        return frame

    def _v1_frame(self, message: bytes) -> V1Frame | None:
        frame = v1.decode(message, self.generation.value)
        if self.phase is not Phase.READY:
            self._login(frame)
            return None
        if isinstance(frame, _NOT_FOR_CLIENTS):
            raise RelayError(f"the relay sent a {type(frame).__name__} frame after the login")
        return frame

    def _login(self, frame: V1Frame) -> None:
        if isinstance(frame, ServerChallenge) and self._challenge is None:
            self._challenge = frame.challenge
            self._answer_challenge()
        elif isinstance(frame, ServerConfirmsAuth) and self._answered:
            self.phase = Phase.READY
        elif isinstance(frame, ServerDeniesAuth):
            raise RelayError(f"the relay refuses us: {frame.reason}")
        else:
            raise RelayError(f"the relay sent a {type(frame).__name__} frame during the login")

    def _answer_challenge(self) -> None:
        if self._wants_login and self._challenge is not None and not self._answered:
            self._answered = True
            self._send_v1(handshake.client_auth(self._secret_key, self._challenge))

    def _send_common(self, frame: Ping | Pong) -> None:
        if self.generation.is_v3:
            self._send_v3(frame)
        else:
            self._send_v1(frame)

    def _send_v3(self, frame: V3Frame) -> None:
        if self.generation is Generation.V3_NATIVE:
            self._out.append(v3.encode(frame))
        else:
            self._out.append(self._websocket.send(v3.encode_message(frame)))

    def _send_v1(self, frame: V1Frame) -> None:
        self._out.append(self._websocket.send(v1.encode(frame)))


def received_datagrams(frame: RecvPacket | RecvDatagrams) -> list[bytes]:
    """The datagrams in a received frame of either generation."""
    if isinstance(frame, RecvPacket):
        return v3.unpack_datagrams(frame.data)
    return v1.cut_segments(frame.data, frame.segment_size)
