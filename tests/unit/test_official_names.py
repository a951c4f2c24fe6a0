"""The names that an official node of 0.x is given: a name server that knows only them."""

from __future__ import annotations

from typing import Any, cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_iroh.ca import CertificateAuthority
from pytest_iroh.official.runner.names import NameServer
from pytest_iroh.official.runner.trust import replace_constants
from pytest_iroh.official.trust import ROOT_KEY, ROOT_SUBJECT, stand_in

NAMES = {"use1-1.relay.iroh.network": "198.18.1.10", "six.test": "2001:db8::10"}


class Wire:
    """Takes the answers."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def sendto(self, data: bytes, addr: object) -> None:
        self.answers.append(data)


def answers(data: bytes) -> list[bytes]:
    """What comes back for one datagram."""
    wire, server = Wire(), NameServer(NAMES)
    server.connection_made(cast(Any, wire))
    server.datagram_received(data, ("127.0.0.1", 1))
    return wire.answers


def ask(name: str, kind: str) -> dns.message.Message:
    """One question to a fresh server."""
    query = dns.message.make_query(name, kind)
    (answer,) = answers(query.to_wire())
    response = dns.message.from_wire(answer)
    assert query.is_response(response)
    return response


@pytest.mark.parametrize(
    ("name", "kind", "ip"),
    [
        ("use1-1.relay.iroh.network.", "A", "198.18.1.10"),
        ("USE1-1.Relay.iroh.network", "A", "198.18.1.10"),
        ("six.test", "AAAA", "2001:db8::10"),
    ],
)
def test_known_name_leads_to_its_address(name: str, kind: str, ip: str) -> None:
    """With or without a dot at its end, however it is spelled."""
    (rrset,) = ask(name, kind).answer
    assert [record.address for record in rrset] == [ip]


def test_known_name_without_an_address_of_that_family_is_an_empty_answer() -> None:
    """Not an error, or the other family would not be asked for."""
    response = ask("use1-1.relay.iroh.network", "AAAA")
    assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])


def test_any_other_name_does_not_exist() -> None:
    """Said at once, where the machine's own name server would be a timeout in a lab."""
    assert ask("dns.iroh.link", "A").rcode() == dns.rcode.NXDOMAIN


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer_or_none(data: bytes) -> None:
    """The server of a node lives as long as the node."""
    assert len(answers(data)) <= 1


def test_authority_fits_into_the_place_of_the_root_it_stands_in_for() -> None:
    """Whatever the test is called: name and key have the lengths of the built-in ones."""
    for name in ("x", "test_" + "long" * 30, "Prüfung"):
        pairs = stand_in(CertificateAuthority(name))
        assert [old for old, _ in pairs] == [ROOT_SUBJECT.hex(), ROOT_KEY.hex()]
        assert all(len(old) == len(new) for old, new in pairs)


def test_library_without_that_root_is_one_clear_error() -> None:
    """Here the bindings are not even loaded."""
    with pytest.raises(ValueError, match="0 times, not once"):
        replace_constants([(b"old", b"new")])
    with pytest.raises(ValueError, match="cannot be replaced"):
        replace_constants([(b"old", b"longer")])
