"""The two messages of local discovery, as multicast DNS: "who is there?" and "I am" (PROTOCOL 9.6)."""

from __future__ import annotations

import bisect
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.TXT import TXT

from iroh_py.addr import MAX_ADDRESSES, addr_order, canonical_ip
from iroh_py.errors import DiscoveryError, LocalProtocolError, TicketError
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.node_info import NodeInfo

#: Bytes of a message at most: one Ethernet frame without IPv4 and UDP headers.
MAX_MESSAGE = 1472
#: Peers taken from one message; an honest one contains one.
MAX_PEERS = 8

_LOCAL = dns.name.from_text("local.")
SERVICE = dns.name.from_text("_iroh.local.swarm._udp.local.")
#: Names are compressed by their ends only, so this stands in every message that names the service.
_MARK = b"\x05_iroh"
_USER_DATA = b"user-data="
_IN = dns.rdataclass.IN

Message = list[NodeInfo] | None


def encode_query() -> bytes:
    """The question for the service."""
    query = dns.message.make_query(SERVICE, dns.rdatatype.PTR, id=0)
    query.flags = dns.flags.Flag(0)
    return query.to_wire()


def encode_response(info: NodeInfo) -> bytes:
    """The announcement of a node, with as many of its addresses as fit into one frame."""
    addresses = sorted(info.direct_addresses, key=addr_order)

    def is_too_large(count: int) -> bool:
        return len(_response(info, addresses[:count]).to_wire()) > MAX_MESSAGE

    # By halves: each message costs dnspython a millisecond or more.
    fitting = bisect.bisect_left(range(1, len(addresses) + 1), True, key=is_too_large)
    return _response(info, addresses[:fitting]).to_wire()


def _response(info: NodeInfo, addresses: list[Addr]) -> dns.message.Message:
    message = dns.message.Message(id=0)
    message.flags = dns.flags.QR | dns.flags.AA
    peer = dns.name.from_text(info.node_id.base32, SERVICE)
    ports: dict[int, list[str]] = defaultdict(list)
    for ip, port in addresses:
        ports[port].append(ip)
    for port, ips in ports.items():
        target = dns.name.from_text(f"{info.node_id.base32}-{port}", _LOCAL)
        message.answer.append(dns.rrset.from_text(peer, 0, _IN, dns.rdatatype.SRV, f"0 0 {port} {target}"))
        for ip in ips:
            kind = dns.rdatatype.AAAA if ":" in ip else dns.rdatatype.A
            message.additional.append(dns.rrset.from_text(target, 0, _IN, kind, ip))
    if info.user_data is not None:
        txt = TXT(_IN, dns.rdatatype.TXT, [_USER_DATA + info.user_data.encode()])
        message.answer.append(dns.rrset.from_rdata(peer, 0, txt))
    return message


def is_ours(data: bytes) -> bool:
    """Whether a datagram may concern the service at all; most on port 5353 do not."""
    return len(data) <= MAX_MESSAGE and _MARK in data.lower()


def decode(data: bytes) -> Message:
    """Read a message: None for a question for the service, else the peers that it announces.

    Peers without an address are left out. Raises DiscoveryError for anything else.
    """
    try:
        message = dns.message.from_wire(data, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise DiscoveryError(f"no DNS message: {type(error).__name__} {error}") from error
    if message.flags & dns.flags.QR:
        return list(_peers(message))
    asked = (SERVICE, dns.rdatatype.PTR, _IN)
    if any((q.name, q.rdtype, q.rdclass) == asked for q in message.question):
        return None
    raise DiscoveryError("a question about something else")


def _peers(message: dns.message.Message) -> Iterator[NodeInfo]:
    hosts: dict[dns.name.Name, list[str]] = defaultdict(list)
    for rrset in message.additional:
        if rrset.rdclass == _IN and rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            hosts[rrset.name] += [canonical_ip(rdata.address) for rdata in rrset]
    found: dict[NodeId, NodeInfo] = {}
    for rrset in message.answer:
        node_id = _peer(rrset)
        if node_id is None or (node_id not in found and len(found) >= MAX_PEERS):
            continue
        info = found.setdefault(node_id, NodeInfo(node_id))
        if rrset.rdtype == dns.rdatatype.SRV:
            addresses = [(ip, rdata.port) for rdata in rrset for ip in hosts.get(rdata.target, ())]
            merged = sorted(info.direct_addresses | set(addresses), key=addr_order)[:MAX_ADDRESSES]
            found[node_id] = dataclasses.replace(info, direct_addresses=frozenset(merged))
        else:
            found[node_id] = _with_user_data(info, (s for rdata in rrset for s in rdata.strings))
    return (info for info in found.values() if info.direct_addresses)


def _peer(rrset: dns.rrset.RRset) -> NodeId | None:
    """The node that a record is about, if it is a record of the service."""
    wanted = rrset.rdclass == _IN and rrset.rdtype in (dns.rdatatype.SRV, dns.rdatatype.TXT)
    if not wanted or len(rrset.name) < 2 or rrset.name.parent() != SERVICE:
        return None
    try:
        return NodeId.parse(rrset.name.labels[0].decode("ascii"))
    except (UnicodeDecodeError, TicketError):
        return None  # another program's name for its peers; ours may stand beside it


def _with_user_data(info: NodeInfo, strings: Iterable[bytes]) -> NodeInfo:
    for string in strings:
        if string.startswith(_USER_DATA):
            try:
                return dataclasses.replace(info, user_data=string.removeprefix(_USER_DATA).decode())
            except (UnicodeDecodeError, LocalProtocolError):
                return info  # skipped like any other malformed value: the addresses may still be good
    return info
