"""Router advertisements as bytes (RFC 4861 section 4.2, options 4.6 and RFC 8106). Sans-IO."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from netns_fixtures.ra.config import Ra

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
_SOURCE_LINK_LAYER, _PREFIX, _MTU, _RDNSS = 1, 3, 5, 25
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
#: What hosts put into the hop limit of their packets.
_HOP_LIMIT = 64
#: RFC 4191 section 2.2, in place in the flags.
_PREFERENCES = {"medium": 0b00 << 3, "high": 0b01 << 3, "low": 0b11 << 3}
_HEAD = struct.Struct("!BBHBBHII")
_PREFIX_OPTION = struct.Struct("!BBBBIII16s")
_MTU_OPTION = struct.Struct("!BBHI")
_RDNSS_HEAD = struct.Struct("!BBHI")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix of the LAN, on-link and for SLAAC; lifetimes in seconds. Deprecated: 0 preferred."""

    network: ipaddress.IPv6Network
    preferred: float
    valid: float


def encode(config: Ra, mac: str, prefixes: Sequence[Prefix], *, default_router: bool = True) -> bytes:
    """The ICMPv6 message, its checksum left to the kernel. ``default_router`` False: lifetime 0, a withdrawal."""
    lifetime = round(config.router_lifetime) if default_router else 0
    flags = _PREFERENCES[config.preference] if lifetime else 0  # RFC 4191: must be 0 without a lifetime
    parts = [
        _HEAD.pack(ROUTER_ADVERTISEMENT, 0, 0, _HOP_LIMIT, flags, lifetime, 0, 0),
        bytes((_SOURCE_LINK_LAYER, 1)) + bytes.fromhex(mac.replace(":", "")),
    ]
    if config.mtu is not None:
        parts.append(_MTU_OPTION.pack(_MTU, 1, 0, config.mtu))
    parts += [_prefix(prefix) for prefix in prefixes]
    if config.rdnss:
        servers = b"".join(ipaddress.IPv6Address(server).packed for server in config.rdnss)
        # RFC 8106 section 5.1: at least the interval, here as long as the router.
        head = _RDNSS_HEAD.pack(_RDNSS, 1 + 2 * len(config.rdnss), 0, lifetime)
        parts.append(head + servers)
    return b"".join(parts)


def _prefix(prefix: Prefix) -> bytes:
    return _PREFIX_OPTION.pack(
        _PREFIX,
        4,
        prefix.network.prefixlen,
        _ON_LINK | _AUTONOMOUS,
        round(prefix.valid),
        round(prefix.preferred),
        0,
        prefix.network.network_address.packed,
    )
