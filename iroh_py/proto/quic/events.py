"""What a :class:`~iroh_py.proto.quic.session.Session` tells its owner; drained with ``poll_event``."""

from __future__ import annotations

from dataclasses import dataclass

from iroh_py.errors import IrohError
from iroh_py.keys import NodeId


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """Both sides are proven; ``node_id`` is the peer's, ``alpn`` the protocol agreed on."""

    node_id: NodeId
    alpn: str


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes of a stream in order, never twice; ``fin`` with the last ones (which may be none).

    The first event of an id opened by the peer is also the news that the stream exists. Each byte counts
    against the receive window until ``Session.consume``.
    """

    stream_id: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up sending on this stream; what it sent and we did not hand out is lost."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The peer no longer reads this stream; our sending side was reset with the same code."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """One unreliable datagram (RFC 9221)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; the last event. ``error`` is None if this side closed it.

    Else one of: TimedOutError, ConnectTimeoutError (no handshake in time), PeerClosedError, TransportError,
    IdentityMismatchError, AlpnMismatchError.
    """

    error: IrohError | None


Event = HandshakeDone | StreamData | StreamReset | StreamStopped | DatagramReceived | Closed
