"""ICMP errors between the versions: types, codes, MTUs, pointers (RFC 7915 sections 4.2 and 5.2). Sans-IO."""

from __future__ import annotations

import struct

#: ICMPv6: destination unreachable, packet too big, time exceeded, parameter problem.
_UNREACHABLE6, _TOO_BIG6, _EXCEEDED6, _PROBLEM6 = 1, 2, 3, 4
#: ICMP: destination unreachable, time exceeded, parameter problem.
_UNREACHABLE4, _EXCEEDED4, _PROBLEM4 = 3, 11, 12
_NEEDS_FRAGMENTATION = 4
#: The IPv6 header is longer than the IPv4 header by this.
GROWTH = 20
#: Every IPv6 link carries this much (RFC 8200 section 5), so nobody is told of less.
MIN_MTU6 = 1280
#: What an old router that names no MTU probably has (RFC 1191 section 7), largest first.
_PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)
_BODY = struct.Struct("!BBHI")
#: The IPv4 header field that an IPv6 header field becomes, by (first, last) byte, and the other way round.
_POINTERS_TO_V4 = {(0, 0): 0, (1, 1): 1, (4, 5): 2, (6, 6): 9, (7, 7): 8, (8, 23): 12, (24, 39): 16}
_POINTERS_TO_V6 = {(0, 0): 0, (1, 1): 1, (2, 3): 4, (8, 8): 7, (9, 9): 6, (12, 15): 8, (16, 19): 24}
_UNREACHABLE_TO_V4 = {0: 1, 1: 10, 2: 1, 3: 1, 4: 3}
_UNREACHABLE_TO_V6 = {0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 15: 1}
_PROTOCOL_UNREACHABLE = 2
#: "The next header field", where IPv6 reports an unknown protocol.
_NEXT_HEADER = 6


def head_to_v4(payload: bytes) -> bytes | None:
    """The first 8 bytes of the ICMP error for an ICMPv6 error, without checksum; None where none fits."""
    kind, code, _checksum, value = _BODY.unpack_from(payload)
    if kind == _UNREACHABLE6 and code in _UNREACHABLE_TO_V4:
        return _head(_UNREACHABLE4, _UNREACHABLE_TO_V4[code])
    if kind == _TOO_BIG6:
        return _head(_UNREACHABLE4, _NEEDS_FRAGMENTATION, max(68, min(value - GROWTH, 0xFFFF)))
    if kind == _EXCEEDED6:
        return _head(_EXCEEDED4, code)
    if kind == _PROBLEM6 and code == 1:
        return _head(_UNREACHABLE4, _PROTOCOL_UNREACHABLE)
    if kind == _PROBLEM6 and code == 0:
        pointer = _pointer(_POINTERS_TO_V4, value)
        return None if pointer is None else _head(_PROBLEM4, 0, pointer << 24)
    return None


def head_to_v6(payload: bytes, quoted_size: int) -> bytes | None:
    """The reverse; ``quoted_size`` is the length of the IPv4 packet that the error is about."""
    kind, code, _checksum, value = _BODY.unpack_from(payload)
    if kind == _UNREACHABLE4 and code in _UNREACHABLE_TO_V6:
        return _head(_UNREACHABLE6, _UNREACHABLE_TO_V6[code])
    if kind == _UNREACHABLE4 and code == _NEEDS_FRAGMENTATION:
        mtu = value & 0xFFFF or next((p for p in _PLATEAUS if p < quoted_size), _PLATEAUS[-1])
        return _head(_TOO_BIG6, 0, max(MIN_MTU6, mtu + GROWTH))
    if kind == _UNREACHABLE4 and code == _PROTOCOL_UNREACHABLE:
        return _head(_PROBLEM6, 1, _NEXT_HEADER)
    if kind == _EXCEEDED4:
        return _head(_EXCEEDED6, code)
    if kind == _PROBLEM4 and code in (0, 2):
        pointer = _pointer(_POINTERS_TO_V6, value >> 24)
        return None if pointer is None else _head(_PROBLEM6, 0, pointer)
    return None


def quoted(payload: bytes, *, v6: bool) -> bytes:
    """The packet that an error is about, without what RFC 4884 may have put behind it."""
    words = payload[4] * 8 if v6 else payload[5] * 4
    kind = payload[0]
    extensible = kind in ((_UNREACHABLE6, _EXCEEDED6) if v6 else (_UNREACHABLE4, _EXCEEDED4, _PROBLEM4))
    return payload[8 : 8 + words] if extensible and words else payload[8:]


def _head(kind: int, code: int, value: int = 0) -> bytes:
    return _BODY.pack(kind, code, 0, value)


def _pointer(table: dict[tuple[int, int], int], value: int) -> int | None:
    return next((new for (first, last), new in table.items() if first <= value <= last), None)
