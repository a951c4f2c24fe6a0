"""STUN: asking a server from which address it sees us (RFC 8489, the part of PROTOCOL 6)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from iroh_py.addr import pack_ip, unpack_ip
from iroh_py.errors import StunError
from iroh_py.network import Addr

#: The magic cookie, RFC 8489 section 5.
COOKIE = b"\x21\x12\xa4\x42"
HEADER_SIZE = 20
TX_ID_SIZE = 12

_REQUEST = 0x0001
_SUCCESS = 0x0101
_MAPPED_ADDRESS = 0x0001
_XOR_MAPPED_ADDRESS = 0x0020
_FINGERPRINT = 0x8028
#: FINGERPRINT is a CRC-32 under this mask, so that it differs from a CRC of another layer (RFC 8489 14.7).
_FINGERPRINT_XOR = 0x5354554E
_FAMILY_SIZES = {1: 4, 2: 16}
#: The upper half of the cookie hides the port.
_PORT_XOR = 0x2112

_HEADER = struct.Struct("!HH4s12s")
_ATTRIBUTE = struct.Struct("!HH")
_U32 = struct.Struct("!I")
_FINGERPRINT_SIZE = _ATTRIBUTE.size + _U32.size


def encode_request(tx_id: bytes) -> bytes:
    """A Binding request with a fingerprint, 28 bytes; ``tx_id`` is 12 random bytes."""
    head = _HEADER.pack(_REQUEST, _FINGERPRINT_SIZE, COOKIE, tx_id)
    return head + _ATTRIBUTE.pack(_FINGERPRINT, _U32.size) + _U32.pack(_crc(head))


def parse_request(data: bytes) -> bytes:
    """The transaction id of a Binding request.

    As iroh's server demands: if there are attributes, the last is a valid FINGERPRINT. Raises StunError.
    """
    kind, tx_id = _parse_header(data)
    if kind != _REQUEST:
        raise StunError(f"message type {kind:#06x} is no Binding request")
    attributes = list(_attributes(data))
    if attributes:
        _check_fingerprint(data, *attributes[-1])
    return tx_id


def encode_response(tx_id: bytes, addr: Addr) -> bytes:
    """A Binding success with XOR-MAPPED-ADDRESS and nothing else."""
    ip, port = addr
    packed = pack_ip(ip)
    value = struct.pack("!BBH", 0, 1 if len(packed) == 4 else 2, port ^ _PORT_XOR) + _xor(packed, tx_id)
    attribute = _ATTRIBUTE.pack(_XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_SUCCESS, len(attribute), COOKIE, tx_id) + attribute


def parse_response(data: bytes) -> tuple[bytes, Addr]:
    """Transaction id and our address from a Binding success of any server.

    The first XOR-MAPPED-ADDRESS counts, else the first MAPPED-ADDRESS. Raises StunError.
    """
    kind, tx_id = _parse_header(data)
    if kind != _SUCCESS:
        raise StunError(f"message type {kind:#06x} is no Binding success")
    mapped: Addr | None = None
    for attribute, value in _attributes(data):
        if attribute == _XOR_MAPPED_ADDRESS:
            port, packed = _parse_address(value)
            return tx_id, (unpack_ip(_xor(packed, tx_id)), port ^ _PORT_XOR)
        if attribute == _MAPPED_ADDRESS and mapped is None:
            port, packed = _parse_address(value)
            mapped = unpack_ip(packed), port
    if mapped is None:
        raise StunError("a Binding success without an address")
    return tx_id, mapped


def _parse_header(data: bytes) -> tuple[int, bytes]:
    if len(data) < HEADER_SIZE:
        raise StunError(f"a message of {len(data)} bytes is truncated")
    kind, length, cookie, tx_id = _HEADER.unpack_from(data)
    if cookie != COOKIE:
        raise StunError("no magic cookie")
    if length % 4 or length != len(data) - HEADER_SIZE:
        raise StunError(f"a length of {length} in a message of {len(data)} bytes")
    return kind, tx_id


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute of a message whose header was parsed; values are padded to 4 bytes."""
    at = HEADER_SIZE
    while at < len(data):
        kind, size = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if at + size > len(data):
            raise StunError(f"attribute {kind:#06x} of {size} bytes is truncated")
        yield kind, data[at : at + size]
        at += size + -size % 4


def _check_fingerprint(data: bytes, kind: int, value: bytes) -> None:
    if kind != _FINGERPRINT or value != _U32.pack(_crc(data[:-_FINGERPRINT_SIZE])):
        raise StunError("the last attribute is no valid fingerprint")


def _parse_address(value: bytes) -> tuple[int, bytes]:
    if len(value) < 4 or _FAMILY_SIZES.get(value[1]) != len(value) - 4:
        raise StunError(f"no address in an attribute of {len(value)} bytes")
    return int.from_bytes(value[2:4], "big"), value[4:]


def _xor(packed: bytes, tx_id: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(packed, COOKIE + tx_id, strict=False))


def _crc(data: bytes) -> int:
    return zlib.crc32(data) ^ _FINGERPRINT_XOR
