"""Build a network, connect two endpoints, flip an interface, assert that the connection heals.

A pytest plugin (fixtures ``lab``, ``endpoints``, ``heals``), and its parts for use without pytest.
"""

from iroh_py import PING_INTERVAL as PING_INTERVAL

from pytest_iroh.echo import ECHO_ALPN as ECHO_ALPN
from pytest_iroh.echo import echo as echo
from pytest_iroh.echo import serve_echo as serve_echo
from pytest_iroh.endpoints import Endpoints as Endpoints
from pytest_iroh.heals import DidNotHeal as DidNotHeal
from pytest_iroh.heals import Healing as Healing
from pytest_iroh.heals import heals as heals
from pytest_iroh.heals import stays_relayed as stays_relayed
from pytest_iroh.heals import wait_direct as wait_direct
from pytest_iroh.timeline import Recorder as Recorder

__all__ = [
    "ECHO_ALPN",
    "PING_INTERVAL",
    "DidNotHeal",
    "Endpoints",
    "Healing",
    "Recorder",
    "echo",
    "heals",
    "serve_echo",
    "stays_relayed",
    "wait_direct",
]
