"""Netcheck, sans-IO: which probes to send, and what their answers say about our network (PROTOCOL.md 5).

``plan`` says what to probe when, ``run`` is one report in the making, ``report`` what comes out of it,
``schedule`` when to make one, ``addresses`` which of our own addresses follow from it, and when to tell them.
"""

from __future__ import annotations

from iroh_py.proto.netcheck.addresses import OwnAddresses, Publication
from iroh_py.proto.netcheck.plan import ProbeKind, ProbeSet, failover_plan, incremental_plan, initial_plan
from iroh_py.proto.netcheck.report import Findings, PortmapProbe, Report
from iroh_py.proto.netcheck.run import NetcheckRun
from iroh_py.proto.netcheck.schedule import Schedule

__all__ = [
    "Findings",
    "NetcheckRun",
    "OwnAddresses",
    "PortmapProbe",
    "ProbeKind",
    "ProbeSet",
    "Publication",
    "Report",
    "Schedule",
    "failover_plan",
    "incremental_plan",
    "initial_plan",
]
