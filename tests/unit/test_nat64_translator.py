"""IPv6 and IPv4 packets become each other, as RFC 7915 says; scapy judges the checksums."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from netns_fixtures.nat64.clients import MAX_CLIENTS, TCP_LIFETIME, UDP_LIFETIME, Clients
from netns_fixtures.nat64.plan import POOL, PREFIX, synthesize
from netns_fixtures.nat64.translator import Translator

CLIENT = "2001:db8:1::a"
SERVER = "198.18.1.10"
SERVER6 = synthesize(SERVER)
STAND_IN = "100.127.0.1"


def translator() -> Translator:
    """One that knows the client already."""
    fresh = Translator(PREFIX, Clients(POOL))
    assert fresh.translate(0.0, bytes(IPv6(src=CLIENT, dst=SERVER6) / UDP(sport=1, dport=2) / b"x"))
    return fresh


def to_v4(packet: Packet, by: Translator | None = None) -> Packet:
    """The one IPv4 packet that a packet becomes, its checksums found right."""
    (data,) = (by or translator()).translate(1.0, bytes(packet))
    return checked(IP(data), data)


def to_v6(packet: Packet, by: Translator | None = None) -> Packet:
    """The reverse."""
    (data,) = (by or translator()).translate(1.0, bytes(packet))
    return checked(IPv6(data), data)


def checked(packet: Packet, data: bytes) -> Packet:
    """The packet, after all its checksums and lengths were made anew and came out the same."""
    again = packet.copy()
    layer: Packet = again
    while layer and not isinstance(layer, Raw):
        for field in ("chksum", "cksum", "len", "plen"):
            if field in getattr(layer, "fields", {}) and not isinstance(layer, IPerror):
                layer.delfieldval(field)
        layer = layer.payload if type(layer).__name__ not in _QUOTED else Raw()
    assert bytes(again) == data
    return packet


#: From here on a quoted packet follows: cut short, and not to be closed anew.
_QUOTED = ("IPerror", "IPerror6")


@pytest.mark.parametrize("size", [0, 1, 7, 1200, 1400])
def test_udp_and_tcp_cross_both_ways_unaltered(size: int) -> None:
    """Ports and payload stay, addresses change, checksums are right, also for odd lengths."""
    payload = bytes(range(256)) * 6
    for transport in (UDP(sport=5000, dport=53), TCP(sport=5000, dport=80, seq=7, flags="PA")):
        out = to_v4(IPv6(src=CLIENT, dst=SERVER6, hlim=61, tc=0xB9) / transport / payload[:size])
        assert (out.src, out.dst, out.ttl, out.tos) == (STAND_IN, SERVER, 61, 0xB9)
        assert bytes(out.payload.payload) == payload[:size]
        back = to_v6(IP(src=SERVER, dst=STAND_IN, ttl=60, tos=3, flags="DF") / transport / payload[:size])
        assert (back.src, back.dst, back.hlim, back.tc) == (SERVER6, CLIENT, 60, 3)
        assert bytes(back.payload.payload) == payload[:size]


def test_corrupt_payload_stays_corrupt() -> None:
    """A translator that made checksums anew would hide what a bad link did."""
    data = bytearray(bytes(IPv6(src=CLIENT, dst=SERVER6) / UDP(sport=1, dport=2) / b"hello"))
    data[-1] ^= 1
    (out,) = translator().translate(1.0, bytes(data))
    wrong = IP(out)
    assert (
        wrong[UDP].chksum
        != to_v4(IPv6(src=CLIENT, dst=SERVER6) / UDP(sport=1, dport=2) / bytes(data[-5:]))[UDP].chksum
    )


def test_ping_crosses_both_ways() -> None:
    """Echo request and reply keep number and data under the other version's type."""
    out = to_v4(IPv6(src=CLIENT, dst=SERVER6) / ICMPv6EchoRequest(id=9, seq=2, data=b"abc"))
    assert (out[ICMP].type, out[ICMP].id, out[ICMP].seq, bytes(out[ICMP].payload)) == (8, 9, 2, b"abc")
    back = to_v6(IP(src=SERVER, dst=STAND_IN) / ICMP(type=0, id=9, seq=2) / b"abc")
    assert (back[ICMPv6EchoReply].id, back[ICMPv6EchoReply].data) == (9, b"abc")


def test_packet_too_big_becomes_fragmentation_needed_20_bytes_smaller() -> None:
    """A router of the IPv6 side has no room: the IPv4 sender hears of it, with the MTU that fits its own packets."""
    about = IPv6(src=SERVER6, dst=CLIENT) / UDP(sport=53, dport=5000) / bytes(1400)
    error = IPv6(src="2001:db8:1::1", dst=SERVER6) / ICMPv6PacketTooBig(mtu=1400) / bytes(about)[:1232]
    (data,) = translator().translate(1.0, bytes(error))
    out = IP(data)
    assert out.src.startswith("100.127.")  # the router's own stand-in
    assert out.dst == SERVER
    assert (out[ICMP].type, out[ICMP].code, out[ICMP].nexthopmtu) == (3, 4, 1380)
    inner = out[IPerror]
    assert (inner.src, inner.dst, inner.len, inner.proto) == (SERVER, STAND_IN, 20 + 8 + 1400, 17)


@pytest.mark.parametrize(("said", "heard"), [(1400, 1420), (576, 1280), (0, 1280)])
def test_fragmentation_needed_becomes_packet_too_big_20_bytes_larger(said: int, heard: int) -> None:
    """Never less than what every IPv6 link carries."""
    about = IP(src=STAND_IN, dst=SERVER, flags="DF") / UDP(sport=5000, dport=53) / bytes(40)
    out = to_v6(IP(src="203.0.113.1", dst=STAND_IN) / ICMP(type=3, code=4, nexthopmtu=said) / about)
    assert out.src == synthesize("203.0.113.1")
    assert out[ICMPv6PacketTooBig].mtu == heard
    quoted = out[ICMPv6PacketTooBig].payload
    assert (quoted.src, quoted.dst) == (CLIENT, SERVER6)


@pytest.mark.parametrize(("code", "code6"), [(0, 0), (1, 0), (3, 4), (10, 1), (13, 1)])
def test_unreachable_ipv4_is_unreachable_ipv6(code: int, code6: int) -> None:
    """A closed port is a closed port, a host that is away is a host without route."""
    about = IP(src=STAND_IN, dst=SERVER) / UDP(sport=5000, dport=53) / b"x"
    out = to_v6(IP(src=SERVER, dst=STAND_IN) / ICMP(type=3, code=code) / about)
    assert out[ICMPv6DestUnreach].code == code6


def test_hop_limit_of_either_side_is_reported_to_the_other() -> None:
    """Traceroute shows the routers of both sides."""
    about4 = IP(src=STAND_IN, dst=SERVER) / UDP(sport=5000, dport=53) / b"x"
    assert ICMPv6TimeExceeded in to_v6(IP(src="203.0.113.1", dst=STAND_IN) / ICMP(type=11) / about4)
    about6 = IPv6(src=SERVER6, dst=CLIENT) / UDP(sport=53, dport=5000) / b"x"
    (out,) = translator().translate(
        1.0, bytes(IPv6(src="2001:db8::9", dst=SERVER6) / ICMPv6TimeExceeded() / about6)
    )
    assert IP(out)[ICMP].type == 11


def test_error_about_an_error_or_with_wrong_checksum_is_dropped() -> None:
    """Errors are written anew, so what is not right is not passed on."""
    about = IP(src=STAND_IN, dst=SERVER) / UDP(sport=1, dport=2) / b"x"
    error = IP(src=SERVER, dst=STAND_IN) / ICMP(type=3, code=1) / about
    nested = (
        IP(src=SERVER, dst=STAND_IN) / ICMP(type=3, code=1) / (IP(src=STAND_IN, dst=SERVER) / ICMP(type=3))
    )
    wrong = bytearray(bytes(error))
    wrong[-1] ^= 1
    assert translator().translate(1.0, bytes(error))
    assert translator().translate(1.0, bytes(wrong)) == []
    assert translator().translate(1.0, bytes(nested)) == []


def test_large_packet_that_may_be_fragmented_is() -> None:
    """IPv4 without "don't fragment" becomes fragments that every IPv6 link carries, and they fit together."""
    whole = IP(src=SERVER, dst=STAND_IN) / UDP(sport=53, dport=5000) / (bytes(range(250)) * 8)
    pieces = [IPv6(data) for data in translator().translate(1.0, bytes(whole))]
    assert len(pieces) == 2
    assert all(len(piece) <= 1280 for piece in pieces)
    assert [piece[IPv6ExtHdrFragment].m for piece in pieces] == [1, 0]
    joined = b"".join(bytes(piece[IPv6ExtHdrFragment].payload) for piece in pieces)
    assert joined[8:] == bytes(range(250)) * 8
    df = IP(src=SERVER, dst=STAND_IN, flags="DF") / UDP(sport=53, dport=5000) / bytes(1472)
    assert len(translator().translate(1.0, bytes(df))) == 1  # its sender wants to hear of it


def test_fragments_cross_as_fragments() -> None:
    """Offset, number and "more" survive; only the first has the header whose checksum changes."""
    by = translator()
    first = (
        IPv6(src=CLIENT, dst=SERVER6)
        / IPv6ExtHdrFragment(id=0x70007, m=1, nh=17)
        / (UDP(sport=1, dport=2, len=24, chksum=0x1234) / bytes(8))
    )
    last = IPv6(src=CLIENT, dst=SERVER6) / IPv6ExtHdrFragment(id=0x70007, offset=2, nh=17) / Raw(bytes(8))
    out = [IP(by.translate(1.0, bytes(piece))[0]) for piece in (first, last)]
    assert [(p.id, p.frag, bool(p.flags.MF)) for p in out] == [(7, 0, True), (7, 2, False)]
    assert bytes(out[1].payload) == bytes(8)
    back = to_v6(IP(src=SERVER, dst=STAND_IN, id=9, frag=3, flags="MF", proto=17) / Raw(bytes(16)), by)
    assert (back[IPv6ExtHdrFragment].id, back[IPv6ExtHdrFragment].offset, back[IPv6ExtHdrFragment].m) == (
        9,
        3,
        1,
    )


def test_udp_without_checksum_gets_one() -> None:
    """IPv6 does not allow it; made here, as the whole packet is."""
    out = to_v6(IP(src=SERVER, dst=STAND_IN) / UDP(sport=1, dport=2, chksum=0) / b"hello")
    assert out[UDP].chksum


def test_extension_headers_are_left_out() -> None:
    """IPv4 has no place for them."""
    assert (
        to_v4(IPv6(src=CLIENT, dst=SERVER6) / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2) / b"x")[UDP].dport
        == 2
    )


@pytest.mark.parametrize(
    "packet",
    [
        IPv6(src=CLIENT, dst="2001:db8::1") / UDP() / b"x",
        IPv6(src=SERVER6, dst=SERVER6) / UDP() / b"x",
        IPv6(src="fe80::1", dst=SERVER6) / UDP() / b"x",
        IPv6(src=CLIENT, dst=synthesize("127.0.0.1")) / UDP() / b"x",
        IPv6(src=CLIENT, dst=synthesize("224.0.0.251")) / UDP() / b"x",
        IPv6(src=CLIENT, dst=SERVER6, nh=50) / Raw(b"x" * 20),
        IP(src=SERVER, dst="100.127.0.99") / UDP() / b"x",
        IP(src=SERVER, dst=STAND_IN, proto=47) / Raw(b"x" * 20),
    ],
)
def test_what_is_not_for_the_translator_is_dropped(packet: Packet) -> None:
    """Other prefixes, loops, link-local and loopback addresses, other protocols, unknown stand-ins."""
    assert translator().translate(1.0, bytes(packet)) == []


def test_clients_are_bounded_and_expire_by_protocol() -> None:
    """A full table lets nobody in until somebody's sessions are over; TCP's last longest."""
    clients = Clients(POOL, maximum=2)
    udp, tcp, third = (bytes(15) + bytes((n,)) for n in (1, 2, 3))
    first = clients.v4(0.0, udp, 17)
    assert clients.v4(0.0, tcp, 6) != first
    assert clients.v4(UDP_LIFETIME - 1, third, 17) is None
    stand_in = clients.v4(UDP_LIFETIME + 1, third, 17)
    assert stand_in is not None
    assert stand_in != first  # not handed out again at once
    assert clients.v6(UDP_LIFETIME + 1, stand_in, 17) == third
    assert clients.known_v4(udp) is None
    assert clients.known_v4(tcp)
    assert clients.v4(TCP_LIFETIME + 1, udp, 17)
    assert len(clients) == 1
    assert MAX_CLIENTS < 1 << 16


def test_client_that_hears_something_keeps_its_stand_in() -> None:
    """A session lives by packets in either direction."""
    clients = Clients(POOL, maximum=1)
    mine, other = bytes(15) + b"\x01", bytes(15) + b"\x02"
    stand_in = clients.v4(0.0, mine, 17)
    assert stand_in is not None
    assert clients.v6(UDP_LIFETIME - 1, stand_in, 17) == mine
    assert clients.v4(UDP_LIFETIME + 1, other, 17) is None
