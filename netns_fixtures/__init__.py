"""Small internets out of Linux network namespaces: hosts, routers, NATs, links that fail while code runs.

::

    with Lab() as lab:
        home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
        laptop = lab.host("laptop", uplink=home)
        server = lab.host("server", uplink=lab.router("dc"))
        server.popen(["python3", "-m", "http.server"])
        laptop.replug(hotspot)

Describing is pure (``topology``, ``plug``, ``addressing``, ``nat`` make plain steps, ``ops``); applying
happens in the *lab agent* (``agent``), a child process that owns every namespace. Nothing is left behind,
whoever is killed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netns_fixtures.balance.handle import Balancer
    from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig
    from netns_fixtures.ecn import Ecn
    from netns_fixtures.errors import (
        AgentDied,
        CommandFailed,
        HostFrozen,
        LabClosed,
        LabError,
        LinkEngineError,
        MissingCapability,
        ScenarioError,
        TimelineError,
        TopologyError,
    )
    from netns_fixtures.events import LabEvent
    from netns_fixtures.features import Capabilities
    from netns_fixtures.firewall import Block, Firewall
    from netns_fixtures.host import Host
    from netns_fixtures.interface import Interface
    from netns_fixtures.lab import Lab
    from netns_fixtures.link import LinkCondition
    from netns_fixtures.nat import NatConfig, NatKind
    from netns_fixtures.nat.handle import Nat
    from netns_fixtures.node_firewall import NodeFirewall
    from netns_fixtures.portal import CaptivePortal
    from netns_fixtures.process import HostProcess
    from netns_fixtures.ra.config import Ra, Slaac
    from netns_fixtures.router import Router
    from netns_fixtures.scenario import Scenario, load_scenario
    from netns_fixtures.timeline import Timeline

#: Where the public names live. They are imported at first use: the lab agent and the wire are processes of
#: this package, too, and must start fast.
_HOMES = {
    "AgentDied": "errors",
    "Balancer": "balance.handle",
    "Block": "firewall",
    "CaptivePortal": "portal",
    "Firewall": "firewall",
    "NodeFirewall": "node_firewall",
    "CommandFailed": "errors",
    "DhcpClient": "dhcp.config",
    "DhcpConfig": "dhcp.config",
    "HostFrozen": "errors",
    "LabClosed": "errors",
    "LabError": "errors",
    "LinkEngineError": "errors",
    "MissingCapability": "errors",
    "ScenarioError": "errors",
    "TimelineError": "errors",
    "TopologyError": "errors",
    "Ecn": "ecn",
    "LabEvent": "events",
    "Capabilities": "features",
    "Host": "host",
    "Interface": "interface",
    "Lab": "lab",
    "LinkCondition": "link",
    "NatConfig": "nat",
    "NatKind": "nat",
    "HostProcess": "process",
    "Nat": "nat.handle",
    "Ra": "ra.config",
    "Slaac": "ra.config",
    "Router": "router",
    "Scenario": "scenario",
    "Timeline": "timeline",
    "load_scenario": "scenario",
}

__all__ = [
    "AgentDied",
    "Balancer",
    "Block",
    "Capabilities",
    "CaptivePortal",
    "CommandFailed",
    "DhcpClient",
    "DhcpConfig",
    "Ecn",
    "Firewall",
    "Host",
    "HostFrozen",
    "HostProcess",
    "Interface",
    "Lab",
    "LabClosed",
    "LabError",
    "LabEvent",
    "LinkCondition",
    "LinkEngineError",
    "MissingCapability",
    "Nat",
    "NatConfig",
    "NatKind",
    "NodeFirewall",
    "Ra",
    "Router",
    "Scenario",
    "ScenarioError",
    "Slaac",
    "Timeline",
    "TimelineError",
    "TopologyError",
    "load_scenario",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
