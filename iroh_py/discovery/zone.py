"""An authoritative DNS zone out of signed packets: bytes of a question in, bytes of an answer out.

A packet's records, which carry the node's z-base-32 id as their topmost label, are served below each origin:
``_iroh.<z32>`` of a packet as ``_iroh.<z32>.<origin>`` (PROTOCOL 9.4, iroh-dns-server).
"""

from __future__ import annotations

from collections.abc import Iterable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from iroh_py.discovery.store import PacketStore
from iroh_py.errors import DiscoveryError, LocalProtocolError, TicketError
from iroh_py.keys import NodeId

#: Bytes of a UDP answer to a client that says nothing (RFC 1035), and the most we send (flag day 2020).
PLAIN_PAYLOAD, MAX_PAYLOAD = 512, 1232
#: Seconds for which "there is no such record" may be remembered: nodes come up all the time.
_NEGATIVE_TTL = 5
_SOA_TIMES = "3600 600 86400"


class Zone:
    """Answers questions about the packets of a store, below one or more origins (``"."`` is the root)."""

    def __init__(self, store: PacketStore, origins: Iterable[str]) -> None:
        self._store = store
        try:
            names = [dns.name.from_text(origin).canonicalize() for origin in origins]
        except dns.exception.DNSException as error:
            raise LocalProtocolError(f"an origin is no domain name: {error}") from error
        # The longest origin that fits a name is the one that is meant.
        self.origins = tuple(sorted(names, key=len, reverse=True))

    def answer(self, data: bytes, *, udp: bool) -> bytes | None:
        """The answer to a question; None for bytes that deserve none. Over UDP it is cut to what fits."""
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return None
        if query.flags & dns.flags.QR:
            return None  # answering an answer lets two servers talk for ever
        response = dns.message.make_response(query, our_payload=MAX_PAYLOAD)
        self._fill(query, response)
        limit = 65535 if not udp else max(PLAIN_PAYLOAD, min(query.payload, MAX_PAYLOAD))
        return _to_wire(response, limit)

    def _fill(self, query: dns.message.Message, response: dns.message.Message) -> None:
        if query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
            return
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return
        question = query.question[0]
        origin = self._origin(question.name)
        if origin is None or question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
            return
        response.flags |= dns.flags.AA
        records = self._records(question.name, origin)
        wanted = [r for r in records if question.rdtype in (r.rdtype, dns.rdatatype.ANY)]
        if wanted:
            # One RRset for each record: dnspython shuffles within an RRset, and iroh 0.28 reads only the
            # first string, which is the relay (PROTOCOL 14, trap 19).
            response.answer = wanted
            return
        if not records and question.name.canonicalize() != origin:
            response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority = [_soa(origin)]

    def _origin(self, name: dns.name.Name) -> dns.name.Name | None:
        return next((origin for origin in self.origins if name.is_subdomain(origin)), None)

    def _records(self, name: dns.name.Name, origin: dns.name.Name) -> list[dns.rrset.RRset]:
        """The records of a packet at a name, renamed to it."""
        inner = dns.name.Name((*name.relativize(origin).labels, b""))
        if len(inner) < 2:
            return []
        try:
            node_id = NodeId.from_z32(inner.labels[-2].decode("ascii").lower())
            packet = self._store.get(node_id)
            message = None if packet is None else read_packet(packet.dns_packet)
        except (UnicodeDecodeError, TicketError, DiscoveryError):
            return []  # a name of nobody
        return [] if message is None else [_renamed(r, name) for r in message.answer if r.name == inner]


def read_packet(data: bytes) -> dns.message.Message:
    """The DNS message in a signed packet, each record for itself. Raises DiscoveryError."""
    try:
        return dns.message.from_wire(data, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise DiscoveryError(f"no DNS message: {type(error).__name__} {error}") from error


def _renamed(record: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, record.ttl, list(record))


def _soa(origin: dns.name.Name) -> dns.rrset.RRset:
    """The record that tells how long the absence of others may be remembered (RFC 2308)."""
    text = f"{origin} {origin} 1 {_SOA_TIMES} {_NEGATIVE_TTL}"
    return dns.rrset.from_text(origin, _NEGATIVE_TTL, dns.rdataclass.IN, dns.rdatatype.SOA, text)


def _to_wire(response: dns.message.Message, limit: int) -> bytes:
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        # Nothing but the flag: whoever sees it asks again by TCP, and half a record set helps nobody.
        response.answer, response.authority = [], []
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=limit)
