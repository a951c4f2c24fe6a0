"""NAT-PMP as a server speaks it (RFC 6886).

::

    external address  request 00 00                             response 00 80 | result 2 | epoch 4 | IPv4 4
    map (UDP 1, TCP 2)        00 01 | 00 00 | internal port 2 | external port 2 | lifetime 4
                     response 00 81 | result 2 | epoch 4 | internal port 2 | external port 2 | lifetime 4

Lifetimes and epochs are seconds.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass

from netns_fixtures.portmap.wire import PortMapProtocolError, unpack

VERSION = 0
_RESPONSE = 0x80
_EXTERNAL_ADDRESS = 0
_MAP = struct.Struct(">BB2xHHI")
_MAPPED = struct.Struct(">BBHIHHI")
_SHORT = struct.Struct(">BBHI")


class Transport(enum.IntEnum):
    """What is mapped; its number is the opcode."""

    UDP = 1
    TCP = 2


class Result(enum.IntEnum):
    """Result codes (section 3.5)."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


@dataclass(frozen=True, slots=True)
class ExternalAddressRequest:
    """Asks for the router's public address."""


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a mapping or renews it; ``lifetime`` 0 deletes, with internal port 0 all of that transport."""

    transport: Transport
    internal_port: int
    external_port: int
    lifetime: int


Request = ExternalAddressRequest | MapRequest


class UnknownOpcode(PortMapProtocolError):
    """To be answered with UNSUPPORTED_OPCODE."""


def is_answerable(data: bytes) -> bool:
    """Whether it is a request at all: responses are never answered."""
    return len(data) >= 2 and not data[1] & _RESPONSE


def parse_request(data: bytes) -> Request:
    """A request of version 0; what comes after it is ignored. Raises PortMapProtocolError, UnknownOpcode."""
    if len(data) < 2 or data[0] != VERSION:
        raise PortMapProtocolError(f"no NAT-PMP request: {data[:16].hex()}")
    opcode = data[1]
    if opcode == _EXTERNAL_ADDRESS:
        return ExternalAddressRequest()
    if opcode not in (Transport.UDP, Transport.TCP):
        raise UnknownOpcode(f"opcode {opcode}")
    _version, _opcode, internal_port, external_port, lifetime = unpack(_MAP, data)
    return MapRequest(Transport(opcode), internal_port, external_port, lifetime)


def encode_external_address(ip: str, epoch: int, result: int = Result.SUCCESS) -> bytes:
    """The public address; also sent unasked after a change (section 3.2.1)."""
    header = _SHORT.pack(VERSION, _RESPONSE | _EXTERNAL_ADDRESS, result, epoch)
    return header + ipaddress.IPv4Address(ip).packed


def encode_mapped(
    request: MapRequest, external_port: int, lifetime: int, epoch: int, result: int = Result.SUCCESS
) -> bytes:
    """A mapping granted, deleted (port and lifetime 0) or, with ``result``, refused."""
    opcode = _RESPONSE | request.transport
    return _MAPPED.pack(VERSION, opcode, result, epoch, request.internal_port, external_port, lifetime)


def encode_unsupported(data: bytes, result: Result, epoch: int) -> bytes:
    """The answer to a version or an opcode that this server does not know (section 3.5)."""
    return _SHORT.pack(VERSION, _RESPONSE | data[1] & 0x7F, result, epoch)
