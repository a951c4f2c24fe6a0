"""The three base-32 alphabets of the stack, all without padding and all printed in lower case (PROTOCOL 1.1).

RFC 4648 for ids and tickets, z-base-32 for DNS names, the RFC 4648 "extended hex" alphabet for TLS server
names.
"""

from __future__ import annotations

import base64

from iroh_py.errors import TicketError

RFC4648 = "abcdefghijklmnopqrstuvwxyz234567"
ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
DNSSEC = "0123456789abcdefghijklmnopqrstuv"

_STANDARD = RFC4648.upper()
_ENCODE = {alphabet: str.maketrans(_STANDARD, alphabet) for alphabet in (RFC4648, ZBASE32, DNSSEC)}
_DECODE = {alphabet: str.maketrans(alphabet, _STANDARD) for alphabet in _ENCODE}


def encode(data: bytes, alphabet: str = RFC4648) -> str:
    """The text form of bytes in one of the three alphabets of this module."""
    return base64.b32encode(data).decode().rstrip("=").translate(_ENCODE[alphabet])


def decode(text: str, alphabet: str = RFC4648) -> bytes:
    """The bytes of a text in any letter case.

    Raises TicketError for a foreign character (naming it), an impossible length, or set bits after the last
    byte: two texts never mean the same bytes.
    """
    lowered = text.lower()
    for position, char in enumerate(lowered):
        if char not in alphabet:
            raise TicketError(f"character {text[position : position + 1]!r} at {position} is not base32")
    standard = lowered.translate(_DECODE[alphabet])
    # The standard library wants padding to whole groups of eight characters.
    try:
        data = base64.b32decode(standard + "=" * (-len(standard) % 8))
    except ValueError as error:
        raise TicketError(f"{len(text)} characters are no whole number of base32 bytes") from error
    if encode(data, alphabet) != lowered:
        raise TicketError("the last base32 character has bits set beyond the last byte")
    return data
