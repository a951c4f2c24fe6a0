"""NAT-PMP: the older way of asking a router for a public port (RFC 6886, PROTOCOL 10.4).

::

    external address  request 00 00                             response 00 80 | result 2 | epoch 4 | IPv4 4
    map (UDP 1, TCP 2)        00 01 | 00 00 | internal port 2 | external port 2 | lifetime 4
                     response 00 81 | result 2 | epoch 4 | internal port 2 | external port 2 | lifetime 4

Lifetimes and epochs are seconds. Both directions are here: a node asks, a lab router answers.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from iroh_py.addr import pack_ip, unpack_ip
from iroh_py.errors import PortmapError
from iroh_py.network import Addr
from iroh_py.proto.wire import Reader, Writer

#: UDP port of a router's server (RFC 6886 section 3).
PORT = 5351

_VERSION = 0
_RESPONSE = 0x80
_EXTERNAL_ADDRESS = 0
_NO_IP = "0.0.0.0"


class Protocol(enum.IntEnum):
    """The transport of a mapping; its number is the opcode."""

    UDP = 1
    TCP = 2


class Result(enum.IntEnum):
    """Result codes of RFC 6886 section 3.5 (a response may carry others)."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


@dataclass(frozen=True, slots=True)
class ExternalAddressRequest:
    """Asks for the router's public IPv4 address."""


@dataclass(frozen=True, slots=True)
class MapRequest:
    """Asks for a mapping or renews it; external port 0 with lifetime 0 releases it."""

    internal_port: int
    lifetime: int
    external_port: int = 0
    protocol: Protocol = Protocol.UDP


@dataclass(frozen=True, slots=True)
class ExternalAddressResponse:
    """The router's public IPv4 address, or the reason (``result``) why there is none."""

    external_ip: str
    epoch: int
    result: int = Result.SUCCESS

    def checked_ip(self) -> str:
        """The public address. Raises PortmapError if the router refused, or has none."""
        _check_result(self.result)
        if self.external_ip == _NO_IP:
            raise PortmapError("the router has no public address")
        return self.external_ip


@dataclass(frozen=True, slots=True)
class MapResponse:
    """A mapping, or the reason (``result``) why there is none."""

    internal_port: int
    external_port: int
    lifetime: int
    epoch: int
    result: int = Result.SUCCESS
    protocol: Protocol = Protocol.UDP

    def mapping_for(self, request: MapRequest, external_ip: str) -> Addr:
        """The external address, if this is a usable answer to ``request``. Raises PortmapError."""
        # The result first: a refusal need not repeat the ports.
        _check_result(self.result)
        if (self.protocol, self.internal_port) != (request.protocol, request.internal_port):
            raise PortmapError("the answer is to another request")
        if not self.external_port:
            raise PortmapError("the router mapped port 0")
        return external_ip, self.external_port


Request = ExternalAddressRequest | MapRequest
Response = ExternalAddressResponse | MapResponse


def encode_request(request: Request) -> bytes:
    """The bytes of a request."""
    if isinstance(request, ExternalAddressRequest):
        return bytes((_VERSION, _EXTERNAL_ADDRESS))
    out = Writer().u8(_VERSION).u8(request.protocol).u16be(0)
    return bytes(out.u16be(request.internal_port).u16be(request.external_port).u32be(request.lifetime))


def encode_response(response: Response) -> bytes:
    """The bytes of a response. The external address must be IPv4."""
    out = Writer().u8(_VERSION)
    if isinstance(response, ExternalAddressResponse):
        out.u8(_RESPONSE | _EXTERNAL_ADDRESS).u16be(response.result).u32be(response.epoch)
        return bytes(out.raw(pack_ip(response.external_ip)))
    out.u8(_RESPONSE | response.protocol).u16be(response.result).u32be(response.epoch)
    return bytes(out.u16be(response.internal_port).u16be(response.external_port).u32be(response.lifetime))


def parse_request(data: bytes) -> Request:
    """A request. Raises PortmapError."""
    reader = _reader(data)
    opcode = reader.u8()
    if opcode == _EXTERNAL_ADDRESS:
        reader.end()
        return ExternalAddressRequest()
    protocol = _protocol(opcode)
    reader.take(2)
    internal_port, external_port, lifetime = reader.u16be(), reader.u16be(), reader.u32be()
    reader.end()
    return MapRequest(internal_port, lifetime, external_port, protocol)


def parse_response(data: bytes) -> Response:
    """A response. One with an error result may end after the epoch (RFC 6886 3.5). Raises PortmapError."""
    reader = _reader(data)
    opcode = reader.u8()
    if not opcode & _RESPONSE:
        raise PortmapError(f"opcode {opcode:#04x} is no response")
    result, epoch = reader.u16be(), reader.u32be()
    cut_short = result != Result.SUCCESS and not reader.remaining
    if opcode == _RESPONSE | _EXTERNAL_ADDRESS:
        external_ip = _NO_IP if cut_short else unpack_ip(reader.take(4))
        reader.end()
        return ExternalAddressResponse(external_ip, epoch, result)
    protocol = _protocol(opcode & ~_RESPONSE)
    if cut_short:
        return MapResponse(0, 0, 0, epoch, result, protocol)
    internal_port, external_port, lifetime = reader.u16be(), reader.u16be(), reader.u32be()
    reader.end()
    return MapResponse(internal_port, external_port, lifetime, epoch, result, protocol)


def _check_result(result: int) -> None:
    if result == Result.SUCCESS:
        return
    known = {int(member): member.name for member in Result}
    raise PortmapError(f"the router refuses: {known.get(result, f'result {result}')}")


def _protocol(opcode: int) -> Protocol:
    try:
        return Protocol(opcode)
    except ValueError as error:
        raise PortmapError(f"opcode {opcode:#04x} is not known") from error


def _reader(data: bytes) -> Reader:
    reader = Reader(data, PortmapError)
    version = reader.u8()
    if version != _VERSION:
        raise PortmapError(f"version {version}, not {_VERSION}")
    return reader
