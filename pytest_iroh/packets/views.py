"""What a frame is about, read off its bytes: addresses, ports, payload. A hundred times faster than scapy."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Literal

from iroh_py.proto import stun
from iroh_py.proto.demux import Kind, classify

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
#: IPv6 extension headers that say where the next header is: hop by hop, routing, destination options.
_EXTENSIONS = frozenset((0, 43, 60))
_FRAGMENT = 44
_ETHERNET_SIZE = 14
_PORTS = struct.Struct("!HH")
#: A QUIC packet has its fixed bit set (RFC 9000 17.2), and is never on a port of these services.
_QUIC_FIXED_BIT = 0x40
_NEVER_QUIC = frozenset((53, 67, 68, 123, 547, 546, 1900, 5350, 5351, 5353))

Protocol = Literal["tcp", "udp", "icmp", "icmp6", "arp", "other"]
Content = Literal["disco", "stun", "quic", ""]


@dataclass(frozen=True, slots=True)
class View:
    """One frame. ``version`` is 4, 6 or 0 (no IP); ``payload`` that of UDP or TCP.

    ``content`` is what a datagram is taken for; "" for what is none of iroh's.
    """

    version: int
    protocol: Protocol
    src: str = ""
    dst: str = ""
    sport: int = 0
    dport: int = 0
    payload: bytes = b""
    content: Content = ""
    #: Of TCP: sequence number and flags.
    seq: int = 0
    flags: int = 0


def view(frame: bytes) -> View:
    """Look at an Ethernet frame. Never raises; what does not parse is "other"."""
    if len(frame) < _ETHERNET_SIZE:
        return View(0, "other")
    kind = frame[12] << 8 | frame[13]
    if kind == _IPV4:
        return _view_v4(frame)
    if kind == _IPV6:
        return _view_v6(frame)
    return View(0, "arp" if kind == _ARP else "other")


def _view_v4(frame: bytes) -> View:
    if len(frame) < _ETHERNET_SIZE + 20:
        return View(0, "other")
    header = (frame[14] & 0x0F) * 4
    total = frame[16] << 8 | frame[17]
    src = str(ipaddress.IPv4Address(frame[26:30]))
    dst = str(ipaddress.IPv4Address(frame[30:34]))
    # A super-frame beyond 64 KiB has length 0; Ethernet's padding of short frames is no payload.
    end = _ETHERNET_SIZE + total if total else len(frame)
    if (frame[20] << 8 | frame[21]) & 0x1FFF:
        return View(4, "other", src, dst)  # a later fragment has no ports
    return _transport(4, frame[23], src, dst, frame[_ETHERNET_SIZE + header : end])


def _view_v6(frame: bytes) -> View:
    if len(frame) < _ETHERNET_SIZE + 40:
        return View(0, "other")
    length = frame[18] << 8 | frame[19]
    src = str(ipaddress.IPv6Address(frame[22:38]))
    dst = str(ipaddress.IPv6Address(frame[38:54]))
    rest = frame[54 : 54 + length] if length else frame[54:]
    following = frame[20]
    while following in _EXTENSIONS and len(rest) >= 8:
        following, rest = rest[0], rest[8 + rest[1] * 8 :]
    if following == _FRAGMENT and len(rest) >= 8:
        if (rest[2] << 8 | rest[3]) & 0xFFF8:
            return View(6, "other", src, dst)
        following, rest = rest[0], rest[8:]
    return _transport(6, following, src, dst, rest)


def _transport(version: int, number: int, src: str, dst: str, data: bytes) -> View:
    if number == _UDP and len(data) >= 8:
        sport, dport = _PORTS.unpack_from(data)
        payload = data[8:]
        return View(version, "udp", src, dst, sport, dport, payload, _content(sport, dport, payload))
    if number == _TCP and len(data) >= 20:
        sport, dport = _PORTS.unpack_from(data)
        seq = int.from_bytes(data[4:8], "big")
        payload = data[(data[12] >> 4) * 4 :]
        return View(version, "tcp", src, dst, sport, dport, payload, "", seq, data[13])
    protocol: Protocol = "icmp" if number == _ICMP else "icmp6" if number == _ICMP6 else "other"
    return View(version, protocol, src, dst)


def _content(sport: int, dport: int, payload: bytes) -> Content:
    if not payload:
        return ""
    kind = classify(payload)
    if kind is Kind.DISCO:
        return "disco"
    if kind is Kind.STUN:
        return "stun" if payload[4:8] == stun.COOKIE else ""
    if payload[0] & _QUIC_FIXED_BIT and sport not in _NEVER_QUIC and dport not in _NEVER_QUIC:
        return "quic"
    return ""
