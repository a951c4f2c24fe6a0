"""Messages of a lab's name server: sizes, codes, and failures that were asked for."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
from name_server_kit import NameServer, codes, texts

from netns_fixtures import TopologyError
from netns_fixtures.dns.answering import Answer, Passed


def long_server() -> NameServer:
    """A name server with one record too long for any datagram, and one for old ones only."""
    server = NameServer()
    server.set("long.example", "TXT", "x" * 2000)
    server.set("some.example", "TXT", "x" * 700)
    server.set("x.example", "A", "198.18.0.1")
    return server


def test_answer_that_does_not_fit_says_so_and_nothing_else() -> None:
    """Over TCP it is whole."""
    server = long_server()
    cut = server.ask("long.example.", "TXT", payload=4096)
    assert cut.flags & dns.flags.TC
    assert cut.answer == []
    whole = server.ask("long.example.", "TXT", tcp=True)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer) == 1
    assert [report[4] for report in server.reports] == ["TRUNCATED", "NOERROR"]


@pytest.mark.parametrize(("payload", "fits"), [(None, False), (512, False), (1232, True), (65535, True)])
def test_size_of_an_answer_is_what_the_client_takes(payload: int | None, fits: bool) -> None:
    """512 bytes without EDNS (RFC 1035), else what it says, and 1232 at most."""
    answer = long_server().ask("some.example.", "TXT", payload=payload)
    assert bool(answer.flags & dns.flags.TC) is not fits
    assert answer.edns == (-1 if payload is None else 0)


def test_answers_say_that_they_are_authoritative_and_that_recursion_is_there() -> None:
    """Stub resolvers ask for the latter."""
    answer = long_server().ask("x.example.", "A")
    assert answer.flags & (dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.RD) == (
        dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.RD
    )


def test_message_that_is_no_question_gets_the_code_for_it() -> None:
    """A status request, a transfer, another class, a newer EDNS, two questions."""
    status = dns.message.make_query("x.example.", "A")
    status.set_opcode(dns.opcode.STATUS)
    chaos = dns.message.make_query("version.bind.", "TXT", rdclass=dns.rdataclass.CH)
    transfer = dns.message.make_query("example.", "AXFR")
    newer = dns.message.make_query("x.example.", "A", use_edns=1)
    two = dns.message.make_query("x.example.", "A")
    two.question = [*two.question, *dns.message.make_query("y.example.", "A").question]
    answers = [long_server().respond(query) for query in (status, chaos, transfer, newer, two)]
    messages = [dns.message.from_wire(a.data) for a in answers if isinstance(a, Answer) and a.data]
    wanted = [dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.REFUSED, dns.rcode.BADVERS, dns.rcode.FORMERR]
    assert codes(messages) == wanted


def test_answer_is_never_answered() -> None:
    """Two servers would talk for ever."""
    query = dns.message.make_query("x.example.", "A")
    query.flags |= dns.flags.QR
    assert long_server().respond(query) == Answer(None)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("servfail", dns.rcode.SERVFAIL),
        ("refused", dns.rcode.REFUSED),
        ("nxdomain", dns.rcode.NXDOMAIN),
        ("nodata", dns.rcode.NOERROR),
    ],
)
def test_failure_has_its_code_and_no_records(kind: str, code: dns.rcode.Rcode) -> None:
    """And ends after so many questions."""
    server = long_server()
    server.fail("x.example", kind, times=2)
    answers = [server.ask("x.example.", "A") for _ in range(3)]
    assert codes(answers) == [code, code, dns.rcode.NOERROR]
    assert [len(answer.answer) for answer in answers] == [0, 0, 1]
    assert [report[-1] for report in server.reports] == [kind, kind, ""]


def test_failures_that_are_no_message() -> None:
    """Silence, bytes without sense, another number, delay, and "ask over TCP"."""
    server = long_server()
    query = dns.message.make_query("x.example.", "A")
    good = server.respond(query)
    assert isinstance(good, Answer)
    assert good.data is not None
    for kind in ("timeout", "garbage", "wrong-id", "truncate"):
        server.fail("*", kind, times=1)
    server.fail("*", "slow", seconds=0.5, times=1)
    slow, cut, wrong, garbage, silent = (server.respond(query) for _ in range(5))  # the newest first
    assert slow == Answer(good.data, 0.5)
    assert isinstance(cut, Answer)
    assert cut.data is not None
    assert dns.message.from_wire(cut.data).flags & dns.flags.TC
    assert isinstance(wrong, Answer)
    assert wrong.data is not None
    assert not query.is_response(dns.message.from_wire(wrong.data))
    assert isinstance(garbage, Answer)
    assert garbage.data is not None
    assert garbage.data[:2] == good.data[:2]
    with pytest.raises(dns.exception.DNSException):
        dns.message.from_wire(garbage.data)
    assert silent == Answer(None)
    assert server.respond(query) == good


def test_truncation_leaves_tcp_alone() -> None:
    """And does not count questions over TCP."""
    server = long_server()
    server.fail("*", "truncate", times=1)
    assert texts(server.ask("x.example.", "A", tcp=True)) == ["A 198.18.0.1"]
    assert server.ask("x.example.", "A").flags & dns.flags.TC
    assert texts(server.ask("x.example.", "A")) == ["A 198.18.0.1"]


def test_failure_counts_for_the_names_that_it_was_set_for() -> None:
    """One name, all below a name, or all; the newest wins, and each can be ended."""
    server = long_server()
    server.set("a.zone.example", "A", "198.18.0.1")
    server.set("zone.example", "A", "198.18.0.1")
    server.fail("*.zone.example", "refused")
    asked = ["x.example.", "a.zone.example.", "zone.example."]
    assert codes([server.ask(name, "A") for name in asked]) == [0, dns.rcode.REFUSED, 0]
    server.fail("*", "servfail")
    assert codes([server.ask(name, "A") for name in asked]) == [dns.rcode.SERVFAIL] * 3
    assert server.faults.heal("*") == 1
    assert codes([server.ask(name, "A") for name in asked]) == [0, dns.rcode.REFUSED, 0]
    assert [fault.hits for fault in server.faults.snapshot()] == [2]
    assert server.faults.heal(None) == 1
    assert codes([server.ask(name, "A") for name in asked]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "times", "seconds"),
    [
        ("gone", None, None),
        ("servfail", 0, None),
        ("servfail", 1.5, None),
        ("slow", None, None),
        ("slow", None, 0),
        ("slow", None, 61),
        ("servfail", None, 1.0),
    ],
)
def test_failure_that_cannot_be_is_refused(kind: str, times: int | None, seconds: float | None) -> None:
    """With what would be right."""
    with pytest.raises(TopologyError):
        NameServer().fail("*", kind, times=times, seconds=seconds)


def test_question_of_a_delegated_zone_is_passed_on() -> None:
    """To the server of the longest zone; what it says is the answer, and its silence a failure."""
    server = long_server()
    server.delegated.add(dns.name.from_text("example."), "198.18.0.53", 53)
    server.delegated.add(dns.name.from_text("inner.example."), "198.18.0.54", 5353)
    query = dns.message.make_query("a.inner.example.", "TXT")
    passed = server.respond(query)
    assert isinstance(passed, Passed)
    assert passed.server == ("198.18.0.54", 5353)
    theirs = dns.message.make_response(query)
    theirs.answer = [dns.rrset.from_text("a.inner.example.", 5, "IN", "TXT", '"hello"')]
    told = passed.finish(theirs).data
    assert told is not None
    assert texts(dns.message.from_wire(told)) == ['TXT "hello"']
    silence = passed.finish(None).data
    assert silence is not None
    assert dns.message.from_wire(silence).rcode() == dns.rcode.SERVFAIL
