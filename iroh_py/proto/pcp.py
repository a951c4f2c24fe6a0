"""PCP, the Port Control Protocol: asking a router for a public port (RFC 6887, the part of PROTOCOL 10.3).

::

    request   02 | opcode | 00 00 | lifetime 4 | client IP 16                              24 bytes
    response  02 | opcode + 80 | 00 | result | lifetime 4 | epoch 4 | 12 zero bytes        24 bytes
    MAP data  nonce 12 | protocol | 00 00 00 | internal port 2 | external port 2 | external IP 16

Lifetimes and epochs are seconds. Both directions are here: a node asks, a lab router answers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from iroh_py.addr import pack_ip16, unpack_ip
from iroh_py.errors import PortmapError
from iroh_py.network import Addr
from iroh_py.proto.wire import Reader, Writer

#: UDP port of a router's server (RFC 6887 section 19.1); NAT-PMP has the same.
PORT = 5351
NONCE_SIZE = 12
UDP = 17
#: "No address suggested or assigned", in IPv4.
NO_IP = "0.0.0.0"

_VERSION = 2
_RESPONSE = 0x80
#: RFC 6887 section 7: longer messages are malformed, and all lengths are multiples of four.
_MAX_SIZE = 1100


class Opcode(enum.IntEnum):
    """What is asked for."""

    ANNOUNCE = 0
    MAP = 1


class Result(enum.IntEnum):
    """Result codes of RFC 6887 section 7.4 (a response may carry others)."""

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


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """Asks whether a PCP server is there."""

    client_ip: str


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a mapping, renews it (same nonce), or with ``lifetime`` 0 releases it."""

    client_ip: str
    nonce: bytes
    internal_port: int
    lifetime: int
    external_port: int = 0
    external_ip: str = NO_IP
    protocol: int = UDP


@dataclass(frozen=True, slots=True)
class AnnounceResponse:
    """A server is there; ``epoch`` is how long it has kept its mappings."""

    epoch: int
    result: int = Result.SUCCESS
    lifetime: int = 0


@dataclass(frozen=True, slots=True)
class MapResponse:
    """A mapping, or the reason (``result``) why there is none, which holds for ``lifetime`` seconds."""

    nonce: bytes
    internal_port: int
    external_port: int
    external_ip: str
    lifetime: int
    epoch: int
    result: int = Result.SUCCESS
    protocol: int = UDP

    def mapping_for(self, request: MapRequest) -> Addr:
        """The external address, if this is a usable answer to ``request``. Raises PortmapError."""
        asked = (request.nonce, request.protocol, request.internal_port)
        if (self.nonce, self.protocol, self.internal_port) != asked:
            raise PortmapError("the answer is to another request")
        _check_result(self.result)
        if not self.external_port or ":" in self.external_ip or self.external_ip == NO_IP:
            raise PortmapError(f"no usable mapping: {self.external_ip} port {self.external_port}")
        return self.external_ip, self.external_port


Request = AnnounceRequest | MapRequest
Response = AnnounceResponse | MapResponse


def encode_request(request: Request) -> bytes:
    """The bytes of a request."""
    is_map = isinstance(request, MapRequest)
    out = Writer().u8(_VERSION).u8(Opcode.MAP if is_map else Opcode.ANNOUNCE).u16be(0)
    out.u32be(request.lifetime if isinstance(request, MapRequest) else 0).raw(pack_ip16(request.client_ip))
    if isinstance(request, MapRequest):
        _write_map(out, request)
    return bytes(out)


def encode_response(response: Response) -> bytes:
    """The bytes of a response."""
    is_map = isinstance(response, MapResponse)
    out = Writer().u8(_VERSION).u8(_RESPONSE | (Opcode.MAP if is_map else Opcode.ANNOUNCE)).u8(0)
    out.u8(response.result).u32be(response.lifetime).u32be(response.epoch).raw(bytes(12))
    if isinstance(response, MapResponse):
        _write_map(out, response)
    return bytes(out)


def parse_request(data: bytes) -> Request:
    """A request; options after it are ignored. Raises PortmapError."""
    reader = _reader(data)
    opcode = reader.u8()
    reader.take(2)
    lifetime = reader.u32be()
    client_ip = unpack_ip(reader.take(16))
    if opcode == Opcode.ANNOUNCE:
        return AnnounceRequest(client_ip)
    if opcode == Opcode.MAP:
        nonce, protocol, internal_port, external_port, external_ip = _read_map(reader)
        return MapRequest(client_ip, nonce, internal_port, lifetime, external_port, external_ip, protocol)
    raise PortmapError(f"opcode {opcode:#04x} is no request that we know")


def parse_response(data: bytes) -> Response:
    """A response, also one with an error result; options after it are ignored. Raises PortmapError.

    A server of NAT-PMP only answers with another version, which is an error here.
    """
    reader = _reader(data)
    opcode = reader.u8()
    reader.take(1)
    result, lifetime, epoch = reader.u8(), reader.u32be(), reader.u32be()
    reader.take(12)
    if opcode == _RESPONSE | Opcode.ANNOUNCE:
        return AnnounceResponse(epoch, result, lifetime)
    if opcode == _RESPONSE | Opcode.MAP:
        nonce, protocol, internal_port, external_port, external_ip = _read_map(reader)
        return MapResponse(
            nonce, internal_port, external_port, external_ip, lifetime, epoch, result, protocol
        )
    raise PortmapError(f"opcode {opcode:#04x} is no response that we know")


def _check_result(result: int) -> None:
    if result == Result.SUCCESS:
        return
    known = {int(member): member.name for member in Result}
    raise PortmapError(f"the router refuses: {known.get(result, f'result {result}')}")


def _write_map(out: Writer, data: MapRequest | MapResponse) -> None:
    out.raw(data.nonce).u8(data.protocol).raw(bytes(3))
    out.u16be(data.internal_port).u16be(data.external_port).raw(pack_ip16(data.external_ip))


def _reader(data: bytes) -> Reader:
    """A reader past the version of a message of allowed size."""
    if len(data) > _MAX_SIZE or len(data) % 4:
        raise PortmapError(f"a message of {len(data)} bytes")
    reader = Reader(data, PortmapError)
    version = reader.u8()
    if version != _VERSION:
        raise PortmapError(f"version {version}, not {_VERSION}")
    return reader


def _read_map(reader: Reader) -> tuple[bytes, int, int, int, str]:
    nonce, protocol = reader.take(NONCE_SIZE), reader.u8()
    reader.take(3)
    return nonce, protocol, reader.u16be(), reader.u16be(), unpack_ip(reader.take(16))
