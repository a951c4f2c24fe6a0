"""The official iroh Python bindings as peers in tests: each in a virtual environment and process of its own.

::

    with OfficialPeer.start("0.35.0", popen=server.popen) as theirs:
        addr = theirs.listen()
        connection = await endpoint.connect(addr.node_addr(), "iroh-py/echo/0")

The names are imported at their first use, as those of ``pytest_iroh``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iroh.lazy import found_lazily

if TYPE_CHECKING:
    from pytest_iroh.echoing import ECHO_ALPN as ECHO_ALPN
    from pytest_iroh.official.errors import OfficialCallFailed as OfficialCallFailed
    from pytest_iroh.official.errors import OfficialDied as OfficialDied
    from pytest_iroh.official.errors import OfficialError as OfficialError
    from pytest_iroh.official.errors import OfficialTimeout as OfficialTimeout
    from pytest_iroh.official.errors import OfficialUnavailable as OfficialUnavailable
    from pytest_iroh.official.messages import AddressLike as AddressLike
    from pytest_iroh.official.messages import Echo as Echo
    from pytest_iroh.official.messages import OfficialAddr as OfficialAddr
    from pytest_iroh.official.messages import PathNow as PathNow
    from pytest_iroh.official.messages import Stats as Stats
    from pytest_iroh.official.messages import TickerLog as TickerLog
    from pytest_iroh.official.peer import Accepted as Accepted
    from pytest_iroh.official.peer import ConnectionId as ConnectionId
    from pytest_iroh.official.peer import OfficialPeer as OfficialPeer
    from pytest_iroh.official.venv import official_python as official_python

_HOMES = {
    "Accepted": "pytest_iroh.official.peer",
    "AddressLike": "pytest_iroh.official.messages",
    "ConnectionId": "pytest_iroh.official.peer",
    "ECHO_ALPN": "pytest_iroh.echoing",
    "Echo": "pytest_iroh.official.messages",
    "OfficialAddr": "pytest_iroh.official.messages",
    "OfficialCallFailed": "pytest_iroh.official.errors",
    "OfficialDied": "pytest_iroh.official.errors",
    "OfficialError": "pytest_iroh.official.errors",
    "OfficialPeer": "pytest_iroh.official.peer",
    "OfficialTimeout": "pytest_iroh.official.errors",
    "OfficialUnavailable": "pytest_iroh.official.errors",
    "PathNow": "pytest_iroh.official.messages",
    "Stats": "pytest_iroh.official.messages",
    "TickerLog": "pytest_iroh.official.messages",
    "official_python": "pytest_iroh.official.venv",
}

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

__getattr__ = found_lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
