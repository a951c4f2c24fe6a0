"""DNS64 of a lab's name server: IPv6 addresses for what has none (RFC 6147)."""

from __future__ import annotations

import dns.rcode
import pytest
from name_server_kit import NameServer

from netns_fixtures import TopologyError
from netns_fixtures.dns.dns64 import Dns64

INSIDE, OUTSIDE = "2001:db8:5::a", "2001:db8:6::a"


@pytest.fixture
def server() -> NameServer:
    """A name server with one client behind a NAT64."""
    server = NameServer()
    server.dns64[INSIDE] = Dns64.parse("64:ff9b::/96")
    server.set("four.example", "A", "198.18.1.10")
    server.set("both.example", "A", "198.18.1.10")
    server.set("both.example", "AAAA", "2001:db8::7")
    return server


def test_name_with_only_an_ipv4_address_gets_one_behind_the_prefix(server: NameServer) -> None:
    """For clients of that network, and for nobody else."""
    assert server.texts("four.example.", "AAAA", client=INSIDE) == ["AAAA 64:ff9b::c612:10a"]
    assert server.texts("four.example.", "A", client=INSIDE) == ["A 198.18.1.10"]
    assert server.texts("four.example.", "AAAA", client=OUTSIDE) == []


def test_real_addresses_are_left_alone(server: NameServer) -> None:
    """And those that only look like IPv6 do not count as such (RFC 6147 section 5.1.4)."""
    assert server.texts("both.example.", "AAAA", client=INSIDE) == ["AAAA 2001:db8::7"]
    server.set("both.example", "AAAA", "::ffff:198.18.1.10")
    assert server.texts("both.example.", "AAAA", client=INSIDE) == ["AAAA 64:ff9b::c612:10a"]


def test_aliases_stay_in_front(server: NameServer) -> None:
    """The synthesized address stands at the end of the chain."""
    server.set("www.example", "CNAME", "four.example")
    assert server.texts("www.example.", "AAAA", client=INSIDE) == [
        "CNAME four.example.",
        "AAAA 64:ff9b::c612:10a",
    ]


def test_absence_stays_absence(server: NameServer) -> None:
    """No name, no address; and private ones belong to somebody else's network (RFC 6052 section 3.1)."""
    assert server.ask("nowhere.example.", "AAAA", client=INSIDE).rcode() == dns.rcode.NXDOMAIN
    server.set("inner.example", "A", "192.168.1.10")
    assert server.texts("inner.example.", "AAAA", client=INSIDE) == []


def test_prefix_can_be_found_out(server: NameServer) -> None:
    """By asking for ipv4only.arpa (RFC 7050)."""
    found = server.texts("ipv4only.arpa.", "AAAA", client=INSIDE)
    assert sorted(found) == ["AAAA 64:ff9b::c000:aa", "AAAA 64:ff9b::c000:ab"]


def test_synthesized_address_leads_back_to_the_name(server: NameServer) -> None:
    """Through the IPv4 address that it stands for."""
    name = "a.0.1.0.2.1.6.c." + "0." * 16 + "b.9.f.f.4.6.0.0.ip6.arpa."
    assert server.texts(name, "PTR", client=INSIDE) == ["CNAME 10.1.18.198.in-addr.arpa.", "PTR server.lab."]


@pytest.mark.parametrize("prefix", ["64:ff9b::/64", "10.0.0.0/8", "nonsense", "64:ff9b::1/96"])
def test_prefix_that_no_nat64_of_a_lab_has_is_refused(prefix: str) -> None:
    """Before anything changes."""
    with pytest.raises(TopologyError):
        Dns64.parse(prefix)
