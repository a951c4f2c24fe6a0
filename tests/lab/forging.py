"""An attacker's tools: forged sources, sealed messages of a node that misbehaves, what was seen on a cable."""

from __future__ import annotations

import os
import socket
import struct

from iroh_py import NodeId, SecretKey
from iroh_py.proto import disco
from netns_fixtures import Host
from netns_fixtures.capture import Capture
from netns_fixtures.tap import Frame

_ETHERNET, _IPV4, _UDP = 14, 20, 8


def sealed(sender: SecretKey, receiver: NodeId, message: disco.Message) -> bytes:
    """A disco message of a real node, whatever it says."""
    return disco.seal(sender.box_key(receiver), sender.node_id, os.urandom(24), disco.encode(message))


def forge(host: Host, source: tuple[str, int], target: tuple[str, int], payloads: list[bytes]) -> None:
    """Send UDP datagrams under somebody else's IPv4 address."""
    with host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        for payload in payloads:
            size = _UDP + len(payload)
            udp = struct.pack("!4H", source[1], target[1], size, 0)  # a checksum of 0 means none over IPv4
            addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
            head = (
                struct.pack("!BBHHHBBH", 0x45, 0, _IPV4 + size, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
            )
            sock.sendto(head + udp + payload, target)


def udp_payloads(capture: Capture, source: str | None = None, target: str | None = None) -> list[bytes]:
    """The UDP payloads (IPv4) on a cable, of one sender or to one receiver where given."""
    found = []
    for frame in capture.frames:
        parts = _split(frame)
        if parts is not None and source in (None, parts[0]) and target in (None, parts[1]):
            found.append(parts[2])
    return found


def _split(frame: Frame) -> tuple[str, str, bytes] | None:
    packet = frame.data[_ETHERNET:]
    if len(packet) < _IPV4 + _UDP or packet[0] != 0x45 or packet[9] != socket.IPPROTO_UDP:
        return None
    length = int.from_bytes(packet[2:4], "big")
    return (
        socket.inet_ntoa(packet[12:16]),
        socket.inet_ntoa(packet[16:20]),
        packet[_IPV4 + _UDP : length],
    )
