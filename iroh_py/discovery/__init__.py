"""Discovery: from a node id to where the node is, and back (PROTOCOL chapter 9)."""

from __future__ import annotations

from iroh_py.discovery.base import Discovery, DiscoveryCounters, DiscoveryService, Found, Site
from iroh_py.discovery.combined import CombinedDiscovery
from iroh_py.discovery.dns import N0_ORIGIN, N0_ORIGIN_STAGING, DnsDiscovery
from iroh_py.discovery.local import LocalDiscovery
from iroh_py.discovery.pkarr import N0_PKARR, N0_PKARR_STAGING, PkarrDiscovery
from iroh_py.discovery.server import DiscoveryServer
from iroh_py.discovery.static import StaticDiscovery

__all__ = [
    "N0_ORIGIN",
    "N0_ORIGIN_STAGING",
    "N0_PKARR",
    "N0_PKARR_STAGING",
    "CombinedDiscovery",
    "Discovery",
    "DiscoveryCounters",
    "DiscoveryServer",
    "DiscoveryService",
    "DnsDiscovery",
    "Found",
    "LocalDiscovery",
    "PkarrDiscovery",
    "Site",
    "StaticDiscovery",
]
