"""DHCP messages as bytes (RFC 2131 section 2): the fixed part of BOOTP, a magic number, options. Sans-IO."""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass, field

from netns_fixtures.dhcp.options import DhcpMalformed, Option, join_options, split_options

CLIENT_PORT, SERVER_PORT = 68, 67
BOOTREQUEST, BOOTREPLY = 1, 2
#: The client wants answers by broadcast (the B bit, RFC 2131 figure 2).
BROADCAST_FLAG = 0x8000
ETHERNET, MAC_LENGTH = 1, 6
#: op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file.
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_MAGIC = bytes((99, 130, 83, 99))
#: The smallest message that a BOOTP relay must accept (RFC 951 section 3: 300 bytes of UDP payload).
_LEAST = 300
#: Where options go on in ``file`` and ``sname`` (RFC 2132 section 9.3): bit 0 and bit 1.
_IN_FILE, _IN_SNAME = 1, 2


class Kind(enum.IntEnum):
    """DHCP message types (option 53)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One DHCP message. Addresses are texts, "" where the field is 0.0.0.0; ``options`` by code, as on the wire.

    ``op`` is BOOTREQUEST or BOOTREPLY, ``secs`` seconds since the client began, ``chaddr`` six bytes.
    """

    op: int
    kind: Kind
    xid: int
    chaddr: bytes
    secs: int = 0
    broadcast: bool = False
    ciaddr: str = ""
    yiaddr: str = ""
    siaddr: str = ""
    giaddr: str = ""
    options: dict[int, bytes] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The UDP payload of a message, padded to 300 bytes."""
    fixed = _FIXED.pack(
        message.op,
        ETHERNET,
        MAC_LENGTH,
        0,
        message.xid,
        min(message.secs, 0xFFFF),
        BROADCAST_FLAG if message.broadcast else 0,
        *(_packed(ip) for ip in (message.ciaddr, message.yiaddr, message.siaddr, message.giaddr)),
        message.chaddr,
        b"",
        b"",
    )
    kind = {int(Option.MESSAGE_TYPE): bytes((message.kind,))}
    data = fixed + _MAGIC + join_options({**kind, **message.options})
    return data.ljust(_LEAST, b"\0")


def decode(data: bytes) -> Message:
    """The message in a UDP payload. Raises DhcpMalformed for any bytes that are none."""
    if len(data) < _FIXED.size + len(_MAGIC):
        raise DhcpMalformed(f"{len(data)} bytes are too few for a DHCP message")
    op, htype, hlen, _hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file = (
        _FIXED.unpack_from(data)
    )
    if op not in (BOOTREQUEST, BOOTREPLY):
        raise DhcpMalformed(f"op {op} is neither request nor reply")
    if (htype, hlen) != (ETHERNET, MAC_LENGTH):
        raise DhcpMalformed(f"hardware type {htype} with {hlen} bytes of address is no Ethernet")
    if data[_FIXED.size : _FIXED.size + len(_MAGIC)] != _MAGIC:
        raise DhcpMalformed("no magic cookie: BOOTP, perhaps, but not DHCP")
    options = _options(data[_FIXED.size + len(_MAGIC) :], sname, file)
    kind = options.pop(Option.MESSAGE_TYPE, b"")
    if len(kind) != 1 or kind[0] not in Kind.__members__.values():
        raise DhcpMalformed(f"message type {kind.hex() or 'missing'}")
    return Message(
        op=op,
        kind=Kind(kind[0]),
        xid=xid,
        chaddr=chaddr[:MAC_LENGTH],
        secs=secs,
        broadcast=bool(flags & BROADCAST_FLAG),
        ciaddr=_text(ciaddr),
        yiaddr=_text(yiaddr),
        siaddr=_text(siaddr),
        giaddr=_text(giaddr),
        options=options,
    )


def _options(area: bytes, sname: bytes, file: bytes) -> dict[int, bytes]:
    """All options, also those that overflowed into ``file``, then ``sname`` (RFC 3396 section 5: in that order)."""
    parts = [area]
    overload = split_options([area]).get(Option.OVERLOAD, b"\0")
    if len(overload) != 1:
        raise DhcpMalformed(f"option overload {overload.hex()}")
    if overload[0] & _IN_FILE:
        parts.append(file)
    if overload[0] & _IN_SNAME:
        parts.append(sname)
    return split_options(parts)


def _packed(ip: str) -> bytes:
    return ipaddress.IPv4Address(ip).packed if ip else bytes(4)


def _text(packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed)) if packed != bytes(4) else ""
