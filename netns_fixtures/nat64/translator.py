"""IPv6 to IPv4 and back, packet by packet (RFC 7915), between a /96 prefix and a pool of stand-ins. Sans-IO."""

from __future__ import annotations

import ipaddress

from netns_fixtures.nat64.clients import ICMP, ICMPV6, TCP, UDP, Clients
from netns_fixtures.nat64.errors import MIN_MTU6, head_to_v4, head_to_v6, quoted
from netns_fixtures.nat64.header import (
    FRAGMENT_SIZE,
    V4_SIZE,
    V6_SIZE,
    Fragment,
    Packet,
    read_v4,
    read_v6,
    write_v4,
    write_v6,
)
from netns_fixtures.nat64.transport import (
    ECHO_V4_TO_V6,
    ECHO_V6_TO_V4,
    closed_icmp,
    moved_echo,
    moved_transport,
    valid_icmp,
)

#: An IPv4 packet up to this came from an IPv6 packet up to 1280, whose sender need not know of path MTUs, so
#: it may be fragmented (RFC 7915 section 5.1).
_MAY_BE_FRAGMENTED = MIN_MTU6 - 20
#: What is left of a quoted packet in an error of at most 1280 bytes (RFC 4443 2.4) or 576 (RFC 1812 4.3.2.3).
_QUOTE6, _QUOTE4 = MIN_MTU6 - V6_SIZE - 8, 576 - V4_SIZE - 8


class Translator:
    """Whatever bytes come in, packets or nothing go out; nothing raises. ``prefix`` is a /96."""

    def __init__(self, prefix: str, clients: Clients) -> None:
        self._prefix = ipaddress.IPv6Network(prefix).network_address.packed[:12]
        self._clients = clients
        self._identification = 0

    def translate(self, now: float, data: bytes) -> list[bytes]:
        """The packets of the other version for one packet, at most a few; none for what cannot pass."""
        if not data:
            return []
        if data[0] >> 4 == 6:
            packet = read_v6(data)
            return self._to_v4(now, packet) if packet else []
        packet = read_v4(data)
        return self._to_v6(now, packet) if packet else []

    # -- IPv6 to IPv4

    def _to_v4(self, now: float, packet: Packet) -> list[bytes]:
        destination = self._embedded(packet.destination)
        if destination is None or not _is_host6(packet.source) or self._embedded(packet.source):
            return []
        if packet.protocol not in (UDP, TCP, ICMPV6) or not _is_host4(destination):
            return []
        source = self._clients.v4(now, packet.source, packet.protocol)
        if source is None:
            return []
        if packet.protocol != ICMPV6:
            payload = moved_transport(packet, source, destination)
        elif packet.payload[:1] and packet.payload[0] in ECHO_V6_TO_V4:
            payload = moved_echo(packet, source, destination)
        else:
            payload = self._error_to_v4(packet)
        if payload is None:
            return []
        return [self._written_v4(packet, source, destination, payload)]

    def _written_v4(self, packet: Packet, source: bytes, destination: bytes, payload: bytes) -> bytes:
        size = packet.size - len(packet.payload) + len(payload)
        self._identification = self._identification + 1 & 0xFFFF
        moved = packet._replace(
            source=source,
            destination=destination,
            protocol=ICMP if packet.protocol == ICMPV6 else packet.protocol,
            payload=payload,
            size=size,
            df=packet.fragment is None and V4_SIZE + size > _MAY_BE_FRAGMENTED,
        )
        return write_v4(moved, self._identification)

    def _error_to_v4(self, packet: Packet) -> bytes | None:
        if not valid_icmp(packet):
            return None
        head = head_to_v4(packet.payload)
        inner = read_v6(quoted(packet.payload, v6=True), quoted=True)
        if head is None or inner is None:
            return None
        source, destination = self._embedded(inner.source), self._clients.known_v4(inner.destination)
        if source is None or destination is None:
            return None
        payload = _quoted_payload(inner, source, destination)
        if payload is None:
            return None
        return closed_icmp(
            head + self._written_v4(inner, source, destination, payload)[:_QUOTE4], source, destination
        )

    # -- IPv4 to IPv6

    def _to_v6(self, now: float, packet: Packet) -> list[bytes]:
        if packet.protocol not in (UDP, TCP, ICMP) or not _is_host4(packet.source):
            return []
        destination = self._clients.v6(now, packet.destination, packet.protocol)
        if destination is None:
            return []
        source = self._prefix + packet.source
        if packet.protocol != ICMP:
            payload = moved_transport(packet, source, destination)
        elif packet.payload[:1] and packet.payload[0] in ECHO_V4_TO_V6:
            payload = moved_echo(packet, source, destination)
        else:
            payload = self._error_to_v6(packet, source, destination)
        if payload is None:
            return []
        moved = self._moved_to_v6(packet, source, destination, payload)
        return [write_v6(piece) for piece in _pieces(moved, self._next_identification(packet))]

    def _moved_to_v6(self, packet: Packet, source: bytes, destination: bytes, payload: bytes) -> Packet:
        return packet._replace(
            source=source,
            destination=destination,
            protocol=ICMPV6 if packet.protocol == ICMP else packet.protocol,
            payload=payload,
            size=packet.size - len(packet.payload) + len(payload),
        )

    def _next_identification(self, packet: Packet) -> int:
        if packet.fragment is not None:
            return packet.fragment.identification
        self._identification = self._identification + 1 & 0xFFFF
        return self._identification

    def _error_to_v6(self, packet: Packet, source: bytes, destination: bytes) -> bytes | None:
        if not valid_icmp(packet):
            return None
        inner = read_v4(quoted(packet.payload, v6=False), quoted=True)
        if inner is None:
            return None
        head = head_to_v6(packet.payload, V4_SIZE + inner.size)
        inner_source = self._v6_of(inner.source)
        inner_destination = self._v6_of(inner.destination)
        payload = _quoted_payload(inner, inner_source, inner_destination)
        if head is None or payload is None:
            return None
        quote = write_v6(self._moved_to_v6(inner, inner_source, inner_destination, payload))
        return closed_icmp(head + quote[:_QUOTE6], source, destination)

    # -- addresses

    def _embedded(self, v6: bytes) -> bytes | None:
        return v6[12:] if v6[:12] == self._prefix else None

    def _v6_of(self, v4: bytes) -> bytes:
        return self._clients.v6(0.0, v4, 0) or self._prefix + v4


def _quoted_payload(inner: Packet, source: bytes, destination: bytes) -> bytes | None:
    """What an error says of the packet that it is about; of an error never (RFC 1122 3.2.2)."""
    if inner.protocol in (ICMP, ICMPV6):
        return moved_echo(inner, source, destination)
    return moved_transport(inner, source, destination, quoted=True) if inner.protocol in (UDP, TCP) else None


def _pieces(packet: Packet, identification: int) -> list[Packet]:
    """An IPv6 packet in fragments of 1280 bytes where IPv4 would have allowed that; no IPv6 router may do it."""
    room = MIN_MTU6 - V6_SIZE
    if packet.df or packet.size + (FRAGMENT_SIZE if packet.fragment else 0) <= room:
        return [packet]
    step = (room - FRAGMENT_SIZE) & ~7
    base, more = (packet.fragment.offset, packet.fragment.more) if packet.fragment else (0, False)
    pieces = []
    for at in range(0, len(packet.payload), step):
        data = packet.payload[at : at + step]
        follows = more or at + step < len(packet.payload)
        fragment = Fragment(identification, base + at // 8, follows)
        pieces.append(packet._replace(payload=data, size=len(data), fragment=fragment))
    return pieces


def _is_host6(address: bytes) -> bool:
    """Whether packets may come from it through a router: no multicast, no link-local, not ``::`` or ``::1``."""
    return address[0] != 0xFF and address[:2] != b"\xfe\x80" and address[:15] != bytes(15)


def _is_host4(address: bytes) -> bool:
    """Neither "this network", nor loopback, nor multicast, nor what was never assigned."""
    return 0 < address[0] < 224 and address[0] != 127
