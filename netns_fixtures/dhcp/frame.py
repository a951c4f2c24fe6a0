"""Ethernet frames that carry DHCP, and ARP probes: what goes through a packet socket. Sans-IO.

Written by hand because a client without an address cannot use the kernel's UDP (RFC 2131 section 4.1), and because
scapy takes longer to import than a lab to build.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from netns_fixtures.nat64.checksum import closing, total

ETH_IP, ETH_ARP = 0x0800, 0x0806
BROADCAST_MAC = b"\xff" * 6
BROADCAST_IP, ANY_IP = "255.255.255.255", "0.0.0.0"
_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_PROTOCOL_UDP = 17
_TTL = 64
_DONT_FRAGMENT, _FRAGMENT = 0x4000, 0x3FFF
_ARP_REQUEST = 1


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram in a frame: who sent it on the link (MAC), and on the network."""

    source_mac: bytes
    source: str
    destination: str
    payload: bytes


def udp_frame(
    macs: tuple[bytes, bytes], ips: tuple[str, str], ports: tuple[int, int], payload: bytes
) -> bytes:
    """A frame with a UDP datagram; each pair is (from, to)."""
    source, destination = (ipaddress.IPv4Address(ip).packed for ip in ips)
    length = _UDP.size + len(payload)
    pseudo = source + destination + struct.pack("!HH", _PROTOCOL_UDP, length)
    checksum = closing(total(pseudo) + total(_UDP.pack(*ports, length, 0) + payload))
    udp = _UDP.pack(*ports, length, checksum) + payload
    fields = (0x45, 0, _IP.size + length, 0, _DONT_FRAGMENT, _TTL, _PROTOCOL_UDP)
    bare = _IP.pack(*fields, 0, source, destination)
    head = _IP.pack(*fields, closing(total(bare)), source, destination)
    return _ETHERNET.pack(macs[1], macs[0], ETH_IP) + head + udp


def parse_udp(frame: bytes, port: int) -> Datagram | None:
    """The datagram of a frame for a UDP port; None for any other bytes, and where a checksum is wrong."""
    if len(frame) < _ETHERNET.size + _IP.size + _UDP.size:
        return None
    _to, source_mac, kind = _ETHERNET.unpack_from(frame)
    version, _tos, size, _id, fragment, _ttl, protocol, _sum, source, destination = _IP.unpack_from(
        frame, _ETHERNET.size
    )
    header = (version & 15) * 4
    packet = frame[_ETHERNET.size : _ETHERNET.size + size]
    wrong = (
        kind != ETH_IP
        or version >> 4 != 4
        or header < _IP.size
        or protocol != _PROTOCOL_UDP
        or fragment & _FRAGMENT
        or len(packet) < size
        or size < header + _UDP.size
        or total(packet[:header])
    )
    if wrong:
        return None
    udp = packet[header:]
    _source_port, destination_port, length, checksum = _UDP.unpack_from(udp)
    if destination_port != port or not _UDP.size <= length <= len(udp):
        return None
    udp = udp[:length]
    pseudo = source + destination + struct.pack("!HH", _PROTOCOL_UDP, length)
    # Over a veth the kernel's own UDP comes with the checksum left to a device that never sees it: in the field
    # stands the sum of the pseudo header alone.
    unfinished = checksum % 0xFFFF == total(pseudo)
    if checksum and not unfinished and (total(pseudo) + total(udp)) % 0xFFFF:
        return None
    return Datagram(
        source_mac,
        str(ipaddress.IPv4Address(source)),
        str(ipaddress.IPv4Address(destination)),
        udp[_UDP.size :],
    )


def arp_probe(mac: bytes, ip: str) -> bytes:
    """Does somebody have this address (RFC 5227 section 2.1.1)? Says nothing of an address of our own."""
    return _arp(mac, bytes(4), ipaddress.IPv4Address(ip).packed)


def arp_announcement(mac: bytes, ip: str) -> bytes:
    """This address is mine now (RFC 5227 section 2.3): neighbours forget whose it was."""
    packed = ipaddress.IPv4Address(ip).packed
    return _arp(mac, packed, packed)


def arp_claims(frame: bytes, ip: str, mac: bytes) -> bool:
    """Whether a frame is ARP by which somebody else claims an address, or probes for it, too."""
    if len(frame) < _ETHERNET.size + _ARP.size or frame[12:14] != ETH_ARP.to_bytes(2, "big"):
        return False
    hardware, protocol, hlen, plen, _operation, sender, sender_ip, _target, target_ip = _ARP.unpack_from(
        frame, _ETHERNET.size
    )
    if (hardware, protocol, hlen, plen) != (1, ETH_IP, 6, 4) or sender == mac:
        return False
    packed = ipaddress.IPv4Address(ip).packed
    return bool(sender_ip == packed or (sender_ip == bytes(4) and target_ip == packed))


def _arp(mac: bytes, sender: bytes, target: bytes) -> bytes:
    body = _ARP.pack(1, ETH_IP, 6, 4, _ARP_REQUEST, mac, sender, bytes(6), target)
    return _ETHERNET.pack(BROADCAST_MAC, mac, ETH_ARP) + body
