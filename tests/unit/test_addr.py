"""Addresses, relay URLs and tickets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import pytest

from iroh_py.addr import (
    MAX_ADDRESSES,
    NodeAddr,
    NodeTicket,
    RelayUrl,
    canonical_ip,
    format_addr,
    parse_addr,
)
from iroh_py.errors import TicketError
from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto import base32
from iroh_py.proto.wire import Writer

Vectors = Callable[[str], str]
KEY1 = SecretKey(bytes([1]) * 32).node_id
PUBLISHED = NodeId.parse("ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1.2.3.4", "::102:304"),
    ],
)
def test_canonical_ip_gives_one_text_for_each_address(text: str, canonical: str) -> None:
    """Mapped addresses are IPv4, IPv6 is compressed and lower-case, scopes are gone."""
    assert canonical_ip(text) == canonical


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.04", "::g", "host", "1.2.3.4:5"])
def test_canonical_ip_of_something_else_is_an_error(text: str) -> None:
    """Only IP addresses pass."""
    with pytest.raises(TicketError, match="no IP address"):
        canonical_ip(text)


@pytest.mark.parametrize(("text", "addr"), [("1.2.3.4:5", ("1.2.3.4", 5)), ("[::1]:65535", ("::1", 65535))])
def test_addr_text_round_trips(text: str, addr: tuple[str, int]) -> None:
    """Parsing and formatting are inverse."""
    assert parse_addr(text) == addr
    assert format_addr(addr) == text


@pytest.mark.parametrize(
    "text",
    [
        "1.2.3.4",
        "::1:5",
        "[1.2.3.4]:5",
        "[::1]",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:٣",
        ":5",
    ],
)
def test_malformed_addr_text_is_an_error(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(TicketError):
        parse_addr(text)


@pytest.mark.parametrize(
    ("text", "normal", "host", "port", "is_tls"),
    [
        ("https://example.com", "https://example.com./", "example.com", 443, True),
        ("HTTPS://Example.COM.:443/", "https://example.com./", "example.com", 443, True),
        ("http://127.0.0.1:3340", "http://127.0.0.1:3340/", "127.0.0.1", 3340, False),
        ("http://127.0.0.1.:80/x", "http://127.0.0.1/x", "127.0.0.1", 80, False),
        ("https://[2001:DB8::1]:444", "https://[2001:db8::1]:444/", "2001:db8::1", 444, True),
        ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]/", "::ffff:102:304", 80, False),
        ("https://user:pw@a.b/c?d=e#f", "https://user:pw@a.b./c?d=e#f", "a.b", 443, True),
        (" http://localhost:1/ ", "http://localhost.:1/", "localhost", 1, False),
        ("http://１.2.3.4", "http://1.2.3.4/", "1.2.3.4", 80, False),
        ("https://bücher.example", "https://xn--bcher-kva.example./", "xn--bcher-kva.example", 443, True),
    ],
)
def test_relay_url_is_normalised(text: str, normal: str, host: str, port: int, is_tls: bool) -> None:
    """Two spellings of one relay become one string; the parts for dialling carry no dot and no bracket."""
    url = RelayUrl.parse(text)
    assert url == normal
    assert (url.host, url.port, url.is_tls) == (host, port, is_tls)
    assert RelayUrl(str(url)) == url
    assert pickle.loads(pickle.dumps(url)).host == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://:80",
        "https://a b.c",
        "https://exa_mple..com",
        "https://-a.com",
        "https://a.com:0x1",
        "https://a.com:65536",
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "https://1.2.3",
        "https://0x7f.0x1",
        "https://a.com/../b",
        "https://a.com/%2e/b",
        "https://" + "a" * 64 + ".com",
        "https://a.com/" + "a" * 1024,
    ],
)
def test_what_is_no_relay_url_is_an_error(text: str) -> None:
    """Only absolute http and https URLs with a proper host pass."""
    with pytest.raises(TicketError):
        RelayUrl(text)


def test_published_ticket_is_read_and_written(vector: Vectors) -> None:
    """The ticket of iroh's own unit test gives its node address, and the same text again."""
    ticket = NodeTicket.parse(vector("ticket.text"))
    assert ticket.addr == NodeAddr(PUBLISHED, RelayUrl("http://derp.me./"), [("127.0.0.1", 1024)])
    assert str(ticket) == vector("ticket.text")
    assert ticket.to_bytes().hex() == vector("ticket.bytes")


def test_ticket_lists_ipv4_before_ipv6(vector: Vectors) -> None:
    """Addresses are written in wire order, whatever order they were given in."""
    addr = NodeAddr(KEY1, None, [("2001:db8::1", 443), ("192.0.2.7", 51820)])
    assert addr.ordered_addresses == (("192.0.2.7", 51820), ("2001:db8::1", 443))
    assert NodeTicket(addr).to_bytes().hex() == vector("ticket2.bytes")
    assert NodeTicket(addr).to_text() == vector("ticket2.text")


def test_ticket_body_is_read_in_any_case_and_with_space_around(vector: Vectors) -> None:
    """Copying and shouting do no harm."""
    text = vector("ticket.text")
    assert NodeTicket.parse(f"  node{text[4:].upper()}\n") == NodeTicket.parse(text)


def ticket_text(payload: bytes) -> str:
    return "node" + base32.encode(payload)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "begins with 'node'"),
        ("NODEabc", "begins with 'node'"),
        ("blobabc", "blob ticket"),
        ("endpointabc", "iroh 1.x"),
        ("docaaaa", "document"),
        ("nodea!cd", "'!' at 1 is not base32"),
        ("node" + "a" * 9000, "too long"),
        ("nodea", "no whole number"),
        ("node", "truncated"),
        (ticket_text(b"\x01"), "variant 1"),
        (ticket_text(b"\x00" + KEY1.raw[:31]), "truncated"),
        (ticket_text(b"\x00" + bytes([2]) + bytes(31)), "no Ed25519 public key"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x02"), "marked 2"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x01\x01x\x00"), "no http or https URL"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x01\x01\xff\x00"), "not UTF-8"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x00\x01\x02"), "family 2"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x00\x01\x00\x01\x02\x03\x04\x80\x80\x04"), "16 bits"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x00\x01\x00\x01\x02\x03\x04\x80\x80\x80\x00"), "16 bits"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x00\x81\x01"), "129 addresses"),
        (ticket_text(b"\x00" + KEY1.raw + b"\x00\x00\x00"), "1 surplus bytes"),
    ],
)
def test_bad_ticket_says_what_is_wrong(text: str, complaint: str) -> None:
    """The error names the problem, not just that there is one."""
    with pytest.raises(TicketError, match=complaint):
        NodeTicket.parse(text)


def test_ticket_with_the_most_addresses_is_read() -> None:
    """The limit itself is allowed."""
    addr = NodeAddr(KEY1, None, [("2001:db8::1", port) for port in range(MAX_ADDRESSES)])
    assert NodeTicket.parse(str(NodeTicket(addr))).addr == addr


def test_node_addr_keeps_addresses_canonical() -> None:
    """One address in two spellings is one address."""
    addr = NodeAddr(KEY1, None, [("::ffff:192.0.2.7", 1), ("192.0.2.7", 1)])
    assert addr.direct_addresses == {("192.0.2.7", 1)}
    assert not addr.is_empty
    assert NodeAddr(KEY1).is_empty
    assert not NodeAddr(KEY1, RelayUrl("http://a/")).is_empty
    assert {addr} == {NodeAddr(KEY1, None, [("192.0.2.7", 1)])}


def test_node_addr_json_round_trips() -> None:
    """The form is that of iroh 0.35, plain enough for json.dumps."""
    addr = NodeAddr(KEY1, RelayUrl("https://relay.example"), [("::1", 2), ("192.0.2.7", 1)])
    text = json.dumps(addr.to_json())
    assert json.loads(text) == {
        "node_id": str(KEY1),
        "relay_url": "https://relay.example./",
        "direct_addresses": ["192.0.2.7:1", "[::1]:2"],
    }
    assert NodeAddr.from_json(json.loads(text)) == addr
    assert NodeAddr.from_json(NodeAddr(KEY1).to_json()) == NodeAddr(KEY1)


def test_node_addr_json_of_iroh_0_28_is_read() -> None:
    """There the addresses are nested and the id is base32."""
    value = {"node_id": KEY1.base32, "info": {"relay_url": None, "direct_addresses": ["192.0.2.7:1"]}}
    assert NodeAddr.from_json(value) == NodeAddr(KEY1, None, [("192.0.2.7", 1)])


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"node_id": 1},
        {"node_id": str(KEY1), "info": 3},
        {"node_id": str(KEY1), "relay_url": 3},
        {"node_id": str(KEY1), "direct_addresses": "192.0.2.7:1"},
        {"node_id": str(KEY1), "direct_addresses": [None]},
        {"node_id": str(KEY1), "direct_addresses": ["1.1.1.1:1"] * 129},
    ],
)
def test_node_addr_json_of_another_shape_is_an_error(value: object) -> None:
    """JSON from outside raises nothing but TicketError."""
    with pytest.raises(TicketError):
        NodeAddr.from_json(value)


def test_writer_refuses_what_does_not_fit() -> None:
    """A wrong value of our own is loud."""
    with pytest.raises(OverflowError):
        Writer().u8(256)
    with pytest.raises(OverflowError):
        Writer().leb128(-1)
