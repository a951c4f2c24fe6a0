"""Frames as scapy packets, down to iroh's own layers."""

from __future__ import annotations

from typing import Any

from netns_fixtures.capture import MAX_BYTES, Capture
from netns_fixtures.capture import capture as capture_plain
from netns_fixtures.interface import Interface
from netns_fixtures.node import Node
from netns_fixtures.tap import Frame
from pytest_iroh.packets.views import view


def dissect(frame: Frame) -> Any:
    """A frame as a scapy packet: Ethernet, IP, and ``Disco`` or ``Stun`` in whatever datagram holds one.

    Ports decide nothing here, iroh's do not either. ``sniffed_on`` is "laptop eth0", ``time`` seconds since
    the epoch.
    """
    from scapy.layers.inet import UDP
    from scapy.layers.l2 import Ether

    from pytest_iroh.packets import layers

    packet = Ether(frame.data)
    packet.time = frame.stamp / 1e9
    packet.sniffed_on = frame.where
    content = view(frame.data).content
    if content in ("disco", "stun") and UDP in packet:
        udp = packet[UDP]
        payload = bytes(udp.payload)
        udp.remove_payload()
        udp.add_payload(layers.Disco(payload) if content == "disco" else layers.Stun(payload))
    return packet


def capture(node: Node, interface: str | Interface | None = None, *, max_bytes: int = MAX_BYTES) -> Capture:
    """``netns_fixtures.capture.capture``, whose packets have iroh's layers."""
    return capture_plain(node, interface, dissect=dissect, max_bytes=max_bytes)
