"""Where a node is: IP addresses and ports, relay URL, and node tickets (PROTOCOL 1.3-1.5)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from iroh_py.errors import TicketError
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto import base32
from iroh_py.proto.wire import Reader, Writer
from iroh_py.relay_url import RelayUrl as RelayUrl

#: A node has a handful of addresses; a longer list is an attack on whoever would ping them all.
MAX_ADDRESSES = 128

#: Few addresses are converted again and again, per datagram. Strangers choose some of them, hence a bound.
_CACHED_ADDRESSES = 4096

_MAPPED_PREFIX = bytes(10) + b"\xff\xff"


@functools.lru_cache(maxsize=_CACHED_ADDRESSES)
def canonical_ip(text: str) -> str:
    """The one text form of an IP address: IPv4-mapped IPv6 as IPv4, IPv6 compressed, scope removed.

    Raises TicketError.
    """
    try:
        return unpack_ip(ipaddress.ip_address(text.partition("%")[0]).packed)
    except ValueError as error:
        raise TicketError(f"{text[:64]!r} is no IP address") from error


@functools.lru_cache(maxsize=_CACHED_ADDRESSES)
def pack_ip(ip: str) -> bytes:
    """The 4 or 16 bytes of an address in canonical text form."""
    return ipaddress.ip_address(ip).packed


@functools.lru_cache(maxsize=_CACHED_ADDRESSES)
def unpack_ip(packed: bytes) -> str:
    """The canonical text of 4 or 16 address bytes; IPv4-mapped IPv6 becomes IPv4."""
    return str(ipaddress.ip_address(packed.removeprefix(_MAPPED_PREFIX) if len(packed) == 16 else packed))


def pack_ip16(ip: str) -> bytes:
    """The 16 bytes of an address in canonical text form, IPv4 as ``::ffff:a.b.c.d``."""
    packed = pack_ip(ip)
    return packed if len(packed) == 16 else _MAPPED_PREFIX + packed


def parse_addr(text: str) -> Addr:
    """Read ``1.2.3.4:5`` or ``[::1]:5``. Raises TicketError."""
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or bracketed != (":" in host):
        raise TicketError(f"{text[:64]!r} is not of the form 1.2.3.4:5 or [::1]:5")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or int(digits) > 0xFFFF:
        raise TicketError(f"{digits[:16]!r} is no port number")
    return canonical_ip(host[1:-1] if bracketed else host), int(digits)


def format_addr(addr: Addr) -> str:
    """Write an address as ``1.2.3.4:5`` or ``[::1]:5``."""
    ip, port = addr
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def addr_order(addr: Addr) -> tuple[int, bytes, int]:
    """Sort key: IPv4 before IPv6, then by bytes of the IP, then by port (PROTOCOL 1.4)."""
    packed = pack_ip(addr[0])
    return len(packed), packed, addr[1]


@dataclass(frozen=True, slots=True, init=False)
class NodeAddr:
    """A node's id and what is known of where it is: its home relay, and direct UDP addresses.

    Addresses may be given in any iterable and any text form; they are kept canonical. Raises TicketError
    for text that is no IP address.
    """

    node_id: NodeId
    relay_url: RelayUrl | None
    direct_addresses: frozenset[Addr]

    def __init__(
        self, node_id: NodeId, relay_url: RelayUrl | None = None, direct_addresses: Iterable[Addr] = ()
    ) -> None:
        canonical = frozenset((canonical_ip(ip), port) for ip, port in direct_addresses)
        object.__setattr__(self, "node_id", node_id)
        object.__setattr__(self, "relay_url", relay_url)
        object.__setattr__(self, "direct_addresses", canonical)

    @property
    def ordered_addresses(self) -> tuple[Addr, ...]:
        """The direct addresses in wire order."""
        return tuple(sorted(self.direct_addresses, key=addr_order))

    @property
    def is_empty(self) -> bool:
        """Whether the id is all that is known."""
        return self.relay_url is None and not self.direct_addresses

    def to_json(self) -> dict[str, object]:
        """A value for ``json.dumps`` in the form of iroh 0.35."""
        return {
            "node_id": str(self.node_id),
            "relay_url": None if self.relay_url is None else str(self.relay_url),
            "direct_addresses": [format_addr(addr) for addr in self.ordered_addresses],
        }

    @classmethod
    def from_json(cls, value: object) -> NodeAddr:
        """Read what ``json.loads`` gave: the form of iroh 0.35, or 0.28's with a nested ``info``.

        Raises TicketError.
        """
        fields = _mapping(value, "a node address")
        info = _mapping(fields["info"], "info") if "info" in fields else fields
        relay = info.get("relay_url")
        addresses = info.get("direct_addresses", [])
        if not isinstance(addresses, list) or len(addresses) > MAX_ADDRESSES:
            raise TicketError(f"direct_addresses is no list of at most {MAX_ADDRESSES} addresses")
        return cls(
            NodeId.parse(_text(fields.get("node_id"), "node_id")),
            None if relay is None else RelayUrl.parse(_text(relay, "relay_url")),
            [parse_addr(_text(address, "a direct address")) for address in addresses],
        )


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TicketError(f"{what} is no JSON object")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise TicketError(f"{what} is no JSON string")
    return value


#: Every text ticket begins with its kind, case-sensitively.
_KIND = "node"
#: Kinds of other tickets that people paste by mistake, with what they are.
_OTHER_KINDS = {
    "blob": "a blob ticket: it names content, not only a node",
    "doc": "a document ticket",
    "endpoint": "an endpoint ticket of iroh 1.x",
}
#: 128 IPv6 addresses and a long relay URL in base32, rounded up.
_MAX_TICKET = 8192


@dataclass(frozen=True, slots=True)
class NodeTicket:
    """A node's address as one word to copy and paste: ``node`` and base32 (PROTOCOL 1.5)."""

    addr: NodeAddr

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """The ticket as text."""
        return _KIND + base32.encode(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The ticket's binary content."""
        relay = self.addr.relay_url
        out = Writer().leb128(0).raw(self.addr.node_id.raw).u8(relay is not None)
        if relay is not None:
            out.leb128(len(relay.encode())).raw(relay.encode())
        out.leb128(len(self.addr.direct_addresses))
        for ip, port in self.addr.ordered_addresses:
            packed = pack_ip(ip)
            out.u8(len(packed) == 16).raw(packed).leb128(port)
        return bytes(out)

    @classmethod
    def parse(cls, text: str) -> NodeTicket:
        """Read a ticket; white space around it is forgiven. Raises TicketError, which says what is wrong."""
        text = text.strip()
        if not text.startswith(_KIND):
            raise TicketError(_wrong_kind(text))
        if len(text) > _MAX_TICKET:
            raise TicketError(f"a ticket of {len(text)} characters is too long")
        return cls.from_bytes(base32.decode(text.removeprefix(_KIND)))

    @classmethod
    def from_bytes(cls, data: bytes) -> NodeTicket:
        """Read a ticket's binary content. Raises TicketError."""
        reader = Reader(data, TicketError)
        variant = reader.leb128(32)
        if variant != 0:
            raise TicketError(f"unknown ticket variant {variant}")
        node_id = NodeId(reader.take(32))
        relay = _read_relay(reader)
        count = reader.leb128()
        if count > MAX_ADDRESSES:
            raise TicketError(f"a ticket with {count} addresses; {MAX_ADDRESSES} is the limit")
        addresses = [_read_address(reader) for _ in range(count)]
        reader.end()
        return cls(NodeAddr(node_id, relay, addresses))


def _wrong_kind(text: str) -> str:
    for kind, meaning in _OTHER_KINDS.items():
        if text.startswith(kind):
            return f"this is {meaning}; a node ticket begins with {_KIND!r}"
    return f"a node ticket begins with {_KIND!r}, this text with {text[:8]!r}"


def _read_relay(reader: Reader) -> RelayUrl | None:
    tag = reader.u8()
    if tag > 1:
        raise TicketError(f"the relay URL is marked {tag}, which is neither absent (0) nor present (1)")
    if tag == 0:
        return None
    try:
        return RelayUrl.parse(reader.take(reader.leb128()).decode())
    except UnicodeDecodeError as error:
        raise TicketError("the relay URL is not UTF-8") from error


def _read_address(reader: Reader) -> Addr:
    tag = reader.u8()
    if tag > 1:
        raise TicketError(f"address family {tag} is neither IPv4 (0) nor IPv6 (1)")
    ip = unpack_ip(reader.take(16 if tag else 4))
    return ip, reader.leb128(16)
