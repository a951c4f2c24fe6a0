"""QUIC between nodes (PROTOCOL chapter 8), sans-IO, on aioquic.

``SessionTable`` routes datagrams to ``Session`` objects; both take ``now`` in seconds and never wait.
"""

from iroh_py.proto.quic.config import MIN_MTU, QuicConfig
from iroh_py.proto.quic.events import (
    Closed,
    DatagramReceived,
    Event,
    HandshakeDone,
    StreamData,
    StreamReset,
    StreamStopped,
)
from iroh_py.proto.quic.session import Session
from iroh_py.proto.quic.table import SessionTable
from iroh_py.proto.tls import Credentials, TlsAuth

__all__ = [
    "MIN_MTU",
    "Closed",
    "Credentials",
    "DatagramReceived",
    "Event",
    "HandshakeDone",
    "QuicConfig",
    "Session",
    "SessionTable",
    "StreamData",
    "StreamReset",
    "StreamStopped",
    "TlsAuth",
]
