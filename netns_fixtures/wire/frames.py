"""The little that a wire knows of Ethernet frames: whom to spare, and how to damage one."""

from __future__ import annotations

ETHERNET_HEADER = 14  # two addresses and the type; TAPs here carry no VLAN tag

IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"

_IGMP = 2
_HOP_BY_HOP = 0
_ICMPV6 = 58

# Offsets into the whole frame.
_IPV4_PROTOCOL = ETHERNET_HEADER + 9
_IPV6_NEXT_HEADER = ETHERNET_HEADER + 6
_IPV6_PAYLOAD = ETHERNET_HEADER + 40

# Multicast listener 130-132 and 143 (RFC 2710, 3810), neighbour discovery 133-137 (RFC 4861).
_ICMPV6_HOUSEKEEPING = frozenset(range(130, 138)) | {143}


def is_housekeeping(frame: bytes) -> bool:
    """Whether the frame keeps the link itself going: ARP, IGMP, MLD, neighbour discovery, anything not IP."""
    kind = frame[12:14]
    if kind == IPV4:
        return len(frame) > _IPV4_PROTOCOL and frame[_IPV4_PROTOCOL] == _IGMP
    if kind != IPV6:
        return True
    if len(frame) <= _IPV6_PAYLOAD:
        return False
    next_header = frame[_IPV6_NEXT_HEADER]
    if next_header == _ICMPV6:
        return frame[_IPV6_PAYLOAD] in _ICMPV6_HOUSEKEEPING
    # MLD travels behind a hop-by-hop router alert; echo and errors do not.
    return next_header == _HOP_BY_HOP and frame[_IPV6_PAYLOAD] == _ICMPV6


def flip_bit(frame: bytes, where: float) -> bytes:
    """The frame with one bit beyond the Ethernet header flipped; `where` (0 <= where < 1) picks the bit."""
    bits = (len(frame) - ETHERNET_HEADER) * 8
    if bits <= 0:
        return frame
    byte, bit = divmod(int(where * bits), 8)
    damaged = bytearray(frame)
    damaged[ETHERNET_HEADER + byte] ^= 1 << bit
    return bytes(damaged)
