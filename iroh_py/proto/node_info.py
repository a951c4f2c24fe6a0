"""What a node publishes about itself, as TXT records and as a DNS packet (PROTOCOL 9.2, 9.4).

One attribute ``key=value`` per TXT record at ``_iroh.<z-base-32 node id>[.<origin>]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.TXT import TXT

from iroh_py.addr import MAX_ADDRESSES, NodeAddr, RelayUrl, addr_order, format_addr, parse_addr
from iroh_py.errors import DiscoveryError, LocalProtocolError, TicketError
from iroh_py.keys import NodeId
from iroh_py.network import Addr

#: Seconds that resolvers may keep the records: short, for nodes move.
TTL = 30
#: What fits with its key into one character string of a TXT record.
MAX_USER_DATA = 245

_LABEL = "_iroh"
_RELAY, _ADDR, _USER_DATA = "relay", "addr", "user-data"
_MAX_STRING = 255


def dns_name(node_id: NodeId, origin: str = "") -> str:
    """The absolute name of a node's records under an origin such as ``dns.iroh.link``."""
    name = f"{_LABEL}.{node_id.z32}."
    return f"{name}{origin.strip('.')}." if origin.strip(".") else name


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node's id, home relay, direct addresses and a few bytes of the application's own.

    Raises LocalProtocolError for user data of more than 245 bytes of UTF-8.
    """

    node_id: NodeId
    relay_url: RelayUrl | None = None
    direct_addresses: frozenset[Addr] = frozenset()
    user_data: str | None = None

    def __post_init__(self) -> None:
        if self.user_data is not None and not _is_user_data(self.user_data):
            raise LocalProtocolError(f"user data is limited to {MAX_USER_DATA} bytes of UTF-8")

    @property
    def node_addr(self) -> NodeAddr:
        """The part that one dials."""
        return NodeAddr(self.node_id, self.relay_url, self.direct_addresses)

    def to_txt(self) -> list[str]:
        """The attributes: relay, addresses in order, user data."""
        attributes = [] if self.relay_url is None else [f"{_RELAY}={self.relay_url}"]
        attributes += [f"{_ADDR}={format_addr(a)}" for a in sorted(self.direct_addresses, key=addr_order)]
        return attributes if self.user_data is None else [*attributes, f"{_USER_DATA}={self.user_data}"]

    @classmethod
    def from_txt(cls, node_id: NodeId, attributes: Iterable[str]) -> NodeInfo:
        """Read attributes. What is unknown or malformed is skipped: newer nodes may publish more.

        A value begins after the *first* ``=`` and may contain others. Of relay and user data the first
        one counts; of addresses the first 128.
        """
        values: dict[str, list[str]] = {_RELAY: [], _ADDR: [], _USER_DATA: []}
        for attribute in attributes:
            key, _, value = attribute.partition("=")
            if key in values:
                values[key].append(value)
        relay = next(iter(values[_RELAY]), None)
        user_data = next(iter(values[_USER_DATA]), None)
        return cls(
            node_id,
            None if relay is None else _relay_or_none(relay),
            frozenset(_parsable(values[_ADDR][:MAX_ADDRESSES])),
            user_data if user_data is None or _is_user_data(user_data) else None,
        )

    def to_dns_packet(self, *, ttl: int = TTL) -> bytes:
        """The DNS packet that pkarr signs: id 0, a response, one TXT record per attribute, names compressed.

        Raises LocalProtocolError if the whole is larger than a DNS message can be.
        """
        message = dns.message.Message(id=0)
        message.flags = dns.flags.QR
        # One RRset for each record: within an RRset dnspython shuffles.
        message.answer = [_record(self.node_id, attribute, ttl) for attribute in self.to_txt()]
        try:
            return message.to_wire()
        except dns.exception.TooBig as error:
            raise LocalProtocolError("the node info does not fit into a DNS message") from error

    @classmethod
    def from_dns_packet(cls, node_id: NodeId, packet: bytes) -> NodeInfo:
        """Read a pkarr packet, or the answer of a DNS server under any origin.

        Only records of this node count. Raises DiscoveryError if there is none, or the packet is malformed.
        """
        try:
            message = dns.message.from_wire(packet, one_rr_per_rrset=True)
        except (dns.exception.DNSException, ValueError) as error:
            raise DiscoveryError(f"no DNS message: {type(error).__name__} {error}") from error
        strings = [text for rrset in message.answer if _is_about(node_id, rrset) for text in _texts(rrset)]
        if not strings:
            raise DiscoveryError(f"no TXT record of {node_id.fmt_short()} in the answer")
        return cls.from_txt(node_id, strings)


def _is_user_data(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_USER_DATA
    except UnicodeEncodeError:
        return False  # A lone surrogate has no UTF-8.


def _relay_or_none(text: str) -> RelayUrl | None:
    try:
        return RelayUrl.parse(text)
    except TicketError:
        return None  # Skipped like any other value that does not parse: the addresses may still be good.


def _parsable(texts: Iterable[str]) -> Iterator[Addr]:
    for text in texts:
        try:
            yield parse_addr(text)
        except TicketError:
            continue  # One bad address does not spoil the others.


def _record(node_id: NodeId, attribute: str, ttl: int) -> dns.rrset.RRset:
    data = attribute.encode()
    strings = [data[at : at + _MAX_STRING] for at in range(0, len(data), _MAX_STRING)]
    rdata = TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    return dns.rrset.from_rdata(dns.name.from_text(dns_name(node_id)), ttl, rdata)


def _is_about(node_id: NodeId, rrset: dns.rrset.RRset) -> bool:
    """Whether a record carries attributes of this node: class, type, and the two labels of its owner name."""
    wanted = (_LABEL.encode(), node_id.z32.encode())
    labels = tuple(label.lower() for label in rrset.name.labels[:2])
    return (rrset.rdclass, rrset.rdtype) == (dns.rdataclass.IN, dns.rdatatype.TXT) and labels == wanted


def _texts(rrset: dns.rrset.RRset) -> Iterator[str]:
    """The readable attributes in TXT records."""
    for rdata in rrset:
        for attribute in _joined(rdata.strings):
            try:
                yield attribute.decode()
            except UnicodeDecodeError:
                continue  # Skipped like any other malformed attribute.


def _joined(strings: Iterable[bytes]) -> Iterator[bytes]:
    """The attributes in character strings: one in each, but a full string continues in the next one."""
    attribute = b""
    for string in strings:
        attribute += string
        if len(string) < _MAX_STRING:
            yield attribute
            attribute = b""
    if attribute:
        yield attribute
