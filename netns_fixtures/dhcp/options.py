"""DHCP options (RFC 2132, RFC 3396): the codes that the lab speaks, and their values. Sans-IO."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

_PAD, _END = 0, 255
#: One length byte; longer values are split over several options of one code (RFC 3396).
_MAX_PART = 255


class DhcpMalformed(ValueError):
    """Bytes that are no DHCP message, or an option whose value has another shape."""


class Option(enum.IntEnum):
    """Option codes."""

    SUBNET_MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    REQUESTED_IP = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER_ID = 54
    WANTED = 55
    MESSAGE = 56
    MAX_SIZE = 57
    T1 = 58
    T2 = 59
    CLIENT_ID = 61
    RAPID_COMMIT = 80
    CAPTIVE_PORTAL = 114
    ROUTES = 121


def join_options(options: Mapping[int, bytes]) -> bytes:
    """The options area, with its end."""
    parts = bytearray()
    for code, value in options.items():
        for at in range(0, len(value) or 1, _MAX_PART):
            part = value[at : at + _MAX_PART]
            parts += bytes((code, len(part))) + part
    return bytes(parts) + bytes((_END,))


def split_options(areas: Iterable[bytes]) -> dict[int, bytes]:
    """Values by code; those of one code are joined (RFC 3396). Raises DhcpMalformed."""
    found: dict[int, bytes] = {}
    for area in areas:
        at = 0
        while at < len(area) and area[at] != _END:
            code = area[at]
            if code == _PAD:
                at += 1
                continue
            if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
                raise DhcpMalformed(f"option {code} is cut off")
            found[code] = found.get(code, b"") + area[at + 2 : at + 2 + area[at + 1]]
            at += 2 + area[at + 1]
    return found


def number(value: bytes, size: int) -> int:
    """An unsigned number of ``size`` bytes. Raises DhcpMalformed."""
    if len(value) != size:
        raise DhcpMalformed(f"{value.hex()} is no number of {size} bytes")
    return int.from_bytes(value, "big")


def address(value: bytes) -> str:
    """One IPv4 address. Raises DhcpMalformed."""
    (found,) = addresses(value) if len(value) == 4 else ("",)
    if not found:
        raise DhcpMalformed(f"{value.hex()} is no address")
    return found


def addresses(value: bytes) -> tuple[str, ...]:
    """One or more IPv4 addresses. Raises DhcpMalformed."""
    if not value or len(value) % 4:
        raise DhcpMalformed(f"{value.hex()} is no list of addresses")
    return tuple(str(ipaddress.IPv4Address(value[at : at + 4])) for at in range(0, len(value), 4))


def packed(ips: Sequence[str]) -> bytes:
    """The value of a list of addresses."""
    return b"".join(ipaddress.IPv4Address(ip).packed for ip in ips)


def text(value: bytes) -> str:
    """A printable text: what else a peer sent is shown as such, never passed on (names get into files and logs)."""
    return "".join(c if c.isprintable() else "?" for c in value.rstrip(b"\0").decode("utf-8", "replace"))


def prefix_length(mask: bytes) -> int:
    """The prefix length of a subnet mask. Raises DhcpMalformed for one with holes."""
    bits = number(mask, 4)
    length = bits.bit_count()
    if bits != (0xFFFF_FFFF << 32 - length) & 0xFFFF_FFFF:
        raise DhcpMalformed(f"subnet mask {mask.hex()} has holes")
    return length


def mask(length: int) -> bytes:
    """The subnet mask of a prefix length."""
    return ((0xFFFF_FFFF << 32 - length) & 0xFFFF_FFFF).to_bytes(4, "big")


def encode_routes(routes: Iterable[tuple[str, str]]) -> bytes:
    """Classless static routes (RFC 3442): only as many bytes of a destination as its prefix needs."""
    parts = bytearray()
    for destination, gateway in routes:
        network = ipaddress.IPv4Network(destination)
        size = (network.prefixlen + 7) // 8
        parts.append(network.prefixlen)
        parts += network.network_address.packed[:size] + ipaddress.IPv4Address(gateway).packed
    return bytes(parts)


def decode_routes(value: bytes) -> tuple[tuple[str, str], ...]:
    """The reverse: (destination, gateway). Raises DhcpMalformed."""
    found = []
    at = 0
    while at < len(value):
        length = value[at]
        size = (length + 7) // 8
        if length > 32 or at + 1 + size + 4 > len(value):
            raise DhcpMalformed(f"classless routes {value.hex()}")
        network = value[at + 1 : at + 1 + size].ljust(4, b"\0")
        try:
            destination = ipaddress.IPv4Network((network, length))
        except ValueError as error:
            raise DhcpMalformed(f"classless route: {error}") from None
        gateway = value[at + 1 + size : at + 5 + size]
        found.append((str(destination), str(ipaddress.IPv4Address(gateway))))
        at += 5 + size
    return tuple(found)
