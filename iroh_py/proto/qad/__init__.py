"""QUIC address discovery: a relay tells a client the address it sees it at (PROTOCOL.md 7.12 and 8.6), sans-IO.

``QadServer`` is the relay's side for any number of clients, ``QadClient`` one connection of a client. Both take
``now`` in seconds and datagrams with their addresses, and never wait. iroh 0.35 and 1.x ask this way; 1.x has no
other, for it has no STUN.
"""

from iroh_py.proto.qad.client import QadClient
from iroh_py.proto.qad.identity import QadIdentity
from iroh_py.proto.qad.limits import QadCounters, QadLimits
from iroh_py.proto.qad.server import Outgoing, QadServer
from iroh_py.proto.qad.wire import ALPN, Role

__all__ = ["ALPN", "Outgoing", "QadClient", "QadCounters", "QadIdentity", "QadLimits", "QadServer", "Role"]
