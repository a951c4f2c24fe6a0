"""The internet checksum as arithmetic: a sum of 16-bit words is the number that they spell, modulo 65535."""

from __future__ import annotations

_M = 0xFFFF


def total(data: bytes) -> int:
    """The sum of the 16-bit words of ``data``, 0 to 65534; an odd byte at the end counts as a high one."""
    value = int.from_bytes(data, "big")
    return (value << 8 if len(data) & 1 else value) % _M


def closing(sum_of_all: int) -> int:
    """The checksum that makes words with this sum valid: 1 to 65535, so never UDP's "none" (RFC 768)."""
    return _M - sum_of_all % _M


def adjusted(checksum: int, gone: int, new: int) -> int:
    """A checksum after words of sum ``gone`` were replaced by words of sum ``new`` (RFC 1624).

    What was wrong before stays wrong: a translator must not repair a packet that a link corrupted.
    """
    return _M - (_M - checksum - gone + new) % _M
