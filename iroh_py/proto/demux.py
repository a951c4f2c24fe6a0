"""Telling apart what arrives on the one UDP socket: disco, STUN and QUIC (PROTOCOL 2.4)."""

from __future__ import annotations

import enum

from iroh_py.proto.disco import MAGIC
from iroh_py.proto.stun import COOKIE, HEADER_SIZE


class Kind(enum.Enum):
    """What a datagram is taken for."""

    STUN = "stun"
    DISCO = "disco"
    QUIC = "quic"


_DISCO_FIRST = MAGIC[0]
#: Magic and sender key; whether the rest is there is for the disco parser to say.
_DISCO_MIN = len(MAGIC) + 32
#: The two top bits of a STUN message are zero; the second one is QUIC's fixed bit.
_STUN_ZERO_BITS = 0xC0

# Looking up a member of an enum class costs more than the rest of `classify`.
_STUN, _DISCO, _QUIC = Kind.STUN, Kind.DISCO, Kind.QUIC


def classify(data: bytes) -> Kind:
    """What a datagram is, by its first bytes alone; everything unknown is QUIC, whose parser drops it.

    Never raises. Called per datagram, so the first byte decides for nearly all of them.
    """
    if not data:
        return _QUIC
    first = data[0]
    if first == _DISCO_FIRST:
        # Also a valid first byte of a QUIC short header, hence the whole magic.
        return _DISCO if len(data) >= _DISCO_MIN and data.startswith(MAGIC) else _QUIC
    if first & _STUN_ZERO_BITS == 0 and len(data) >= HEADER_SIZE and data[4:8] == COOKIE:
        return _STUN
    return _QUIC
