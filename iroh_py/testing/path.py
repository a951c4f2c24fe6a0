"""The way that TCP and ICMP would take right now, worked out in one go (UDP: see ``forward``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import Direction, Lane, Link
from iroh_py.testing.nat import SimNat
from iroh_py.testing.nat_table import Filtering

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost
    from iroh_py.testing.routing import Choice


@dataclass(frozen=True, slots=True)
class Path:
    """A working way from one host to a node: links with their direction, and the NATs on the way up."""

    hops: tuple[tuple[Link, Direction], ...]
    target: SimInterface | SimNat
    #: The source address that the target sees.
    seen_ip: str
    #: NATs that translated, with their epoch: another number means that a connection's mapping is lost.
    nats: tuple[tuple[SimNat, int], ...]

    def lanes(self) -> Iterator[Lane]:
        """Every direction of every link that a packet and its answer cross."""
        yield from self.forward()
        yield from self.backward()

    def forward(self) -> Iterator[Lane]:
        """The lanes from the source to the target."""
        return (link.lane(direction) for link, direction in self.hops)

    def backward(self) -> Iterator[Lane]:
        """The lanes from the target to the source."""
        opposite = {Direction.UP: Direction.DOWN, Direction.DOWN: Direction.UP}
        return (link.lane(opposite[direction]) for link, direction in reversed(self.hops))

    def round_trip(self) -> float:
        """Seconds there and back, without jitter."""
        return sum(lane.condition.delay for lane in self.lanes())


def find(host: SimHost, choice: Choice, dst_ip: str) -> Path | None:
    """The way to an address as routed, or None where a packet would be dropped."""
    interface = choice.interface
    if interface is None or not _carries(interface, choice.source) or host.deaf:
        return None
    hops = [(interface.link, Direction.UP)]
    nats: list[tuple[SimNat, int]] = []
    segment, source = interface.segment, choice.source
    while segment is not None:
        node = segment.find(dst_ip)
        if node is None:
            nat = segment.owner
            if nat is None:
                return None
            hops.append((nat.link, Direction.UP))
            nats.append((nat, nat.epoch))
            source = nat.outside_ip if nat.translates(source) else source
            segment = nat.upstream
            continue
        hops.append((node.link, Direction.DOWN))
        if isinstance(node, SimInterface):
            usable = _carries(node, dst_ip) and not node.host.deaf
            usable = usable and not host.net.partitioned(host, node.host)
            return Path(tuple(hops), node, source, tuple(nats)) if usable else None
        if node.outside_ip == dst_ip:
            return Path(tuple(hops), node, source, tuple(nats))
        if node.config.filtering is not Filtering.EIF:
            return None  # A stateful firewall lets no connection in.
        segment = node.inside
    return None


def _carries(interface: SimInterface, ip: str) -> bool:
    return interface.passes and ip in interface.ips
