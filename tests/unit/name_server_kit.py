"""A lab's name server without a lab: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dns.message
import dns.name
import dns.rdatatype

from netns_fixtures.dns.answering import Answer, Passed, Responder
from netns_fixtures.dns.dns64 import Dns64
from netns_fixtures.dns.faults import Fault, Faults
from netns_fixtures.dns.nodes import NamedNode, NodeNames
from netns_fixtures.dns.rdata import Value, parse_name, parse_records, parse_type
from netns_fixtures.dns.records import Records
from netns_fixtures.dns.service import Delegated
from netns_fixtures.dns.zone import Zone

NODES = {
    "server": NamedNode(
        "server", ("198.18.1.10", "2001:db8:1::a"), ("198.18.1.10", "2001:db8:1::a", "198.18.1.77")
    ),
    "relay.test": NamedNode("relay.test", ("198.18.2.10",), ("198.18.2.10",)),
    "a" * 64: NamedNode("a" * 64, ("198.18.3.10",), ("198.18.3.10",)),
}


class NameServer:
    """What ``lab.dns`` is, without its sockets."""

    def __init__(self, nodes: Mapping[str, NamedNode] = NODES) -> None:
        self.records = Records()
        self.faults = Faults()
        self.delegated = Delegated()
        self.dns64: dict[str, Dns64] = {}
        self.reports: list[tuple[object, ...]] = []
        self.responder = Responder(
            Zone(self.records, NodeNames(lambda: nodes)),
            self.faults,
            self.delegated,
            self.dns64.get,
            lambda *report: self.reports.append(report),
        )

    def set(self, name: str, kind: str, *values: Value, ttl: float = 1) -> None:
        """As ``lab.dns.set``."""
        self.records.set(parse_name(name), parse_records(parse_type(kind), values, ttl))

    def delete(self, name: str, kind: str | None = None) -> None:
        """As ``lab.dns.delete``."""
        self.records.delete(parse_name(name), None if kind is None else parse_type(kind))

    def fail(self, name: str, kind: str, *, times: int | None = None, seconds: float | None = None) -> None:
        """As ``lab.dns.fail``."""
        self.faults.add(Fault.parse(name, kind, None, seconds, times))

    def respond(
        self, query: dns.message.Message | bytes, *, client: str = "192.0.2.1", tcp: bool = False
    ) -> Answer | Passed:
        """What the server does."""
        data = query if isinstance(query, bytes) else query.to_wire()
        return self.responder.respond(data, client, tcp=tcp)

    def ask(
        self,
        name: str,
        kind: str,
        *,
        client: str = "192.0.2.1",
        tcp: bool = False,
        payload: int | None = None,
    ) -> dns.message.Message:
        """The answer to a question for an absolute name."""
        query = dns.message.make_query(name, kind, use_edns=False if payload is None else 0, payload=payload)
        answer = self.respond(query, client=client, tcp=tcp)
        assert isinstance(answer, Answer)
        assert answer.data is not None
        response = dns.message.from_wire(answer.data)
        assert query.is_response(response)
        return response

    def texts(self, name: str, kind: str, *, client: str = "192.0.2.1") -> list[str]:
        """The records of an answer, with their types, in order."""
        return texts(self.ask(name, kind, client=client))


def texts(message: dns.message.Message) -> list[str]:
    """The records of an answer, with their types, in order."""
    return [
        f"{dns.rdatatype.to_text(records.rdtype)} {record.to_text()}"
        for records in message.answer
        for record in records
    ]


def codes(messages: Sequence[dns.message.Message]) -> list[int]:
    """The response codes."""
    return [int(message.rcode()) for message in messages]
