"""Reading untrusted bytes, for the codecs of this package."""

from __future__ import annotations

import ipaddress
import struct

from netns_fixtures.errors import LabError

_V4_MAPPED = bytes(10) + b"\xff\xff"


class PortMapProtocolError(LabError):
    """A client sent something that its protocol does not allow."""


def unpack(layout: struct.Struct, data: bytes, offset: int = 0) -> tuple[int, ...]:
    """The integers at an offset. Raises PortMapProtocolError where the data is too short."""
    try:
        values: tuple[int, ...] = layout.unpack_from(data, offset)
    except struct.error as error:
        raise PortMapProtocolError(f"a message of {len(data)} bytes is too short") from error
    return values


def pack_ip16(ip: str) -> bytes:
    """An address as 16 bytes, IPv4 as ::ffff:a.b.c.d (RFC 6887 section 5)."""
    address = ipaddress.ip_address(ip)
    return address.packed if address.version == 6 else _V4_MAPPED + address.packed


def unpack_ip16(data: bytes) -> str:
    """The text of such an address."""
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)
