"""Where frames are seen, and what is known of each.

Every interface is a cable into one namespace, the fabric (see ``topology``), so a single packet socket there sees a
whole lab.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netns_fixtures.messages import OpenSocket
from netns_fixtures.plug import FABRIC
from netns_fixtures.ring import RawFrame

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab


@dataclass(frozen=True, slots=True)
class Frame:
    """An Ethernet frame at an interface.

    ``time``: seconds on the clock of the lab's events; ``stamp``: ns since the epoch. ``outgoing``: it left
    the node. ``length``: bytes on the cable; ``data`` is all of them, unless the kernel had to cut them.
    """

    time: float
    stamp: int
    node: str
    interface: str
    outgoing: bool
    data: bytes = field(repr=False)
    length: int = 0

    @property
    def where(self) -> str:
        """The interface with its node, "laptop eth0"."""
        return f"{self.node} {self.interface}"


@dataclass(frozen=True, slots=True)
class Tap:
    """Where frames are seen: an interface, and whether from its own end of the cable."""

    node: str
    interface: str
    mac: str = ""
    segment: str = ""
    far_end: bool = True

    def frame(self, raw: RawFrame, boot: float) -> Frame | None:
        """The frame as the node sees it."""
        if self.interface == "lo" and raw.sent:
            return None  # the loopback shows each frame twice
        outgoing = raw.sent != self.far_end
        stamp = raw.stamp
        return Frame(stamp / 1e9 - boot, stamp, self.node, self.interface, outgoing, raw.data, raw.length)


def fabric_socket(lab: Lab) -> socket.socket:
    request = OpenSocket(lab.number, FABRIC, socket.AF_PACKET, socket.SOCK_RAW, 0)
    _value, (fd,) = lab.request(request)
    return socket.socket(fileno=fd)


def fabric_taps(lab: Lab) -> dict[int, Tap]:
    plugs = list(lab.topology.plugs())
    return {plug.port: Tap(plug.owner, plug.name, plug.mac, plug.segment.name) for plug in plugs}
