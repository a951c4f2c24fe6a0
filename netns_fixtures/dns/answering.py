"""Bytes of a question in, bytes of an answer out, and when to send them. No I/O.

Forms: RFC 1035, EDNS0 (RFC 6891), truncation (RFC 2181 section 9: nothing but the flag).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from netns_fixtures.dns.dns64 import Dns64
from netns_fixtures.dns.faults import Fault, FaultKind, Faults
from netns_fixtures.dns.zone import Found, Zone, soa

#: Bytes of a UDP answer to a client that says nothing (RFC 1035), and the most we send (DNS flag day 2020).
PLAIN_PAYLOAD, MAX_PAYLOAD = 512, 1232
MAX_TCP = 65535
_HEADER = 12
#: Behind the number: flags of an answer, one question, one record, and then a pointer to nowhere.
_GARBAGE = bytes.fromhex("8180 0001 0001 0000 0000") + b"\xff" * 20
_RCODES = {
    FaultKind.SERVFAIL: dns.rcode.SERVFAIL,
    FaultKind.REFUSED: dns.rcode.REFUSED,
    FaultKind.NXDOMAIN: dns.rcode.NXDOMAIN,
    FaultKind.NODATA: dns.rcode.NOERROR,
}
_NO_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send (None: nothing), and after how many seconds."""

    data: bytes | None
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Passed:
    """The question belongs to another server's zone: ``query`` goes to ``server``; ``finish`` makes the answer."""

    query: dns.message.Message
    server: tuple[str, int]
    #: Takes that server's answer, None where there was none.
    finish: Callable[[dns.message.Message | None], Answer]


#: Reports an answered question: client, name, type, over TCP, code, texts of records, failure.
Report = Callable[[str, str, str, bool, str, tuple[str, ...], str], None]


class Delegations(Protocol):
    """Who answers for which zone."""

    def server_of(self, name: dns.name.Name) -> tuple[str, int] | None:
        """Address and port of the server for a name; None where it is ours."""
        ...


class Responder:
    """Answers questions. ``dns64`` tells the translation of the network that a client is in."""

    def __init__(
        self,
        zone: Zone,
        faults: Faults,
        delegations: Delegations,
        dns64: Callable[[str], Dns64 | None],
        report: Report,
    ) -> None:
        self._zone = zone
        self._faults = faults
        self._delegations = delegations
        self._dns64 = dns64
        self._report = report

    def respond(self, data: bytes, client: str, *, tcp: bool) -> Answer | Passed:
        """What to do with bytes that came in."""
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return Answer(_format_error(data))
        if query.flags & dns.flags.QR:
            return Answer(None)  # answering an answer lets two servers talk for ever
        response = dns.message.make_response(query, recursion_available=True, our_payload=MAX_PAYLOAD)
        refusal = _refusal(query)
        if refusal is not None:
            response.set_rcode(refusal)
            return Answer(response.to_wire())
        return self._respond(_Asked(query, response, client, tcp))

    def _respond(self, asked: _Asked) -> Answer | Passed:
        question = asked.query.question[0]
        fault = self._faults.take(question.name, question.rdtype, tcp=asked.tcp)
        if fault is not None and fault.kind in _RCODES:
            asked.fill(Found(rcode=_RCODES[fault.kind]))
            return self._finish(asked, fault)
        if fault is not None and fault.kind in (FaultKind.TIMEOUT, FaultKind.GARBAGE, FaultKind.TRUNCATE):
            return self._finish(asked, fault)
        server = self._delegations.server_of(question.name)
        if server is not None:
            return Passed(asked.query, server, lambda answer: self._pass_on(asked, answer, fault))
        dns64 = self._dns64(asked.client)
        zone, name, kind = self._zone, question.name, question.rdtype
        asked.fill(zone.find(name, kind) if dns64 is None else dns64.find(zone, name, kind))
        return self._finish(asked, fault)

    def _pass_on(self, asked: _Asked, answer: dns.message.Message | None, fault: Fault | None) -> Answer:
        response = asked.response
        if answer is None:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            response.set_rcode(answer.rcode())
            response.answer, response.authority = answer.answer, answer.authority
        return self._finish(asked, fault)

    def _finish(self, asked: _Asked, fault: Fault | None) -> Answer:
        kind = None if fault is None else fault.kind
        data, result = asked.encode(cut=kind is FaultKind.TRUNCATE)
        answers = asked.texts() if result not in ("TRUNCATED", "") else ()
        if kind is FaultKind.TIMEOUT:
            data, result, answers = b"", "", ()
        elif kind is FaultKind.GARBAGE:
            data, result, answers = data[:2] + _GARBAGE, "GARBAGE", ()
        elif kind is FaultKind.WRONG_ID:
            data = bytes(byte ^ 0xFF for byte in data[:2]) + data[2:]
        question = asked.query.question[0]
        self._report(
            asked.client,
            question.name.to_text(omit_final_dot=True),
            dns.rdatatype.to_text(question.rdtype),
            asked.tcp,
            result,
            answers,
            "" if kind is None else str(kind),
        )
        return Answer(data or None, 0.0 if fault is None else fault.seconds)


@dataclass(slots=True)
class _Asked:
    """A question on its way to an answer."""

    query: dns.message.Message
    response: dns.message.Message
    client: str
    tcp: bool

    def fill(self, found: Found) -> None:
        """Put in what was found."""
        self.response.flags |= dns.flags.AA
        self.response.set_rcode(found.rcode)
        self.response.answer = found.answer
        kind = self.query.question[0].rdtype
        if kind != dns.rdatatype.ANY and not found.has(kind):
            self.response.authority = [soa()]

    def encode(self, *, cut: bool) -> tuple[bytes, str]:
        """The bytes, and in one word what they say."""
        limit = MAX_TCP if self.tcp else max(PLAIN_PAYLOAD, min(self.query.payload, MAX_PAYLOAD))
        if not cut:
            try:
                return self.response.to_wire(max_size=limit), dns.rcode.to_text(self.response.rcode())
            except dns.exception.TooBig:
                pass  # then over TCP
        self.response.answer, self.response.authority = [], []
        self.response.flags |= dns.flags.TC
        return self.response.to_wire(max_size=limit), "TRUNCATED"

    def texts(self) -> tuple[str, ...]:
        """The records of the answer."""
        return tuple(record.to_text() for records in self.response.answer for record in records)


def _refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """Why a well-formed message is no question that we answer."""
    if query.edns > 0:
        return dns.rcode.BADVERS
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.question[0].rdclass != dns.rdataclass.IN or query.question[0].rdtype in _NO_TRANSFERS:
        return dns.rcode.REFUSED
    return None


def _format_error(data: bytes) -> bytes | None:
    """The answer to what claims to be a question and is none; nothing for all else."""
    if len(data) < _HEADER or data[2] & 0x80:
        return None
    response = dns.message.Message(id=int.from_bytes(data[:2], "big"))
    response.flags = dns.flags.QR | dns.flags.RA
    response.set_rcode(dns.rcode.FORMERR)
    return response.to_wire()
