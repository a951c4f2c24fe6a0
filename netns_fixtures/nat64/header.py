"""IPv4 and IPv6 headers, read and written. Sans-IO; what cannot be translated reads as None."""

from __future__ import annotations

import struct
from typing import NamedTuple

from netns_fixtures.nat64.checksum import closing, total

_V4 = struct.Struct("!BBHHHBBH4s4s")
_V6 = struct.Struct("!IHBB16s16s")
_FRAGMENT = struct.Struct("!BBHI")
V4_SIZE, V6_SIZE, FRAGMENT_SIZE = _V4.size, _V6.size, _FRAGMENT.size
#: Extension headers that a translator ignores (RFC 7915 section 5.1), and the one that it translates.
_HOP_BY_HOP, _ROUTING, _FRAGMENT_HEADER, _DESTINATION = 0, 43, 44, 60
#: More than any honest packet has.
_MAX_EXTENSIONS = 8


class Fragment(NamedTuple):
    """``offset`` in units of 8 bytes; ``more``: not the last one."""

    identification: int
    offset: int
    more: bool


class Packet(NamedTuple):
    """What both versions have in common. ``size`` is the payload's length as the header says it.

    Inside of an ICMP error ``payload`` may be shorter than that. ``df`` is IPv4's "don't fragment". A tuple, as two
    are made for each packet that is translated, and dataclasses cost five times as much.
    """

    source: bytes
    destination: bytes
    protocol: int
    hops: int
    traffic_class: int
    payload: bytes
    size: int
    fragment: Fragment | None = None
    df: bool = False

    @property
    def first(self) -> bool:
        """Whether the payload begins with the transport's header."""
        return self.fragment is None or self.fragment.offset == 0


def read_v4(data: bytes, *, quoted: bool = False) -> Packet | None:
    """An IPv4 packet; ``quoted``: the beginning of one, inside of an ICMP error. Options are passed over."""
    if len(data) < V4_SIZE:
        return None
    first, tos, length, identification, flags, ttl, protocol, _sum, source, destination = _V4.unpack_from(
        data
    )
    header = (first & 15) * 4
    if first >> 4 != 4 or header < V4_SIZE or length < header or len(data) < header:
        return None
    if not quoted and (len(data) < length or total(data[:header])):
        return None
    offset, more = flags & 0x1FFF, bool(flags & 0x2000)
    fragment = Fragment(identification, offset, more) if offset or more else None
    df = bool(flags & 0x4000)
    return Packet(source, destination, protocol, ttl, tos, data[header:length], length - header, fragment, df)


def read_v6(data: bytes, *, quoted: bool = False) -> Packet | None:
    """An IPv6 packet, its extension headers passed over; ``quoted`` as in :func:`read_v4`."""
    if len(data) < V6_SIZE:
        return None
    first, length, kind, hops, source, destination = _V6.unpack_from(data)
    if first >> 28 != 6 or (not quoted and len(data) < V6_SIZE + length):
        return None
    payload = data[V6_SIZE : V6_SIZE + length]
    fragment = None
    for _ in range(_MAX_EXTENSIONS):
        if kind == _FRAGMENT_HEADER and fragment is None and len(payload) >= FRAGMENT_SIZE:
            kind, _reserved, offset, identification = _FRAGMENT.unpack_from(payload)
            fragment = Fragment(identification, offset >> 3, bool(offset & 1))
            size = FRAGMENT_SIZE
        elif kind in (_HOP_BY_HOP, _DESTINATION, _ROUTING) and len(payload) >= 8:
            if kind == _ROUTING and payload[3]:
                return None  # segments left: it is on its way elsewhere
            kind, size = payload[0], 8 + 8 * payload[1]
        else:
            break
        payload = payload[size:]
        length -= size
    if kind in (_HOP_BY_HOP, _DESTINATION, _ROUTING, _FRAGMENT_HEADER) or length < 0:
        return None
    if fragment is not None and not (fragment.offset or fragment.more):
        fragment = None  # an "atomic fragment" (RFC 6946): whole
    return Packet(source, destination, kind, hops, first >> 20 & 255, payload, length, fragment)


def write_v4(packet: Packet, identification: int) -> bytes:
    """The packet with an IPv4 header; ``identification`` for one that is not a fragment."""
    flags = 0x4000 if packet.df else 0
    if packet.fragment is not None:
        identification = packet.fragment.identification
        flags = packet.fragment.offset | (0x2000 if packet.fragment.more else 0)
    fields = (
        0x45, packet.traffic_class, V4_SIZE + packet.size, identification & 0xFFFF, flags,
        packet.hops, packet.protocol,
    )  # fmt: skip
    header = _V4.pack(*fields, 0, packet.source, packet.destination)
    return header[:10] + closing(total(header)).to_bytes(2, "big") + header[12:] + packet.payload


def write_v6(packet: Packet) -> bytes:
    """The packet with an IPv6 header, and a fragment header where it is one."""
    kind, size, extension = packet.protocol, packet.size, b""
    if packet.fragment is not None:
        f = packet.fragment
        extension = _FRAGMENT.pack(kind, 0, f.offset << 3 | f.more, f.identification)
        kind, size = _FRAGMENT_HEADER, size + FRAGMENT_SIZE
    head = 6 << 28 | packet.traffic_class << 20
    return (
        _V6.pack(head, size, kind, packet.hops, packet.source, packet.destination)
        + extension
        + packet.payload
    )
