"""PCP as a server speaks it: requests in, responses out (RFC 6887).

::

    request   02 | opcode | 00 00 | lifetime 4 | client address 16                         24 bytes
    response  02 | opcode + 80 | 00 | result | lifetime 4 | epoch 4 | 12 zero bytes        24 bytes
    MAP       nonce 12 | protocol | 00 00 00 | internal port 2 | external port 2 | external address 16
    option    code | 00 | length 2 | data, padded to a multiple of 4

Lifetimes and epochs are seconds.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netns_fixtures.portmap.wire import PortMapProtocolError, pack_ip16, unpack, unpack_ip16

VERSION = 2
#: RFC 6887 section 7: larger messages are malformed, and all are multiples of four bytes.
MAX_SIZE = 1100
#: "No address", in IPv4 (section 5).
NO_IP = "0.0.0.0"

_RESPONSE = 0x80
_HEADER_SIZE = 24
_NONCE_SIZE = 12
_HEADER = struct.Struct(">BBHI")
_RESPONSE_HEADER = struct.Struct(">BBBBII12x")
_MAP_PORTS = struct.Struct(">B3xHH")
_MAP_SIZE = 36
_OPTION = struct.Struct(">BBH")
#: Options below must be understood or refused (section 7.3).
_OPTIONAL = 128


class Opcode(enum.IntEnum):
    """What is asked for (section 19.2)."""

    ANNOUNCE = 0
    MAP = 1


class Option(enum.IntEnum):
    """Options that mean something here (section 13)."""

    THIRD_PARTY = 1
    PREFER_FAILURE = 2


class Result(enum.IntEnum):
    """Result codes (section 7.4)."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


class Refused(PortMapProtocolError):
    """A request that must be answered with ``result``."""

    def __init__(self, result: Result, why: str) -> None:
        super().__init__(f"{result.name}: {why}")
        self.result = result


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """Asks whether a server is there."""

    client_ip: str


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a mapping, renews it (same nonce), or with ``lifetime`` 0 deletes it."""

    client_ip: str
    nonce: bytes
    protocol: int
    internal_port: int
    lifetime: int
    external_port: int = 0
    external_ip: str = NO_IP
    prefer_failure: bool = False
    #: Another inside host, for which the client asks (section 13.1).
    third_party: str | None = None

    @property
    def internal_ip(self) -> str:
        """Whose port it is."""
        return self.third_party or self.client_ip


Request = AnnounceRequest | MapRequest


def is_answerable(data: bytes) -> bool:
    """Whether it is a request at all; others are dropped without an answer (section 8.2)."""
    return len(data) >= 2 and data[0] == VERSION and not data[1] & _RESPONSE


def parse_request(data: bytes) -> Request:
    """A request of version 2. Raises Refused, saying what to answer."""
    try:
        return _parse(data)
    except Refused:
        raise
    except PortMapProtocolError as error:
        raise Refused(Result.MALFORMED_REQUEST, str(error)) from error


def encode_announce(epoch: int, result: int = Result.SUCCESS) -> bytes:
    """The answer to an ANNOUNCE, or an unsolicited one after a restart (section 14.1)."""
    return _RESPONSE_HEADER.pack(VERSION, _RESPONSE | Opcode.ANNOUNCE, 0, result, 0, epoch)


def encode_map(request: MapRequest, external_ip: str, external_port: int, lifetime: int, epoch: int) -> bytes:
    """A mapping granted (or with ``lifetime`` 0 deleted)."""
    header = _RESPONSE_HEADER.pack(VERSION, _RESPONSE | Opcode.MAP, 0, Result.SUCCESS, lifetime, epoch)
    ports = _MAP_PORTS.pack(request.protocol, request.internal_port, external_port)
    answer = header + request.nonce + ports + pack_ip16(external_ip)
    if request.third_party is None:
        return answer
    party = pack_ip16(request.third_party)
    return answer + _OPTION.pack(Option.THIRD_PARTY, 0, len(party)) + party


def encode_refusal(data: bytes, result: int, lifetime: int, epoch: int) -> bytes:
    """An error: the request comes back behind a response header (section 8.2). ``lifetime``: how long it holds."""
    opcode = data[1] & ~_RESPONSE if len(data) > 1 else 0
    rest = data[_HEADER_SIZE:MAX_SIZE]
    header = _RESPONSE_HEADER.pack(VERSION, _RESPONSE | opcode, 0, result, lifetime, epoch)
    return header + rest + bytes(-len(rest) % 4)


def _parse(data: bytes) -> Request:
    if len(data) > MAX_SIZE or len(data) % 4:
        raise Refused(Result.MALFORMED_REQUEST, f"{len(data)} bytes")
    version, opcode, _reserved, lifetime = unpack(_HEADER, data)
    if version != VERSION:
        raise Refused(Result.UNSUPP_VERSION, f"version {version}")
    if len(data) < _HEADER_SIZE:
        raise Refused(Result.MALFORMED_REQUEST, f"{len(data)} bytes")
    client_ip = unpack_ip16(data[8:_HEADER_SIZE])
    if opcode == Opcode.ANNOUNCE:
        _read_options(data[_HEADER_SIZE:], allowed={})
        return AnnounceRequest(client_ip)
    if opcode != Opcode.MAP:
        raise Refused(Result.UNSUPP_OPCODE, f"opcode {opcode}")
    body = data[_HEADER_SIZE:]
    if len(body) < _MAP_SIZE:
        raise Refused(Result.MALFORMED_REQUEST, f"{len(data)} bytes")
    protocol, internal_port, external_port = unpack(_MAP_PORTS, body, _NONCE_SIZE)
    external_ip = unpack_ip16(body[20:_MAP_SIZE])
    options = _read_options(body[_MAP_SIZE:], allowed={Option.PREFER_FAILURE: 0, Option.THIRD_PARTY: 16})
    party = options.get(Option.THIRD_PARTY)
    return MapRequest(
        client_ip,
        body[:_NONCE_SIZE],
        protocol,
        internal_port,
        lifetime,
        external_port,
        external_ip,
        Option.PREFER_FAILURE in options,
        None if party is None else unpack_ip16(party),
    )


def _read_options(data: bytes, allowed: Mapping[int, int]) -> dict[int, bytes]:
    """Options with their data; ``allowed`` says how long that is, in bytes. Raises Refused."""
    found: dict[int, bytes] = {}
    for code, value in _options(data):
        if code < _OPTIONAL and code not in allowed:
            raise Refused(Result.UNSUPP_OPTION, f"option {code}")
        if code in found or len(value) != allowed.get(code, len(value)):
            raise Refused(Result.MALFORMED_OPTION, f"option {code} twice, or of {len(value)} bytes")
        found[code] = value
    return found


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        try:
            code, _reserved, length = unpack(_OPTION, data)
        except PortMapProtocolError as error:
            raise Refused(Result.MALFORMED_OPTION, str(error)) from error
        size = _OPTION.size + length + -length % 4
        if size > len(data):
            raise Refused(Result.MALFORMED_OPTION, f"option {code} of {length} bytes")
        yield code, data[_OPTION.size : _OPTION.size + length]
        data = data[size:]
