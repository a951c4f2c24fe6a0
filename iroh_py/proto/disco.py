"""Disco: the small encrypted messages by which two nodes find out where they reach each other (PROTOCOL 2).

::

    packet    = magic 6 | sender's node id 32 | Poly1305 tag 16 | ciphertext n | nonce 24
    plaintext = type 1 | version 1 (0) | body
    Ping        01  transaction id 12 | sender's node id 32 | surplus, ignored
    Pong        02  transaction id 12 | 00 address 18  or  01 relay URL to the end
    CallMeMaybe 03  k x address 18
    address   = IPv6 16 (IPv4 as ::ffff:a.b.c.d) | port 2, little endian
"""

from __future__ import annotations

from dataclasses import dataclass

from iroh_py.addr import RelayUrl, pack_ip16, unpack_ip
from iroh_py.errors import DiscoError, TicketError
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto import box

#: "TS" and the speech balloon U+1F4AC, inherited from Tailscale's disco.
MAGIC = b"TS\xf0\x9f\x92\xac"
TX_ID_SIZE = 12
NONCE_SIZE = box.NONCE_SIZE

_BOX_AT = len(MAGIC) + 32
#: Bytes of a packet that are not plaintext.
OVERHEAD = _BOX_AT + box.TAG_SIZE + NONCE_SIZE

#: Addresses in one CallMeMaybe: each is pinged, so a longer list would make us a tool for flooding others.
MAX_CALL_ME_MAYBE = 100

_VERSION = 0
_PING, _PONG, _CALL_ME_MAYBE = 1, 2, 3
_ADDR_SIZE = 18
_PING_BODY = TX_ID_SIZE + 32


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a Pong along the same path.

    ``padding`` counts zero bytes after the message, which receivers ignore: a path that carries a large ping
    carries large datagrams. A decoded ping tells how many surplus bytes there were.
    """

    tx_id: bytes
    node_id: NodeId
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a Ping.

    Its transaction id, and where it came from (an address, or the relay that carried it).
    """

    tx_id: bytes
    observed: Addr | RelayUrl


@dataclass(frozen=True, slots=True)
class CallMeMaybe:
    """Asks the peer, through the relay, to ping these addresses now, because we are pinging too."""

    addresses: tuple[Addr, ...]


Message = Ping | Pong | CallMeMaybe


def encode(message: Message) -> bytes:
    """The plaintext of a message."""
    match message:
        case Ping(tx_id, node_id, padding):
            return bytes((_PING, _VERSION)) + tx_id + node_id.raw + bytes(padding)
        case Pong(tx_id, observed):
            return bytes((_PONG, _VERSION)) + tx_id + _encode_observed(observed)
        case CallMeMaybe(addresses):
            return bytes((_CALL_ME_MAYBE, _VERSION)) + b"".join(map(_encode_addr, addresses))


def decode(plaintext: bytes) -> Message:
    """The message in a plaintext. Raises DiscoError, also for a message of a future kind."""
    if len(plaintext) < 2:
        raise DiscoError("truncated: no type and version")
    kind, version = plaintext[0], plaintext[1]
    if version != _VERSION:
        raise DiscoError(f"unknown version {version} of message type {kind}")
    body = plaintext[2:]
    if kind == _PING:
        return _decode_ping(body)
    if kind == _PONG:
        return _decode_pong(body)
    if kind == _CALL_ME_MAYBE:
        return _decode_call_me_maybe(body)
    raise DiscoError(f"unknown message type {kind}")


def seal(box_key: bytes, sender: NodeId, nonce: bytes, plaintext: bytes) -> bytes:
    """The packet that carries a plaintext.

    ``box_key`` is :meth:`iroh_py.keys.SecretKey.box_key` of the receiver, ``nonce`` 24 random bytes, never
    used again.
    """
    return MAGIC + sender.raw + box.seal(box_key, nonce, plaintext) + nonce


def parse_sender(packet: bytes) -> NodeId:
    """Who claims to have sent a packet; only :func:`open` proves it. Cheap for senders seen before.

    Raises DiscoError.
    """
    if len(packet) < OVERHEAD or not packet.startswith(MAGIC):
        raise DiscoError("no disco packet")
    return _decode_node_id(packet[len(MAGIC) : _BOX_AT])


def open(box_key: bytes, packet: bytes) -> bytes:
    """The plaintext of a packet. Raises DiscoError if it was not sealed with this key, or was damaged."""
    if len(packet) < OVERHEAD or not packet.startswith(MAGIC):
        raise DiscoError("no disco packet")
    plaintext = box.unseal(box_key, packet[-NONCE_SIZE:], packet[_BOX_AT:-NONCE_SIZE])
    if plaintext is None:
        raise DiscoError("the packet does not open: another key, or damage")
    return plaintext


def _encode_addr(addr: Addr) -> bytes:
    ip, port = addr
    return pack_ip16(ip) + port.to_bytes(2, "little")


def _decode_addr(data: bytes) -> Addr:
    return unpack_ip(data[:16]), int.from_bytes(data[16:], "little")


def _encode_observed(observed: Addr | RelayUrl) -> bytes:
    return b"\x01" + observed.encode() if isinstance(observed, RelayUrl) else b"\x00" + _encode_addr(observed)


def _decode_node_id(raw: bytes) -> NodeId:
    try:
        return NodeId(raw)
    except TicketError as error:
        raise DiscoError(str(error)) from error


def _decode_ping(body: bytes) -> Ping:
    if len(body) < _PING_BODY:
        raise DiscoError(f"a ping of {len(body)} bytes is truncated")
    node_id = _decode_node_id(body[TX_ID_SIZE:_PING_BODY])
    return Ping(body[:TX_ID_SIZE], node_id, len(body) - _PING_BODY)


def _decode_pong(body: bytes) -> Pong:
    tx_id, tag, observed = body[:TX_ID_SIZE], body[TX_ID_SIZE : TX_ID_SIZE + 1], body[TX_ID_SIZE + 1 :]
    if tag == b"\x00":
        if len(observed) != _ADDR_SIZE:
            raise DiscoError(f"an address of {len(observed)} bytes in a pong")
        return Pong(tx_id, _decode_addr(observed))
    if tag == b"\x01":
        try:
            return Pong(tx_id, RelayUrl.parse(observed.decode()))
        except (UnicodeDecodeError, TicketError) as error:
            raise DiscoError(f"no relay URL in a pong: {error}") from error
    raise DiscoError("a pong without a known kind of address")


def _decode_call_me_maybe(body: bytes) -> CallMeMaybe:
    if len(body) % _ADDR_SIZE:
        raise DiscoError(f"{len(body)} bytes are no whole number of addresses")
    if len(body) > MAX_CALL_ME_MAYBE * _ADDR_SIZE:
        raise DiscoError(f"a call-me-maybe with more than {MAX_CALL_ME_MAYBE} addresses")
    starts = range(0, len(body), _ADDR_SIZE)
    return CallMeMaybe(tuple(_decode_addr(body[at : at + _ADDR_SIZE]) for at in starts))
