"""What lies behind the IP header: checksums that cover the addresses, and ICMP echo. Sans-IO (RFC 7915 4.1-5.2)."""

from __future__ import annotations

from netns_fixtures.nat64.checksum import adjusted, closing, total
from netns_fixtures.nat64.clients import ICMPV6, TCP, UDP
from netns_fixtures.nat64.header import Packet

#: Where the checksum of a transport lies in its header, and how long that header is at least.
_CHECKSUM = {UDP: (6, 8), TCP: (16, 20)}
_ICMP_CHECKSUM = 2
_ICMP_SIZE = 8
#: Echo request and reply, in both directions.
ECHO_V6_TO_V4 = {128: 8, 129: 0}
ECHO_V4_TO_V6 = {8: 128, 0: 129}


def moved_transport(
    packet: Packet, source: bytes, destination: bytes, *, quoted: bool = False
) -> bytes | None:
    """The UDP or TCP payload of a packet under new addresses; None where that cannot be.

    ``quoted``: inside of an ICMP error, where the end may be missing and the checksum with it.
    """
    if not packet.first:
        return packet.payload
    at, size = _CHECKSUM[packet.protocol]
    data = packet.payload
    if len(data) < size:
        return data if quoted and len(data) >= 8 else None
    old = int.from_bytes(data[at : at + 2], "big")
    if packet.protocol == UDP and not old:
        return _closed_udp(packet, source, destination) if not quoted else data
    gone = total(packet.source + packet.destination)
    new = adjusted(old, gone, total(source + destination))
    return data[:at] + new.to_bytes(2, "big") + data[at + 2 :]


def _closed_udp(packet: Packet, source: bytes, destination: bytes) -> bytes | None:
    """IPv4 allows UDP without checksum, IPv6 does not (RFC 7915 section 4.5); of a fragment none can be made."""
    data = packet.payload
    if packet.fragment is not None or len(packet.source) == 16:
        return None
    sum_of_all = total(source + destination) + UDP + len(data) + total(data)
    return data[:6] + closing(sum_of_all).to_bytes(2, "big") + data[8:]


def moved_echo(packet: Packet, source: bytes, destination: bytes) -> bytes | None:
    """An ICMP echo of the other version; the checksum of ICMPv6 covers the addresses, that of ICMP does not."""
    data = packet.payload
    if packet.fragment is not None or len(data) < _ICMP_SIZE:
        return None
    to_v4 = packet.protocol == ICMPV6
    kind = (ECHO_V6_TO_V4 if to_v4 else ECHO_V4_TO_V6).get(data[0])
    if kind is None:
        return None
    old = int.from_bytes(data[_ICMP_CHECKSUM:4], "big")
    v6 = (packet.source + packet.destination) if to_v4 else (source + destination)
    pseudo = total(v6) + packet.size + ICMPV6
    gone, new = (data[0] << 8) + (pseudo if to_v4 else 0), (kind << 8) + (0 if to_v4 else pseudo)
    return bytes((kind, data[1])) + adjusted(old, gone, new).to_bytes(2, "big") + data[4:]


def valid_icmp(packet: Packet) -> bool:
    """Whether the checksum of an ICMP or ICMPv6 message is right: an error is written anew, so it is looked at."""
    if packet.fragment is not None or len(packet.payload) < _ICMP_SIZE:
        return False
    pseudo = 0
    if packet.protocol == ICMPV6:
        pseudo = total(packet.source + packet.destination) + packet.size + ICMPV6
    return (pseudo + total(packet.payload)) % 0xFFFF == 0


def closed_icmp(message: bytes, source: bytes, destination: bytes) -> bytes:
    """An ICMP message with its checksum written; with 16-byte addresses it is ICMPv6."""
    pseudo = total(source + destination) + len(message) + ICMPV6 if len(source) == 16 else 0
    checksum = closing(total(message[:2]) + total(message[4:]) + pseudo)
    return message[:2] + checksum.to_bytes(2, "big") + message[4:]
