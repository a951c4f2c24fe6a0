"""The relay server: what a node's packets travel through while there is no direct path.

``RelayServer(RelayConfig(...))`` serves iroh 0.28, 0.35 and 1.x on one port. An accepted connection is an
``HttpEntry``; an upgraded one becomes a ``V3Session`` or a ``V1Session``; the ``Hub`` holds what they share.
"""

from iroh_py.relay.config import (
    DEV_PORT,
    QUIC_PORT,
    STUN_PORT,
    AccessPolicy,
    RelayConfig,
    RelayLimits,
    any_address,
)
from iroh_py.relay.metrics import RelayStats
from iroh_py.relay.server import RelayServer

__all__ = [
    "DEV_PORT",
    "QUIC_PORT",
    "STUN_PORT",
    "AccessPolicy",
    "RelayConfig",
    "RelayLimits",
    "RelayServer",
    "RelayStats",
    "any_address",
]
