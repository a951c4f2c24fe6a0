"""The transport parameter and the frame of QUIC address discovery (draft-ietf-quic-address-discovery-00).

Layouts (PROTOCOL.md 8.6):

* transport parameter 0x9f81a176: one varint, the ``Role``;
* OBSERVED_ADDRESS frame 0x9f81a6 (IPv4) or 0x9f81a7 (IPv6): sequence number varint, 4 or 16 bytes of the IP
  address, port u16. 1-RTT packets only; ack-eliciting; a lost one is sent again as a fresh frame.
"""

from __future__ import annotations

import enum
import ipaddress

from aioquic._buffer import Buffer

from iroh_py.errors import RemoteProtocolError
from iroh_py.network import Addr

#: What a client asks for and a relay accepts; no streams are ever opened under it.
ALPN = "/iroh-qad/0"
#: How a client ends its connection in good order (PROTOCOL.md 7.12).
CLOSE_CODE = 1
CLOSE_REASON = "finished"
PARAMETER = 0x9F81A176
OBSERVED_V4 = 0x9F81A6
OBSERVED_V6 = 0x9F81A7
#: Frame type (4 bytes), the longest sequence number (8), an IPv6 address and a port.
MAX_FRAME = 4 + 8 + 16 + 2


class Role(enum.IntEnum):
    """Which way a side wants reports to go; a side that says nothing takes no part."""

    SEND = 0
    RECEIVE = 1
    BOTH = 2

    @property
    def sends(self) -> bool:
        """Whether this side sends reports."""
        return self is not Role.RECEIVE

    @property
    def receives(self) -> bool:
        """Whether this side wants reports."""
        return self is not Role.SEND


def encode_parameter(role: Role) -> bytes:
    """The transport parameter, to be appended to the others."""
    buf = Buffer(capacity=10)
    buf.push_uint_var(PARAMETER)
    buf.push_uint_var(1)
    buf.push_uint_var(role)
    return buf.data


def find_role(parameters: bytes) -> Role | None:
    """The peer's role out of all its transport parameters, None if it said none. Raises RemoteProtocolError."""
    found: Role | None = None
    buf = Buffer(data=parameters)
    try:
        while not buf.eof():
            key = buf.pull_uint_var()
            value = buf.pull_bytes(buf.pull_uint_var())
            if key == PARAMETER:
                if found is not None:
                    raise RemoteProtocolError("the address discovery parameter came twice")
                found = _role(value)
    except ValueError as error:
        raise RemoteProtocolError(f"transport parameters that end early: {error}") from error
    return found


def _role(value: bytes) -> Role:
    buf = Buffer(data=value)
    number = buf.pull_uint_var()
    if not buf.eof() or number > max(Role):
        raise RemoteProtocolError(f"no role of address discovery: {value[:9].hex()}")
    return Role(number)


def frame_type(addr: Addr) -> int:
    """The type of the frame that reports this address."""
    return OBSERVED_V6 if ":" in addr[0] else OBSERVED_V4


def push_observed(buf: Buffer, sequence: int, addr: Addr) -> None:
    """Write the body of a frame whose type is written already."""
    ip = ipaddress.ip_address(addr[0])
    buf.push_uint_var(sequence)
    buf.push_bytes(ip.packed)
    buf.push_uint16(addr[1])


def encode_observed(sequence: int, addr: Addr) -> bytes:
    """A whole frame."""
    buf = Buffer(capacity=MAX_FRAME)
    buf.push_uint_var(frame_type(addr))
    push_observed(buf, sequence, addr)
    return buf.data


def pull_observed(buf: Buffer, kind: int) -> tuple[int, Addr]:
    """Read the body of a frame: sequence number and address. IPv4-mapped addresses become IPv4.

    Raises ValueError (aioquic's BufferReadError) when it ends early.
    """
    sequence = buf.pull_uint_var()
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    if kind == OBSERVED_V4:
        ip = ipaddress.IPv4Address(buf.pull_bytes(4))
    else:
        packed = ipaddress.IPv6Address(buf.pull_bytes(16))
        ip = packed.ipv4_mapped or packed
    return sequence, (str(ip), buf.pull_uint16())
