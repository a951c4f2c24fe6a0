"""DHCP messages and frames, against scapy's own encoder and decoder."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from netns_fixtures.dhcp.frame import arp_announcement, arp_claims, arp_probe, parse_udp, udp_frame
from netns_fixtures.dhcp.options import (
    DhcpMalformed,
    Option,
    decode_routes,
    encode_routes,
    join_options,
    mask,
    packed,
    prefix_length,
    split_options,
    text,
)
from netns_fixtures.dhcp.packet import BOOTREPLY, BOOTREQUEST, Kind, Message, decode, encode

LAPTOP, ROUTER = bytes.fromhex("020000000a01"), bytes.fromhex("020000000a02")
COOKIE = b"\x63\x82\x53\x63"


def options_of(packet: Any) -> dict[str, Any]:
    """Scapy's options by its names."""
    return {each[0]: each[1] for each in packet[DHCP].options if isinstance(each, tuple)}


def test_offer_is_what_scapy_reads() -> None:
    """Addresses, flags and options stand where the RFC says, checksums too."""
    offer = Message(
        op=BOOTREPLY,
        kind=Kind.OFFER,
        xid=0xDEADBEEF,
        chaddr=LAPTOP,
        secs=3,
        broadcast=True,
        yiaddr="192.168.1.100",
        options={
            Option.SERVER_ID: packed(("192.168.1.1",)),
            Option.LEASE_TIME: (3600).to_bytes(4, "big"),
            Option.SUBNET_MASK: mask(24),
            Option.ROUTER: packed(("192.168.1.1",)),
            Option.DNS: packed(("203.0.113.53", "203.0.113.54")),
            Option.DOMAIN: b"lab",
            Option.MTU: (1400).to_bytes(2, "big"),
        },
    )
    frame = udp_frame((ROUTER, LAPTOP), ("192.168.1.1", "192.168.1.100"), (67, 68), encode(offer))
    packet = Ether(frame)
    assert (packet.src, packet.dst, packet[IP].src, packet[UDP].dport) == (
        "02:00:00:00:0a:02",
        "02:00:00:00:0a:01",
        "192.168.1.1",
        68,
    )
    bootp = packet[BOOTP]
    assert (bootp.op, bootp.xid, bootp.secs, int(bootp.flags), bootp.yiaddr) == (
        2,
        0xDEADBEEF,
        3,
        0x8000,
        "192.168.1.100",
    )
    said = options_of(packet)
    assert (said["message-type"], said["server_id"], said["lease_time"]) == (2, "192.168.1.1", 3600)
    assert (said["subnet_mask"], said["interface-mtu"]) == ("255.255.255.0", 1400)
    # Scapy computes checksums anew where they are taken away: the same come out.
    again = Ether(frame)
    del again[IP].chksum, again[UDP].chksum
    assert bytes(again) == frame
    assert len(encode(offer)) >= 300  # BOOTP's least (RFC 951)


def test_discover_of_scapy_is_read() -> None:
    """An independent client's message comes through with all its options."""
    packet = (
        Ether(src="02:00:00:00:0a:01", dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=LAPTOP, xid=7, flags=0x8000)
        / DHCP(
            options=[
                ("message-type", "discover"),
                ("hostname", b"laptop"),
                ("requested_addr", "10.0.0.9"),
                "end",
            ]
        )
    )
    datagram = parse_udp(bytes(packet), 67)
    assert datagram is not None
    assert (datagram.source_mac, datagram.source, datagram.destination) == (
        LAPTOP,
        "0.0.0.0",
        "255.255.255.255",
    )
    message = decode(datagram.payload)
    assert (message.op, message.kind, message.xid, message.broadcast) == (BOOTREQUEST, Kind.DISCOVER, 7, True)
    assert message.chaddr == LAPTOP
    assert message.options == {Option.HOST_NAME: b"laptop", Option.REQUESTED_IP: bytes((10, 0, 0, 9))}


def test_corrupted_frame_is_no_datagram() -> None:
    """A link that flips bits loses the packet; it does not change an address."""
    frame = udp_frame((ROUTER, LAPTOP), ("192.168.1.1", "192.168.1.100"), (67, 68), b"x" * 300)
    assert parse_udp(frame, 68) is not None
    assert parse_udp(frame, 67) is None
    for at in (16, 27, 36, 200):
        broken = frame[:at] + bytes((frame[at] ^ 4,)) + frame[at + 1 :]
        assert parse_udp(broken, 68) is None, at
    assert parse_udp(frame[:100], 68) is None


def test_unfinished_checksum_of_the_kernel_is_accepted() -> None:
    """Over a veth the kernel's UDP carries the sum of its pseudo header, for a device that never sees it."""
    packet = Ether(udp_frame((LAPTOP, ROUTER), ("192.168.1.100", "192.168.1.1"), (68, 67), b"y" * 300))
    length = len(packet[UDP])
    words = packet[IP].src.split(".") + packet[IP].dst.split(".") + [0, 17, length >> 8, length & 255]
    octets = bytes(map(int, words))
    total = sum(int.from_bytes(octets[n : n + 2], "big") for n in range(0, len(octets), 2))
    packet[UDP].chksum = (total & 0xFFFF) + (total >> 16)
    assert parse_udp(bytes(packet), 67) is not None


def test_long_option_is_split_and_joined() -> None:
    """RFC 3396: values above 255 bytes are several options of one code; empty ones stay empty."""
    options = {114: b"u" * 600, 80: b"", 12: b"x"}
    area = join_options(options)
    assert split_options([area]) == options
    assert area.count(bytes((114, 255))) == 2


def test_options_overflow_into_file_and_name() -> None:
    """Option 52: what did not fit stands in ``file``, then in ``sname``."""
    data = bytearray(
        encode(Message(op=BOOTREQUEST, kind=Kind.REQUEST, xid=1, chaddr=LAPTOP, options={52: b"\3"}))
    )
    data[108 : 108 + 6] = bytes((12, 4)) + b"lapt"
    data[44 : 44 + 5] = bytes((12, 2)) + b"op" + b"\xff"
    assert decode(bytes(data)).options[Option.HOST_NAME] == b"laptop"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\1" * 100,
        b"\1\1\6" + bytes(233) + b"BOOT" + bytes(60),
        b"\1\1\6" + bytes(233) + COOKIE + b"\xff",
        b"\1\1\6" + bytes(233) + COOKIE + bytes((53, 1, 99, 255)),
        b"\1\1\6" + bytes(233) + COOKIE + bytes((53, 9, 1)),
        b"\1\6\6" + bytes(233) + COOKIE + bytes((53, 1, 1, 255)),
        b"\1\1\6" + bytes(233) + COOKIE + bytes((52, 2, 0, 0, 53, 1, 1, 255)),
    ],
)
def test_noise_is_no_message(broken: bytes) -> None:
    """Too short, no cookie, no or a foreign type, cut off, no Ethernet, a strange overload."""
    with pytest.raises(DhcpMalformed):
        decode(broken)


def test_classless_routes_are_as_in_the_rfc() -> None:
    """RFC 3442: as many bytes of the destination as its prefix needs."""
    routes = (("0.0.0.0/0", "10.0.0.1"), ("10.17.0.0/16", "10.0.0.2"), ("10.27.129.128/25", "10.0.0.3"))
    value = encode_routes(routes)
    assert value[:10].hex() == "000a000001100a110a00"
    assert decode_routes(value) == routes
    for broken in (b"\x21" + bytes(8), b"\x18\x0a", b"\x08\x0a\x00", b"\x00\x01\x02"):
        with pytest.raises(DhcpMalformed):
            decode_routes(broken)


def test_mask_with_holes_is_refused() -> None:
    """A prefix length is a mask without holes, and back."""
    assert [prefix_length(mask(n)) for n in range(33)] == list(range(33))
    with pytest.raises(DhcpMalformed):
        prefix_length(bytes((255, 0, 255, 0)))


def test_text_of_a_peer_is_printable() -> None:
    """Names of strangers get into logs and files: nothing but letters comes through."""
    assert text(b"lap\x1b[31mtop\n\xff\0\0") == "lap?[31mtop?\ufffd"


def test_arp_of_others_claims_an_address() -> None:
    """A probe asks without an address of its own; its answer, an announcement and another's probe are conflicts."""
    probe = Ether(arp_probe(LAPTOP, "10.0.0.9"))
    assert (probe[ARP].psrc, probe[ARP].pdst, probe.dst) == ("0.0.0.0", "10.0.0.9", "ff:ff:ff:ff:ff:ff")
    answer = bytes(
        Ether()
        / ARP(op=2, hwsrc="02:00:00:00:0a:02", psrc="10.0.0.9", hwdst="02:00:00:00:0a:01", pdst="0.0.0.0")
    )
    assert arp_claims(answer, "10.0.0.9", LAPTOP)
    assert arp_claims(arp_announcement(ROUTER, "10.0.0.9"), "10.0.0.9", LAPTOP)
    assert arp_claims(
        bytes(Ether() / ARP(op=1, hwsrc="02:00:00:00:0a:02", psrc="0.0.0.0", pdst="10.0.0.9")),
        "10.0.0.9",
        LAPTOP,
    )
    assert not arp_claims(bytes(probe), "10.0.0.9", LAPTOP)  # our own, come back
    assert not arp_claims(answer, "10.0.0.8", LAPTOP)
    assert not arp_claims(b"\0" * 20, "10.0.0.9", LAPTOP)
