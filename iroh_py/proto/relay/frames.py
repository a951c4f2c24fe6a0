"""The frames of every relay generation, as plain values (PROTOCOL.md 7.2, 11.3 and 11.4).

Generation 3 (iroh 0.28 to 0.35) and the 1.x generations share the frames that mean the same; what differs
is how datagrams travel: generation 3 packs a list of datagrams into :class:`SendPacket` /
:class:`RecvPacket`, 1.x carries one datagram or a run of equally long ones in :class:`SendDatagrams` /
:class:`RecvDatagrams`. Node ids are raw 32 byte strings here: a relay routes millions of them and never
needs more than equality.
"""

from __future__ import annotations

from dataclasses import dataclass

NODE_ID_LENGTH = 32
SIGNATURE_LENGTH = 64
CHALLENGE_LENGTH = 16
PING_LENGTH = 8

#: No frame or websocket message is longer than this; both generations refuse more (7.2, 11.2).
MAX_FRAME_LENGTH = 1 << 20
#: What one packet may carry, without the node id in generation 3 and with it in 1.x (7.2, 11.2).
MAX_PACKET_LENGTH = 65536


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """First frame of a generation 3 client: who it is, with a signature over the postcard ``message``."""

    node_id: bytes
    signature: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Generation 3, client to relay: ``data`` is a packed datagram list for ``node_id``."""

    node_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class RecvPacket:
    """Generation 3, relay to client: ``data`` is a packed datagram list from ``node_id``."""

    node_id: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class SendDatagrams:
    """1.x, client to relay: datagrams for ``node_id``, cut every ``segment_size`` bytes (0: one datagram)."""

    node_id: bytes
    data: bytes
    ecn: int = 0
    segment_size: int = 0


@dataclass(frozen=True, slots=True)
class RecvDatagrams:
    """1.x, relay to client: datagrams from ``node_id``, cut every ``segment_size`` bytes (0: only one)."""

    node_id: bytes
    data: bytes
    ecn: int = 0
    segment_size: int = 0


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Generation 3: nothing but a sign of life."""


@dataclass(frozen=True, slots=True)
class NotePreferred:
    """Generation 3: whether this relay is the client's home relay."""

    preferred: bool


@dataclass(frozen=True, slots=True)
class NodeGone:
    """The relay lost its last connection of this node (PeerGone in 0.28, EndpointGone in 1.x)."""

    node_id: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A liveness question of 8 bytes, allowed in both directions."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping, with the same 8 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Health:
    """The relay's opinion of this connection; empty means healthy. 1.x: only in iroh-relay-v1."""

    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """The relay's opinion of this connection as a number (iroh-relay-v2)."""

    code: int


@dataclass(frozen=True, slots=True)
class Restarting:
    """The relay restarts: reconnect after ``reconnect_in`` seconds, keep trying for ``try_for``."""

    reconnect_in: float
    try_for: float


@dataclass(frozen=True, slots=True)
class ServerChallenge:
    """1.x: 16 random bytes that the client has to sign."""

    challenge: bytes


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """1.x: the client's id and its signature over the derived challenge."""

    node_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ServerConfirmsAuth:
    """1.x: the client is accepted."""


@dataclass(frozen=True, slots=True)
class ServerDeniesAuth:
    """1.x: the client is refused, with a sentence."""

    reason: str


#: Status codes of iroh-relay-v2 (11.4).
STATUS_HEALTHY = 0
STATUS_SAME_ID_CONNECTED = 1

#: Frames that only generation 3 has, that only 1.x has, and everything.
V3Frame = (
    ClientInfo
    | SendPacket
    | RecvPacket
    | KeepAlive
    | NotePreferred
    | NodeGone
    | Ping
    | Pong
    | Health
    | Restarting
)
V1Frame = (
    ServerChallenge
    | ClientAuth
    | ServerConfirmsAuth
    | ServerDeniesAuth
    | SendDatagrams
    | RecvDatagrams
    | NodeGone
    | Ping
    | Pong
    | Health
    | Restarting
    | Status
)
