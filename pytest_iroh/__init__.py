"""Build a network, connect two endpoints, flip an interface, assert that the connection heals.

A pytest plugin (fixtures ``lab``, ``endpoints``, ``heals``), and its parts for use without pytest.

The names are imported at their first use: pytest loads this package in every run of every project that has it
installed, and the endpoint code (QUIC, cryptography) takes a third of a second to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iroh.lazy import found_lazily

if TYPE_CHECKING:
    from iroh_py import PING_INTERVAL as PING_INTERVAL
    from pytest_iroh.assertion import heals as heals
    from pytest_iroh.echoing import ECHO_ALPN as ECHO_ALPN
    from pytest_iroh.echoing import echo as echo
    from pytest_iroh.echoing import serve_echo as serve_echo
    from pytest_iroh.endpoints import Endpoints as Endpoints
    from pytest_iroh.expect import stays_relayed as stays_relayed
    from pytest_iroh.expect import wait_direct as wait_direct
    from pytest_iroh.healing import DidNotHeal as DidNotHeal
    from pytest_iroh.healing import Healing as Healing
    from pytest_iroh.lab_fixtures import LabNodes as LabNodes
    from pytest_iroh.lab_fixtures import lab_fixture as lab_fixture
    from pytest_iroh.labs import LabFactory as LabFactory
    from pytest_iroh.timeline import Recorder as Recorder

_HOMES = {
    "ECHO_ALPN": "pytest_iroh.echoing",
    "PING_INTERVAL": "iroh_py",
    "DidNotHeal": "pytest_iroh.healing",
    "Endpoints": "pytest_iroh.endpoints",
    "Healing": "pytest_iroh.healing",
    "LabFactory": "pytest_iroh.labs",
    "LabNodes": "pytest_iroh.lab_fixtures",
    "Recorder": "pytest_iroh.timeline",
    "echo": "pytest_iroh.echoing",
    "heals": "pytest_iroh.assertion",
    "lab_fixture": "pytest_iroh.lab_fixtures",
    "serve_echo": "pytest_iroh.echoing",
    "stays_relayed": "pytest_iroh.expect",
    "wait_direct": "pytest_iroh.expect",
}

__all__ = [
    "ECHO_ALPN",
    "PING_INTERVAL",
    "DidNotHeal",
    "Endpoints",
    "Healing",
    "LabFactory",
    "LabNodes",
    "Recorder",
    "echo",
    "heals",
    "lab_fixture",
    "serve_echo",
    "stays_relayed",
    "wait_direct",
]

__getattr__ = found_lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
