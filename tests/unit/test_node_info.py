"""Node info as TXT attributes and DNS packets."""

from __future__ import annotations

from collections.abc import Callable

import dns.message
import dns.rrset
import pytest

from iroh_py.addr import MAX_ADDRESSES, NodeAddr, RelayUrl
from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.keys import SecretKey
from iroh_py.proto.node_info import NodeInfo, dns_name

Vectors = Callable[[str], str]
KEY1, KEY2 = SecretKey(bytes([1]) * 32).node_id, SecretKey(bytes([2]) * 32).node_id
RELAY = RelayUrl("https://relay.example./")
FULL = NodeInfo(KEY1, RELAY, frozenset({("2001:db8::1", 443), ("192.0.2.7", 51820)}), "a=b=c")


def answer(*records: str) -> bytes:
    """A DNS response with these records, in text form."""
    message = dns.message.make_response(dns.message.make_query(dns_name(KEY1, "dns.example"), "TXT"))
    for record in records:
        name, ttl, rdclass, rdtype, rdata = record.split(" ", 4)
        message.answer.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, rdata))
    return message.to_wire()


def test_dns_packet_is_the_vector_byte_for_byte(vector: Vectors) -> None:
    """The packet that iroh signs for a node with just a relay."""
    assert NodeInfo(KEY1, RELAY).to_dns_packet().hex() == vector("pkarr.dns_packet")
    packet = bytes.fromhex(vector("pkarr.dns_packet"))
    assert NodeInfo.from_dns_packet(KEY1, packet) == NodeInfo(KEY1, RELAY)


def test_name_has_label_and_key_and_origin() -> None:
    """Names are absolute, with or without an origin, whatever dots the origin has."""
    assert dns_name(KEY1) == f"_iroh.{KEY1.z32}."
    assert (
        dns_name(KEY1, "dns.iroh.link")
        == dns_name(KEY1, "dns.iroh.link.")
        == f"_iroh.{KEY1.z32}.dns.iroh.link."
    )


def test_attributes_are_written_in_order() -> None:
    """Relay, addresses in wire order, user data."""
    assert FULL.to_txt() == [
        "relay=https://relay.example./",
        "addr=192.0.2.7:51820",
        "addr=[2001:db8::1]:443",
        "user-data=a=b=c",
    ]


def test_info_round_trips_both_ways() -> None:
    """Nothing is lost, least of all what follows a second equals sign."""
    assert NodeInfo.from_txt(KEY1, FULL.to_txt()) == FULL
    assert NodeInfo.from_dns_packet(KEY1, FULL.to_dns_packet()) == FULL
    assert FULL.node_addr == NodeAddr(KEY1, RELAY, FULL.direct_addresses)


def test_dns_packet_is_the_same_every_time() -> None:
    """Equal info is equal bytes: a publisher sees whether anything changed."""
    addresses = frozenset(("192.0.2.7", port) for port in range(1, 20))
    info = NodeInfo(KEY1, RELAY, addresses)
    assert len({info.to_dns_packet() for _ in range(20)}) == 1


def test_relay_url_longer_than_a_character_string_round_trips() -> None:
    """A long value is continued in the next string of its record."""
    for size in (230, 255, 300, 600):
        info = NodeInfo(KEY1, RelayUrl("https://relay.example./" + "x" * size))
        assert NodeInfo.from_dns_packet(KEY1, info.to_dns_packet()) == info


def test_unknown_and_malformed_attributes_are_skipped() -> None:
    """A newer or careless node is still reachable by what can be read."""
    info = NodeInfo.from_txt(
        KEY1,
        [
            "",
            "=",
            "no equals sign",
            "future=1",
            "addr=",
            "addr=1.2.3.4",
            "addr=192.0.2.7:1",
            "relay=nonsense",
        ],
    )
    assert info == NodeInfo(KEY1, None, frozenset({("192.0.2.7", 1)}))


def test_first_relay_and_first_user_data_count() -> None:
    """A node has one home relay."""
    info = NodeInfo.from_txt(KEY1, ["relay=http://a/", "relay=http://b/", "user-data=1", "user-data=2"])
    assert info == NodeInfo(KEY1, RelayUrl("http://a/"), user_data="1")


def test_surplus_addresses_are_not_kept() -> None:
    """A record cannot make us ping the whole internet."""
    info = NodeInfo.from_txt(KEY1, [f"addr=192.0.2.7:{port}" for port in range(1, 1000)])
    assert len(info.direct_addresses) == MAX_ADDRESSES


def test_user_data_is_limited_for_us_and_skipped_from_others() -> None:
    """245 bytes pass, more is an error of ours or ignored from outside."""
    longest = "é" * 122 + "e"
    assert (
        NodeInfo.from_dns_packet(KEY1, NodeInfo(KEY1, user_data=longest).to_dns_packet()).user_data == longest
    )
    with pytest.raises(LocalProtocolError, match="245"):
        NodeInfo(KEY1, user_data=longest + "e")
    with pytest.raises(LocalProtocolError):
        NodeInfo(KEY1, user_data="\ud800")
    assert NodeInfo.from_txt(KEY1, [f"user-data={longest}e"]) == NodeInfo(KEY1)


def test_answer_of_a_dns_server_is_read_with_all_its_strings() -> None:
    """Any origin, any letter case, one or several strings per record."""
    name = dns_name(KEY1, "dns.example")
    packet = answer(
        f"{name.upper()} 30 IN TXT relay=https://relay.example./",
        f'{name} 30 IN TXT "addr=192.0.2.7:1" "addr=192.0.2.8:1"',
    )
    assert NodeInfo.from_dns_packet(KEY1, packet) == NodeInfo(
        KEY1, RELAY, frozenset({("192.0.2.7", 1), ("192.0.2.8", 1)})
    )


def test_unreadable_string_does_not_spoil_the_others() -> None:
    """Bytes that are no UTF-8 are skipped."""
    name = dns_name(KEY1)
    packet = answer(f'{name} 30 IN TXT "user-data=\\255" "addr=192.0.2.7:1"')
    assert NodeInfo.from_dns_packet(KEY1, packet) == NodeInfo(KEY1, None, frozenset({("192.0.2.7", 1)}))


@pytest.mark.parametrize(
    "record",
    [
        f"{dns_name(KEY2)} 30 IN TXT relay=http://evil/",
        f"{KEY1.z32}. 30 IN TXT relay=http://evil/",
        f"x.{dns_name(KEY1)} 30 IN TXT relay=http://evil/",
        f"{dns_name(KEY1)} 30 CH TXT relay=http://evil/",
        f"{dns_name(KEY1)} 30 IN A 192.0.2.7",
    ],
    ids=["another node", "no label", "below", "other class", "other type"],
)
def test_records_about_something_else_do_not_count(record: str) -> None:
    """Only TXT records at this node's own name are used; none of them is an error."""
    with pytest.raises(DiscoveryError, match="no TXT record of 8a88e3dd74"):
        NodeInfo.from_dns_packet(KEY1, answer(record))


@pytest.mark.parametrize("cut", [0, 1, 11, 13, 40, 100])
def test_truncated_packet_is_an_error(vector: Vectors, cut: int) -> None:
    """Whatever dnspython thinks of it, it comes out as DiscoveryError."""
    with pytest.raises(DiscoveryError, match="no DNS message"):
        NodeInfo.from_dns_packet(KEY1, bytes.fromhex(vector("pkarr.dns_packet"))[:cut])


def test_info_that_fits_no_dns_message_is_our_own_fault() -> None:
    """The error is ours, not the library's."""
    addresses = frozenset((f"2001:db8::{n:x}", 1) for n in range(2000))
    with pytest.raises(LocalProtocolError, match="does not fit"):
        NodeInfo(KEY1, None, addresses).to_dns_packet()
