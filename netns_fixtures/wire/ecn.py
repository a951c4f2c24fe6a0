"""The ECN field of frames: read it, write it, and decide about it (RFC 3168 section 5, RFC 9331 section 5)."""

from __future__ import annotations

import enum
from random import Random

from netns_fixtures.ecn import Ecn, EcnMiddlebox
from netns_fixtures.wire.frames import ETHERNET_HEADER, IPV4, IPV6

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
_FIELD = 0b11

_IPV4_HEADER, _IPV6_HEADER = 20, 40
#: The field's byte: IPv4's second, the former TOS; in IPv6 the traffic class lies across the first two, and its
#: low four bits are the high half of the second.
_OFFSET = ETHERNET_HEADER + 1
_IPV6_SHIFT = 4
_CHECKSUM = ETHERNET_HEADER + 10


class EcnFate(enum.Enum):
    """What becomes of a packet by its ECN field."""

    PASSED = enum.auto()
    MARKED = enum.auto()
    DROPPED = enum.auto()


class EcnProcess:
    """Decides for one packet after the other, by draws of its own: the fates by other fields stay as they are."""

    __slots__ = ("_random",)

    def __init__(self, seed: int | str) -> None:
        self._random = Random(f"{seed}/ecn").random

    def fate(self, ecn: Ecn, codepoint: int, waiting: float) -> EcnFate:
        """The fate of a packet that will wait that many seconds in the queue. One draw, whatever comes of it."""
        if self._random() >= ecn.chance(waiting) or codepoint == CE:
            return EcnFate.PASSED
        if codepoint == ECT_1 or (codepoint == ECT_0 and not ecn.l4s_only):
            return EcnFate.MARKED
        return EcnFate.DROPPED if ecn.drop_others else EcnFate.PASSED


def rewritten(middlebox: EcnMiddlebox, codepoint: int) -> int | None:
    """The ECN field behind a middlebox; None: the packet is dropped."""
    if codepoint == NOT_ECT:
        return codepoint
    if middlebox == EcnMiddlebox.DROP:
        return None
    if middlebox == EcnMiddlebox.BLEACH:
        return NOT_ECT
    return ECT_0 if middlebox == EcnMiddlebox.REMARK and codepoint == ECT_1 else codepoint


def codepoint_of(frame: bytes) -> int | None:
    """The ECN field of an IP packet in a frame; None where there is none."""
    kind = frame[12:14]
    if kind == IPV4:
        return frame[_OFFSET] & _FIELD if len(frame) >= ETHERNET_HEADER + _IPV4_HEADER else None
    if kind == IPV6:
        whole = len(frame) >= ETHERNET_HEADER + _IPV6_HEADER
        return frame[_OFFSET] >> _IPV6_SHIFT & _FIELD if whole else None
    return None


def with_codepoint(frame: bytes, codepoint: int) -> bytes:
    """The frame of an IP packet with another ECN field, and the header checksum that goes with it."""
    changed = bytearray(frame)
    if frame[12:14] == IPV6:
        changed[_OFFSET] = frame[_OFFSET] & ~(_FIELD << _IPV6_SHIFT) | codepoint << _IPV6_SHIFT
        return bytes(changed)
    changed[_OFFSET] = frame[_OFFSET] & ~_FIELD | codepoint
    # RFC 1624 equation 3, HC' = ~(~HC + ~m + m'): a header that was wrong before stays just as wrong.
    before = int.from_bytes(frame[_CHECKSUM : _CHECKSUM + 2])
    total = (before ^ 0xFFFF) + (frame[_OFFSET] ^ 0xFFFF) + changed[_OFFSET]
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    changed[_CHECKSUM : _CHECKSUM + 2] = (total ^ 0xFFFF).to_bytes(2)
    return bytes(changed)
