"""What a lab's name server says about names: those that were set, those of nodes, and those that are not there."""

from __future__ import annotations

import dns.rcode
import dns.rdatatype
import pytest
from name_server_kit import NameServer, texts

from netns_fixtures import TopologyError


def test_node_is_known_by_its_name_below_lab() -> None:
    """A and AAAA are its first addresses; the case of the question does not matter."""
    server = NameServer()
    assert server.texts("SERVER.lab.", "A") == ["A 198.18.1.10"]
    assert server.texts("server.lab.", "AAAA") == ["AAAA 2001:db8:1::a"]
    assert server.ask("SERVER.lab.", "A").answer[0].name.to_text() == "SERVER.lab."


def test_node_with_a_dot_in_its_name_is_known_by_just_that() -> None:
    """``lab.host("relay.test")`` is relay.test, for everybody."""
    server = NameServer()
    assert server.texts("relay.test.", "A") == ["A 198.18.2.10"]
    assert server.ask("relay.test.lab.", "A").rcode() == dns.rcode.NXDOMAIN


def test_address_of_a_node_leads_back_to_its_name() -> None:
    """Every address that it has, in both families; others have no name."""
    server = NameServer()
    assert server.texts("10.1.18.198.in-addr.arpa.", "PTR") == ["PTR server.lab."]
    assert server.texts("77.1.18.198.in-addr.arpa.", "PTR") == ["PTR server.lab."]
    six = "a." + "0." * 15 + "0.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
    assert server.texts(six, "PTR") == ["PTR server.lab."]
    assert server.ask("9.1.18.198.in-addr.arpa.", "PTR").rcode() == dns.rcode.NXDOMAIN
    assert server.ask("198.in-addr.arpa.", "PTR").rcode() == dns.rcode.NXDOMAIN


def test_node_whose_name_no_dns_message_can_hold_costs_the_others_nothing() -> None:
    """A lab's names are freer than those of the DNS."""
    server = NameServer()
    assert server.ask("10.3.18.198.in-addr.arpa.", "PTR").rcode() == dns.rcode.NXDOMAIN
    assert server.texts("server.lab.", "A") == ["A 198.18.1.10"]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("A", "198.18.9.9", "A 198.18.9.9"),
        ("AAAA", "2001:DB8::9", "AAAA 2001:db8::9"),
        ("TXT", "one string", 'TXT "one string"'),
        ("TXT", ["two", "strings"], 'TXT "two" "strings"'),
        ("TXT", 'a "quote" and a \\', 'TXT "a \\"quote\\" and a \\\\"'),
        ("TXT", "x" * 300, f'TXT "{"x" * 255}" "{"x" * 45}"'),
        ("TXT", "", 'TXT ""'),
        ("CNAME", "server", "CNAME server.lab."),
        ("SRV", "0 5 443 server", "SRV 0 5 443 server.lab."),
        ("SRV", "0 5 443 www.example", "SRV 0 5 443 www.example."),
        ("MX", "10 mail.example.", "MX 10 mail.example."),
        ("HTTPS", '1 . alpn="h2,h3" ipv4hint="198.18.1.10"', 'HTTPS 1 . alpn="h2,h3" ipv4hint="198.18.1.10"'),
        ("CAA", '0 issue "ca.example"', 'CAA 0 issue "ca.example"'),
    ],
)
def test_record_is_served_as_it_was_set(kind: str, value: str | list[str], said: str) -> None:
    """Every type that zone files can write; targets without a dot are nodes."""
    server = NameServer()
    server.set("x.example", kind, value)
    assert server.texts("x.example.", kind)[0] == said


def test_records_of_one_name_and_type_replace_each_other() -> None:
    """And only those."""
    server = NameServer()
    server.set("x.example", "A", "198.18.0.1", "198.18.0.2", ttl=30)
    server.set("x.example", "TXT", "stays")
    assert sorted(server.texts("x.example.", "A")) == ["A 198.18.0.1", "A 198.18.0.2"]
    assert server.ask("x.example.", "A").answer[0].ttl == 30
    server.set("x.example", "A", "198.18.0.3")
    assert server.texts("x.example.", "A") == ["A 198.18.0.3"]
    server.delete("x.example", "A")
    assert server.texts("x.example.", "ANY") == ['TXT "stays"']
    server.delete("x.example")
    assert server.ask("x.example.", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_record_that_was_set_hides_that_of_a_node() -> None:
    """The same type only; deleting it shows the node again."""
    server = NameServer()
    server.set("server", "A", "198.18.0.9")
    assert server.texts("server.lab.", "A") == ["A 198.18.0.9"]
    assert server.texts("server.lab.", "AAAA") == ["AAAA 2001:db8:1::a"]
    server.delete("server")
    assert server.texts("server.lab.", "A") == ["A 198.18.1.10"]


def test_alias_is_followed_to_its_end() -> None:
    """Also to a node, whose addresses it then follows; an end that is not there is NXDOMAIN (RFC 2308)."""
    server = NameServer()
    server.set("www.example", "CNAME", "web.example")
    server.set("web.example", "CNAME", "server")
    assert server.texts("www.example.", "A") == ["CNAME web.example.", "CNAME server.lab.", "A 198.18.1.10"]
    assert server.texts("www.example.", "CNAME") == ["CNAME web.example."]
    server.set("web.example", "CNAME", "gone.example")
    gone = server.ask("www.example.", "A")
    assert texts(gone) == ["CNAME web.example.", "CNAME gone.example."]
    assert gone.rcode() == dns.rcode.NXDOMAIN


def test_loop_of_aliases_ends() -> None:
    """As a failure of the server, and not as its end."""
    server = NameServer()
    server.set("a.example", "CNAME", "b.example")
    server.set("b.example", "CNAME", "a.example")
    assert server.ask("a.example.", "A").rcode() == dns.rcode.SERVFAIL


def test_wildcard_stands_for_names_that_are_not_there() -> None:
    """Not for the name above it, nor for what is below a name that exists (RFC 4592)."""
    server = NameServer()
    server.set("*.example", "A", "198.18.0.1")
    server.set("own.example", "TXT", "mine")
    assert server.texts("any.example.", "A") == ["A 198.18.0.1"]
    assert server.texts("deep.any.example.", "A") == ["A 198.18.0.1"]
    nothing = server.ask("own.example.", "A")
    assert (nothing.rcode(), nothing.answer) == (dns.rcode.NOERROR, [])
    assert server.ask("below.own.example.", "A").rcode() == dns.rcode.NXDOMAIN
    assert server.ask("example.", "A").rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nowhere.example.", "A", dns.rcode.NXDOMAIN),
        ("server.lab.", "MX", dns.rcode.NOERROR),
        ("example.", "A", dns.rcode.NOERROR),
    ],
    ids=["no such name", "no such type", "only names below it"],
)
def test_absence_comes_with_how_long_it_holds(name: str, kind: str, code: dns.rcode.Rcode) -> None:
    """A SOA record, by which resolvers remember (RFC 2308)."""
    server = NameServer()
    server.set("www.example", "A", "198.18.0.1")
    answer = server.ask(name, kind)
    assert answer.rcode() == code
    assert [records.rdtype for records in answer.authority] == [dns.rdatatype.SOA]
    assert answer.authority[0].ttl == 1


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("x.example", "A", "198.18.0"),
        ("x.example", "A", "::1"),
        ("x.example", "NONSENSE", "1"),
        ("x.example", "ANY", "1"),
        ("x..example", "A", "198.18.0.1"),
        ("x" * 64, "A", "198.18.0.1"),
        ("x.example", "SRV", "443 server"),
        ("x.example", "CNAME", ["a.example"]),
    ],
)
def test_record_that_cannot_be_is_refused_when_it_is_set(name: str, kind: str, value: str) -> None:
    """In the test's own line, and not as a broken answer later."""
    with pytest.raises(TopologyError):
        NameServer().set(name, kind, value)


def test_alias_beside_other_records_is_refused() -> None:
    """RFC 1034 section 3.6.2, in both orders."""
    server = NameServer()
    server.set("x.example", "A", "198.18.0.1")
    with pytest.raises(TopologyError, match="stands alone"):
        server.set("x.example", "CNAME", "server")
    server.set("y.example", "CNAME", "server")
    with pytest.raises(TopologyError, match="stands alone"):
        server.set("y.example", "A", "198.18.0.1")
    with pytest.raises(TopologyError, match="one CNAME record"):
        server.set("z.example", "CNAME", "server", "other.example")
    with pytest.raises(TopologyError, match="were set"):
        server.delete("x.example", "TXT")
