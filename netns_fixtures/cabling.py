"""Nodes, segments and cables as they are made: their numbers, and the steps that make them. Pure."""

from __future__ import annotations

from itertools import count

from netns_fixtures.addressing import AddressPool, SubnetPlan, mac_of
from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.dhcp.plugged import PluggedClient
from netns_fixtures.family import Family
from netns_fixtures.node_settings import FABRIC as FABRIC_SETTINGS
from netns_fixtures.ops import AddAddress, AddBridge, AddCable, AddNode, Op, PrepareRing, SetLink
from netns_fixtures.plug import FABRIC, Assigned, Plug, Segment

#: Indices that the kernel gives out itself (TAPs of wires) stay below.
FIRST_INDEX = 1000


class Cabling:
    """What a description consists of. Methods append the steps that make it to ``pending``."""

    def __init__(self) -> None:
        self.subnets = SubnetPlan()
        self.pending: list[Op] = [AddNode(FABRIC, "fabric", FABRIC_SETTINGS)]
        self._nodes = count(FABRIC + 1)
        self._indices = count(FIRST_INDEX)

    def take_pending(self) -> list[Op]:
        """The steps described and not yet carried out, cables first: few and large batches for the agent."""
        ops, self.pending = self.pending, []
        rank = {AddNode: 0, PrepareRing: 0, AddBridge: 1, AddCable: 2}
        ops.sort(
            key=lambda op: (rank.get(type(op), 3), 0 if rank.get(type(op), 3) < 3 else getattr(op, "node", 0))
        )
        return ops

    def next_index(self) -> int:
        """An interface index that is unique in this lab."""
        return next(self._indices)

    def add_node(self, name: str, sysctls: tuple[tuple[str, str], ...]) -> int:
        """A namespace; returns its number."""
        node = next(self._nodes)
        self.pending.append(AddNode(node, name, sysctls))
        return node

    def add_segment(self, name: str, v4: AddressPool | None, v6: AddressPool | None = None) -> Segment:
        """An Ethernet segment: its bridge in the fabric."""
        segment = Segment(name, self.next_index(), v4, v6)
        self.pending.append(AddBridge(FABRIC, segment.bridge, f"br{segment.bridge}"))
        return segment

    def add_plug(self, node: int, owner: str, name: str, segment: Segment, metric: int | None) -> Plug:
        """An interface of a node, its cable to a segment, and nothing else: it is down and has no address."""
        port, index = self.next_index(), self.next_index()
        plug = Plug(node, owner, name, index, mac_of(index), port, f"p{port}", segment, metric)
        self.pending.append(
            AddCable(FABRIC, port, plug.port_name, segment.bridge, node, index, name, plug.mac)
        )
        return plug

    def add_lan(self, node: int, owner: str, name: str, segment: Segment) -> Plug:
        """A router's interface in a segment of its own: it is the gateway there."""
        plug = self.add_plug(node, owner, name, segment, None)
        self.pending += [SetLink(node, plug.index, up=True), *gateway_ops(plug)]
        return plug

    def add_uplink(
        self,
        node: int,
        owner: str,
        name: str,
        segment: Segment,
        *,
        metric: int,
        family: Family,
        slaac: bool = False,
        dhcp: DhcpClient | None = None,
    ) -> tuple[Plug, list[Op]]:
        """An interface in another's segment, and the steps that configure it: they follow all cables."""
        plug = self.add_plug(node, owner, name, segment, metric)
        plug.family, plug.slaac = family, slaac
        if slaac:
            if segment.ra is not None:
                self.pending += segment.ra.begin(segment.prefixes)
            self.pending.append(plug.sysctl_op("ra_defrtr_metric", str(metric)))
        if dhcp is not None:
            plug.dhcp = PluggedClient(dhcp)
            if segment.dhcp is not None:
                self.pending += segment.dhcp.expect(plug)
        ops = [SetLink(node, plug.index, up=True), *plug.lease_ops(), *plug.default_ops()]
        return plug, [*ops, *plug.client_ops(), *plug.link_ops()]


def gateway_ops(plug: Plug) -> list[Op]:
    """Give a router's interface the gateway's address of each of its subnets."""
    new = [Assigned(pool.gateway, pool.prefixlen) for pool in plug.segment.pools]
    plug.addresses += new
    return [AddAddress(plug.node, plug.index, a.ip, a.prefixlen) for a in new]
