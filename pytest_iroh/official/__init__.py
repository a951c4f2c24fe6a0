"""The official iroh Python bindings as peers in tests: each in a virtual environment and process of its own.

::

    with OfficialPeer.start("0.35.0", popen=server.popen) as theirs:
        addr = theirs.listen()
        connection = await endpoint.connect(addr.node_addr(), "iroh-py/echo/0")
"""

from pytest_iroh.echoing import ECHO_ALPN
from pytest_iroh.official.errors import (
    OfficialCallFailed,
    OfficialDied,
    OfficialError,
    OfficialTimeout,
    OfficialUnavailable,
)
from pytest_iroh.official.messages import AddressLike, Echo, OfficialAddr, PathNow, Stats, TickerLog
from pytest_iroh.official.peer import Accepted, ConnectionId, OfficialPeer
from pytest_iroh.official.venv import official_python

__all__ = [
    "ECHO_ALPN",
    "Accepted",
    "AddressLike",
    "ConnectionId",
    "Echo",
    "OfficialAddr",
    "OfficialCallFailed",
    "OfficialDied",
    "OfficialError",
    "OfficialPeer",
    "OfficialTimeout",
    "OfficialUnavailable",
    "PathNow",
    "Stats",
    "TickerLog",
    "official_python",
]
