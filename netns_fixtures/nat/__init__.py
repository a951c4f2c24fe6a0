"""NATs of the lab: what they do (``config``, ``presets``), their nftables rules (``rules``, ``exact``), and the
handle that changes them while a lab runs (``handle``)."""

from __future__ import annotations

from netns_fixtures.nat.config import NatConfig, NatFiltering, NatMapping, NatPooling, NatPorts
from netns_fixtures.nat.presets import PRESETS, NatKind, nat_config, nat_label
from netns_fixtures.nat.text import LAN, WAN

__all__ = [
    "LAN",
    "PRESETS",
    "WAN",
    "NatConfig",
    "NatFiltering",
    "NatKind",
    "NatMapping",
    "NatPooling",
    "NatPorts",
    "nat_config",
    "nat_label",
]
