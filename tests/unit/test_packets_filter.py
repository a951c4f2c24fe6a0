"""Filters as text: what they let through, and what they say about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_kit import ALICE, BOB, LAPTOP, SERVER, frame, sealed, tcp, udp, udp6
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP

from iroh_py.proto import disco, stun
from netns_fixtures.tap import Frame
from pytest_iroh.packets import FilterError, compile_filter, register_keys, view

TX = bytes(12)
FRAMES = {
    "quic": udp(b"\x40" + bytes(1300)),
    "dns": udp(b"\x40dns", dport=53),
    "answer": udp(b"", sport=53, outgoing=False),
    "six": udp6(b"\x00plain"),
    "ping": udp(sealed(disco.Ping(TX, ALICE.node_id))),
    "call": udp(sealed(disco.CallMeMaybe(()))),
    "ask": udp(stun.encode_request(TX), dport=3478),
    "mapped": udp(stun.encode_response(TX, ("1.2.3.4", 5)), sport=3478, outgoing=False),
    "tcp": tcp(b"GET /", 7),
    "arp": frame(ARP(pdst=SERVER), interface="wlan0"),
    "echo": frame(IP(src=LAPTOP, dst="10.1.2.3") / ICMP()),
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("udp", "quic dns answer six ping call ask mapped"),
        ("ip6", "six"),
        ("ip and not udp", "tcp echo"),
        ("arp or icmp", "arp echo"),
        ("on wlan0", "arp"),
        ("quic", "quic"),
        ("udp port 53", "dns answer"),
        ("udp src port 53", "answer"),
        ("dst port 53 outgoing", "dns"),
        ("incoming", "answer mapped"),
        ("disco", "ping call"),
        ("disco.ping", "ping"),
        ("disco.call-me-maybe", "call"),
        ("disco.pong", ""),
        ("stun", "ask mapped"),
        ("stun.response", "mapped"),
        ("stun.request and on laptop", "ask"),
        ("dst net 10.0.0.0/8", "echo"),
        ("src host 2001:db8:0::1", "six"),
        (f"dst host {SERVER} and len > 1000", "quic"),
        ("len >= 1000 or len < 43", "quic arp answer echo"),
        ("not (udp or arp or icmp)", "tcp"),
        ("not not tcp", "tcp"),
        ("arp or tcp and port 80", "arp"),
    ],
)
def test_a_filter_lets_through_what_it_names(text: str, wanted: str) -> None:
    """Words, qualifiers, operators, precedence, and conditions side by side."""
    forget = register_keys(BOB)
    try:
        passes = compile_filter(text)
        assert [name for name, each in FRAMES.items() if passes(each)] == sorted(
            wanted.split(), key=list(FRAMES).index
        )
    finally:
        forget()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "the end at character 1, where a condition: ip ip6 .* belongs"),
        ("udp and", "the end at character 8"),
        ("udb", "'udb' at character 1"),
        ("port http", "'http' at character 6, where a port number belongs"),
        ("host laptop", "'laptop' at character 6, where an IP address belongs"),
        ("host 10.0.0.0/8", "an IP address belongs"),
        ("net nowhere", "a network such as 10.0.0.0/8 belongs"),
        ("src udp", "'host', 'net' or 'port' belongs"),
        ("(udp", r"where '\)' belongs"),
        ("udp )", "'and', 'or' or the end belongs"),
        ("len udp", "one of < <= = >= > belongs"),
        ("len > much", "a number of bytes belongs"),
        ("on", "a node or an interface belongs"),
        ("(" * 100, "50 deep at most"),
        ("udp " * 5000, "longer than 10000"),
    ],
)
def test_a_mistake_is_shown_with_its_place(text: str, hint: str) -> None:
    """The error names the word, where it stands, and what could stand there."""
    with pytest.raises(FilterError, match=hint):
        compile_filter(text)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    """Nothing else is ever raised."""
    try:
        passes = compile_filter(text)
    except FilterError:
        return
    for each in FRAMES.values():
        passes(each)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x08\x00", b"\x86\xdd"]))
def test_any_bytes_have_a_view(data: bytes, kind: bytes) -> None:
    """A frame from anywhere is looked at without an exception."""
    whole = bytes(12) + kind + data if kind else data
    seen = view(whole)
    assert seen.version in (0, 4, 6)
    compile_filter("disco.ping or stun.request or net 10.0.0.0/8")(
        Frame(0, 0, "a", "b", True, whole, len(whole))
    )


def test_padding_of_short_frames_is_no_payload() -> None:
    """Ethernet fills up to 60 bytes; the IP header says where the datagram ends."""
    short = udp(b"x")
    assert view(short.data + bytes(30)).payload == b"x"


def test_fragments_show_ports_once() -> None:
    """Only the first fragment has a UDP header."""
    whole = IP(src=LAPTOP, dst=SERVER) / UDP(sport=1, dport=2) / bytes(3000)
    views = [view(frame(part).data) for part in fragment(whole, fragsize=1400)]  # type: ignore[no-untyped-call]
    assert [(v.protocol, v.dport) for v in views] == [("udp", 2), ("other", 0), ("other", 0)]


def test_headers_in_front_of_udp_are_passed_over() -> None:
    """IPv6 extension headers, and the first fragment of a datagram."""
    base = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment()
    seen = view(frame(base / UDP(sport=1, dport=2) / b"x").data)
    assert (seen.protocol, seen.dport, seen.payload) == ("udp", 2, b"x")
