"""What a lease does to an interface: address, routes, MTU, by netlink."""

from __future__ import annotations

from netns_fixtures.agent.ends import switch_off_checksum_offload
from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.dhcp.lease import Granted
from netns_fixtures.ops import AddAddress, AddRoute, RemoveAddress, RemoveRoute, SetLink
from netns_fixtures.path_limits import DEFAULT_MTU


class LeasedInterface:
    """Interface ``index`` of a node; ``metric`` None: its routes are left out. Methods raise CommandFailed."""

    def __init__(self, node: NetworkNamespace, fabric: NetworkNamespace, index: int, port_name: str) -> None:
        self._node = node
        self._fabric = fabric
        self._index = index
        self._port_name = port_name
        self.metric: int | None = None

    def configure(self, lease: Granted, before: Granted | None) -> None:
        """Make it what the lease says. What is there already is put back where a link that was down lost it."""
        netlink = self._node.netlink
        if before is not None and before.ip != lease.ip:
            self.unconfigure(before)
            before = None
        self._set_mtu(lease.mtu, before.mtu if before is not None else None)
        netlink.queue(AddAddress(0, self._index, lease.ip, lease.prefixlen))
        gone = [route for route in (before.routes if before else ()) if route not in lease.routes]
        self._remove_routes(tuple(gone))
        self._add_routes(lease.routes)
        netlink.collect()

    def unconfigure(self, lease: Granted) -> None:
        """Nothing of the lease stays."""
        self._remove_routes(lease.routes)
        self._node.netlink.queue(RemoveAddress(0, self._index, lease.ip, lease.prefixlen))
        self._set_mtu(None, lease.mtu)
        self._node.netlink.collect()

    def set_metric(self, metric: int | None, lease: Granted | None) -> None:
        """Move the routes of a lease to another metric: the new ones appear before the old ones go."""
        before, self.metric = self.metric, metric
        if lease is None or before == metric:
            return
        self._add_routes(lease.routes)
        if before is not None:
            self._remove_routes(lease.routes, before)
        self._node.netlink.collect()

    def _add_routes(self, routes: tuple[tuple[str, str], ...]) -> None:
        if self.metric is not None:
            for destination, gateway in routes:
                self._node.netlink.queue(AddRoute(0, destination, gateway, self._index, self.metric))

    def _remove_routes(self, routes: tuple[tuple[str, str], ...], metric: int | None = None) -> None:
        at = self.metric if metric is None else metric
        if at is not None:
            for destination, gateway in routes:
                self._node.netlink.queue(RemoveRoute(0, destination, gateway, self._index, at))

    def _set_mtu(self, mtu: int | None, before: int | None) -> None:
        if mtu == before:
            return
        # A joined frame (GSO) passes an MTU that its parts would not.
        self._fabric.enter()
        switch_off_checksum_offload(self._port_name)
        self._node.netlink.queue(SetLink(0, self._index, mtu=mtu or DEFAULT_MTU))
