"""Scapy layers for what iroh sends: disco, STUN, and the frames of both relay generations.

A disco packet whose keys are known (``register_keys``) has its message as payload:
``packet[DiscoPing].tx_id``. Every layer rebuilds to the very bytes that it was made of. STUN is scapy's own
layer. Node ids are raw bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from scapy.contrib.stun import STUN as Stun
from scapy.fields import (
    ByteEnumField,
    ByteField,
    ConditionalField,
    Field,
    IntField,
    LEShortField,
    PacketListField,
    ShortField,
    StrField,
    StrFixedLenField,
    StrLenField,
    XStrField,
    XStrFixedLenField,
)
from scapy.packet import Packet

from iroh_py.addr import pack_ip16, unpack_ip
from iroh_py.proto import disco
from iroh_py.proto.relay import v1, v3
from pytest_iroh.packets.keyring import KEYRING

__all__ = [
    "Disco",
    "DiscoAddress",
    "DiscoCallMeMaybe",
    "DiscoPing",
    "DiscoPong",
    "RelayFrame",
    "RelayFrameV1",
    "Stun",
]

_NODE_ID_SIZE = 32
_SIGNATURE_SIZE = 64
_ADDRESS_SIZE = 18
_MESSAGES = {1: "Ping", 2: "Pong", 3: "CallMeMaybe"}


class _BoxField(XStrField):
    """Everything up to the nonce, which ends the packet."""

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        return s[-disco.NONCE_SIZE :], s[: -disco.NONCE_SIZE]


class _Ip16Field(Field[str, bytes]):
    """An address of 16 bytes, IPv4 in its mapped form."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "::", "16s")

    def m2i(self, pkt: Packet | None, x: Any) -> str:
        return unpack_ip(bytes(x))

    def i2m(self, pkt: Packet | None, x: Any) -> bytes:
        return pack_ip16(x)

    def i2repr(self, pkt: Packet | None, x: Any) -> str:
        return str(x)


class Disco(Packet):
    """A sealed disco packet (PROTOCOL 2.1); ``sender`` is the node id that it claims."""

    name = "Disco"
    fields_desc: ClassVar[list[Any]] = [
        StrFixedLenField("magic", disco.MAGIC, len(disco.MAGIC)),
        XStrFixedLenField("sender", b"", _NODE_ID_SIZE),
        _BoxField("box", b""),
        XStrFixedLenField("nonce", b"", disco.NONCE_SIZE),
    ]

    def do_dissect_payload(self, s: bytes) -> None:
        """The message, if a key is known that opens the box."""
        plaintext = KEYRING.open(self.original)
        if plaintext is not None:
            self.add_payload(_MESSAGE_LAYERS.get(plaintext[:1], DiscoUnknown)(plaintext))

    def do_build_payload(self) -> bytes:
        """Nothing: the message is in the box already."""
        return b""

    def mysummary(self) -> str:
        return f"Disco from {self.sender[:5].hex()}"


class DiscoPing(Packet):
    """Asks for a Pong along the same path; surplus bytes are ``padding``."""

    name = "Disco Ping"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", 1, _MESSAGES),
        ByteField("version", 0),
        XStrFixedLenField("tx_id", bytes(disco.TX_ID_SIZE), disco.TX_ID_SIZE),
        XStrFixedLenField("node_id", bytes(_NODE_ID_SIZE), _NODE_ID_SIZE),
        XStrField("padding", b""),
    ]

    def mysummary(self) -> str:
        return f"Ping {self.tx_id[:4].hex()}"


class DiscoPong(Packet):
    """Answers a Ping: the same ``tx_id``, and whence it came: ``ip`` and ``port``, or the ``relay``'s URL."""

    name = "Disco Pong"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", 2, _MESSAGES),
        ByteField("version", 0),
        XStrFixedLenField("tx_id", bytes(disco.TX_ID_SIZE), disco.TX_ID_SIZE),
        ByteEnumField("kind", 0, {0: "address", 1: "relay"}),
        ConditionalField(_Ip16Field("ip"), lambda pkt: pkt.kind == 0),
        ConditionalField(LEShortField("port", 0), lambda pkt: pkt.kind == 0),
        ConditionalField(StrField("relay", b""), lambda pkt: pkt.kind == 1),
    ]

    def mysummary(self) -> str:
        seen = f"{self.ip}:{self.port}" if self.kind == 0 else self.relay.decode(errors="replace")
        return f"Pong {self.tx_id[:4].hex()} seen from {seen}"


class DiscoAddress(Packet):
    """One address of a CallMeMaybe."""

    name = "Disco address"
    fields_desc: ClassVar[list[Any]] = [_Ip16Field("ip"), LEShortField("port", 0)]

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return b"", s


class DiscoCallMeMaybe(Packet):
    """Asks the peer to ping these ``addresses`` now."""

    name = "Disco CallMeMaybe"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", 3, _MESSAGES),
        ByteField("version", 0),
        PacketListField("addresses", [], DiscoAddress),
    ]

    def mysummary(self) -> str:
        return "CallMeMaybe " + ", ".join(f"{a.ip}:{a.port}" for a in self.addresses)


class DiscoUnknown(Packet):
    """A message of a kind that we do not know."""

    name = "Disco message"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", 0, _MESSAGES),
        ByteField("version", 0),
        XStrField("body", b""),
    ]


_MESSAGE_LAYERS: dict[bytes, type[Packet]] = {
    b"\x01": DiscoPing,
    b"\x02": DiscoPong,
    b"\x03": DiscoCallMeMaybe,
}


def _only(kinds: tuple[int, ...], field: Field[Any, Any]) -> ConditionalField:
    return ConditionalField(field, lambda pkt: pkt.type in kinds)


def _rest(used: int) -> Callable[[Packet], int]:
    """The bytes of a frame that are not yet used."""
    return lambda pkt: max(int(pkt.length) - used, 0)


_V3 = v3.FrameType
_V3_PACKETS = (_V3.SEND_PACKET, _V3.RECV_PACKET)
_V3_CLIENT_INFO_SIZE = len(v3.MAGIC) + _NODE_ID_SIZE + _SIGNATURE_SIZE
_V3_PLAIN = (
    _V3.CLIENT_INFO,
    *_V3_PACKETS,
    _V3.NODE_GONE,
    _V3.PING,
    _V3.PONG,
    _V3.NOTE_PREFERRED,
    _V3.RESTARTING,
)


class RelayFrame(Packet):
    """A frame of relay generation 3 (PROTOCOL 7.2); ``data`` of a packet is a packed list of datagrams."""

    name = "Relay frame"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", _V3.KEEP_ALIVE, {kind.value: kind.name for kind in _V3}),
        IntField("length", 0),
        _only((_V3.CLIENT_INFO,), StrFixedLenField("magic", v3.MAGIC, len(v3.MAGIC))),
        _only(
            (_V3.CLIENT_INFO, *_V3_PACKETS, _V3.NODE_GONE), XStrFixedLenField("node_id", b"", _NODE_ID_SIZE)
        ),
        _only((_V3.CLIENT_INFO,), XStrFixedLenField("signature", b"", _SIGNATURE_SIZE)),
        _only((_V3.CLIENT_INFO,), StrLenField("message", b"", length_from=_rest(_V3_CLIENT_INFO_SIZE))),
        _only(_V3_PACKETS, StrLenField("data", b"", length_from=_rest(_NODE_ID_SIZE))),
        _only((_V3.PING, _V3.PONG), XStrFixedLenField("echo", bytes(8), 8)),
        _only((_V3.NOTE_PREFERRED,), ByteField("preferred", 0)),
        _only((_V3.RESTARTING,), IntField("reconnect_in_ms", 0)),
        _only((_V3.RESTARTING,), IntField("try_for_ms", 0)),
        ConditionalField(
            StrLenField("body", b"", length_from=_rest(0)), lambda pkt: pkt.type not in _V3_PLAIN
        ),
    ]

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """What follows is the next frame."""
        return RelayFrame


_V1 = v1.FrameType
_V1_SINGLE = (_V1.SEND_DATAGRAM, _V1.RECV_DATAGRAM)
_V1_BATCH = (_V1.SEND_BATCH, _V1.RECV_BATCH)


class RelayFrameV1(Packet):
    """A message of relay 1.x (PROTOCOL 11.4): one whole websocket message."""

    name = "Relay message"
    fields_desc: ClassVar[list[Any]] = [
        ByteEnumField("type", _V1.PING, {kind.value: kind.name for kind in _V1}),
        _only((_V1.SERVER_CHALLENGE,), XStrFixedLenField("challenge", bytes(16), 16)),
        _only(
            (_V1.CLIENT_AUTH, *_V1_SINGLE, *_V1_BATCH, _V1.NODE_GONE),
            XStrFixedLenField("node_id", b"", _NODE_ID_SIZE),
        ),
        _only((_V1.CLIENT_AUTH,), ByteField("signature_length", _SIGNATURE_SIZE)),
        _only((_V1.CLIENT_AUTH,), XStrFixedLenField("signature", b"", _SIGNATURE_SIZE)),
        _only((*_V1_SINGLE, *_V1_BATCH), ByteField("ecn", 0)),
        _only(_V1_BATCH, ShortField("segment_size", 0)),
        _only((_V1.PING, _V1.PONG), XStrFixedLenField("echo", bytes(8), 8)),
        _only((_V1.STATUS,), ByteField("code", 0)),
        _only((_V1.RESTARTING,), IntField("reconnect_in_ms", 0)),
        _only((_V1.RESTARTING,), IntField("try_for_ms", 0)),
        _only((_V1.SERVER_DENIES_AUTH, _V1.HEALTH), StrField("text", b"")),
        _only((*_V1_SINGLE, *_V1_BATCH), StrField("data", b"")),
    ]
