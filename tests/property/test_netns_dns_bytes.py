"""A lab's name server takes any bytes."""

from __future__ import annotations

import dns.message
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.dns.answering import MAX_PAYLOAD, Answer, Responder
from netns_fixtures.dns.faults import Faults
from netns_fixtures.dns.nodes import NamedNode, NodeNames
from netns_fixtures.dns.rdata import parse_name, parse_records, parse_type
from netns_fixtures.dns.records import Records
from netns_fixtures.dns.service import Delegated
from netns_fixtures.dns.zone import Zone

NODES = {"server": NamedNode("server", ("198.18.1.10",), ("198.18.1.10",))}


def make_responder() -> Responder:
    records = Records()
    records.set(parse_name("*.example"), parse_records(parse_type("TXT"), ["x" * 900], 1))
    zone = Zone(records, NodeNames(lambda: NODES))
    return Responder(zone, Faults(), Delegated(), lambda _client: None, lambda *_report: None)


RESPONDER = make_responder()

#: Something like a question, so that more than the header is looked at.
LIKELY = st.builds(
    lambda flags, counts, rest: b"\x12\x34" + flags + counts + rest,
    st.binary(min_size=2, max_size=2).map(lambda two: bytes([two[0] & 0x7F, two[1]])),
    st.sampled_from([bytes.fromhex("0001000000000000"), bytes.fromhex("0001000000000001"), bytes(8)]),
    st.binary(max_size=60) | st.just(b"\x01a\x07example\x00\x00\x10\x00\x01"),
)


@given(st.binary(max_size=100) | LIKELY)
def test_any_bytes_get_an_answer_that_fits_or_none(data: bytes) -> None:
    """Never an exception; an answer has the number of the question and the size of a datagram."""
    answer = RESPONDER.respond(data, "192.0.2.1", tcp=False)
    assert isinstance(answer, Answer)
    if answer.data is not None:
        assert answer.data[:2] == data[:2]
        assert answer.data[2] & 0x80
        assert len(answer.data) <= max(512, MAX_PAYLOAD)
        dns.message.from_wire(answer.data, ignore_trailing=True)
