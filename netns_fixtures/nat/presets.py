"""NATs by name: the lab's own kinds, and the names that other harnesses use.

The five kinds are those of patchbay 0.7 and iroh's tests. The others are its older names (LAB.md 2.1: UDP stream
and TCP timeouts) and Tailscale's and RFC 3489's words for the cones. "behave" does all that RFC 4787 and RFC 5382
(by an IETF group of that name) require, as carriers' NATs must (RFC 6888).

TCP is the kernel's in all others, as in the home routers that they are named after, nearly all of which are Linux:
also those that are full cones for UDP are none for TCP (xt_FULLCONENAT, OpenWrt's).
"""

from __future__ import annotations

import enum

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat.config import NatConfig, NatFiltering, NatMapping, NatPorts


class NatKind(enum.StrEnum):
    """What a router does to addresses (mapping x filtering of RFC 4787)."""

    NONE = "none"
    """Routed, nothing translated, nothing filtered."""
    OPEN = "open"
    """Endpoint-independent mapping and filtering (full cone)."""
    MODERATE = "moderate"
    """Endpoint-independent mapping, address-and-port-dependent filtering (most home routers)."""
    STRICT = "strict"
    """Endpoint-dependent mapping with random ports, address-and-port-dependent filtering ("symmetric")."""
    CGNAT = "cgnat"
    """A moderate router whose uplink is itself behind a moderate carrier router, in 100.64.0.0/10."""


_OPEN = NatConfig(filtering=NatFiltering.EIF)
_MODERATE = NatConfig()
_STRICT = NatConfig(mapping=NatMapping.APDM, ports=NatPorts.RANDOM)


def _symmetric(timeout: float, tcp_timeout: float) -> NatConfig:
    return NatConfig(mapping=NatMapping.APDM, ports=NatPorts.RANDOM, timeout=timeout, tcp_timeout=tcp_timeout)


PRESETS: dict[str, NatConfig] = {
    NatKind.NONE: NatConfig(filtering=NatFiltering.EIF, translates=False),
    NatKind.OPEN: _OPEN,
    NatKind.MODERATE: _MODERATE,
    NatKind.STRICT: _STRICT,
    NatKind.CGNAT: _MODERATE,
    "address-restricted": NatConfig(filtering=NatFiltering.ADF),
    "port-restricted": _MODERATE,
    "symmetric": _STRICT,
    "home": NatConfig(timeout=300.0, tcp_timeout=7200.0),
    "full-cone": NatConfig(filtering=NatFiltering.EIF, hairpin=True, timeout=300.0, tcp_timeout=7200.0),
    "behave": NatConfig(
        filtering=NatFiltering.ADF,
        hairpin=True,
        timeout=300.0,
        tcp_timeout=7440.0,
        tcp_transitory=240.0,
        tcp_mapping=NatMapping.EIM,
        tcp_filtering=NatFiltering.ADF,
    ),
    "corporate": _symmetric(120.0, 3600.0),
    "hotel": _symmetric(120.0, 3600.0),
    "cloud": _symmetric(350.0, 3600.0),
}


def nat_config(nat: str | NatConfig) -> NatConfig:
    """The rules behind a name, or those given. Raises TopologyError for a name that does not exist."""
    if isinstance(nat, NatConfig):
        return nat
    try:
        return PRESETS[nat]
    except (KeyError, TypeError):
        raise TopologyError(f"nat={nat!r}: it is one of {', '.join(PRESETS)}, or a NatConfig") from None


def nat_label(nat: str | NatConfig) -> str:
    """How a router's NAT is called: a preset's name where there is one."""
    return nat_config(nat).label if isinstance(nat, NatConfig) else str(nat)
