"""One end of a cable: an interface of a host or router, what it should have, and the steps that make it so.

Pure: verbs change the description and return the steps (``ops``) for the agent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from netns_fixtures.addressing import AddressPool
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family
from netns_fixtures.ops import AddAddress, AddRoute, Op, RemoveAddress, RemoveRoute, SetLink

#: The node that holds the cables: a bridge per segment, a port per plug. It has no addresses.
FABRIC = 0
DEFAULT_V4, DEFAULT_V6 = "0.0.0.0/0", "::/0"


@dataclass(slots=True, eq=False)
class Segment:
    """One Ethernet segment: a bridge in the fabric, with a subnet per family (None: not spoken here)."""

    name: str
    bridge: int
    v4: AddressPool | None = None
    v6: AddressPool | None = None

    def pool(self, ip: str) -> AddressPool | None:
        """The pool of an address's family."""
        return self.v6 if ":" in ip else self.v4

    def reserve(self, ip: str) -> None:
        """Keep an address free of leases. Raises TopologyError when it is outside of the subnet, or taken."""
        pool = self.pool(ip)
        if pool is not None:
            pool.reserve(ip)

    @property
    def pools(self) -> tuple[AddressPool, ...]:
        """The pools that exist, IPv4 first."""
        return tuple(pool for pool in (self.v4, self.v6) if pool is not None)


@dataclass(frozen=True, slots=True)
class Assigned:
    """An address with its prefix length in bits. ``leased`` ones come from the segment's pool."""

    ip: str
    prefixlen: int
    leased: bool = True

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefixlen}"


@dataclass(slots=True, eq=False)
class Plug:
    """An interface and its cable. ``metric`` None: no default route over this interface."""

    node: int
    owner: str
    name: str
    index: int
    mac: str
    port: int
    port_name: str
    segment: Segment
    metric: int | None = None
    addresses: list[Assigned] = field(default_factory=list)
    #: Static routes besides the default: (destination, gateway).
    routes: list[tuple[str, str]] = field(default_factory=list)
    up: bool = True
    carrier: bool = True
    #: The far end of a spliced wire: that moves between bridges then, the port stays behind the wire.
    spliced: int | None = None
    #: The interface's own MTU where it was changed.
    mtu: int | None = None
    #: What it takes of the families that the segment speaks.
    family: Family = Family.DUAL

    @property
    def pools(self) -> tuple[AddressPool, ...]:
        """The subnets of the segment that it takes addresses of, IPv4 first."""
        return tuple(pool for pool in self.segment.pools if self.family.speaks(pool.network.version))

    def ip(self, version: int) -> str | None:
        """The first address of a family."""
        return next((a.ip for a in self.addresses if (":" in a.ip) == (version == 6)), None)

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """All that can be reached through it now: (destination, gateway), "" for its own subnets."""
        if not self.up:
            return ()
        subnets = {str(ipaddress.ip_interface(str(a)).network): "" for a in self.addresses}
        return (*self._defaults(), *self.routes, *subnets.items())

    # -- building blocks

    def lease_ops(self, only: str | None = None) -> list[Op]:
        """Take a new address of each family that the segment speaks (or this very one)."""
        ops: list[Op] = []
        for pool in self.pools:
            if only is None:
                ops += self._assign(Assigned(pool.allocate(), pool.prefixlen))
            elif pool is self.segment.pool(only):
                ops += self._assign(Assigned(pool.reserve(only), pool.prefixlen))
        return ops

    def release_ops(self, addresses: Iterable[Assigned]) -> list[Op]:
        """Give these addresses up."""
        ops: list[Op] = []
        for address in tuple(addresses):
            self.addresses.remove(address)
            pool = self.segment.pool(address.ip)
            if pool is not None:
                pool.release(address.ip)
            ops.append(RemoveAddress(self.node, self.index, address.ip, address.prefixlen))
        return ops

    def default_ops(self) -> list[Op]:
        """The default routes that this interface should have, through the segment's router."""
        return [AddRoute(self.node, *route, self.index, self.metric or 0) for route in self._defaults()]

    def remove_default_ops(self) -> list[Op]:
        """Their removal; those that the kernel has dropped already are no error."""
        return [RemoveRoute(self.node, *route, self.index, self.metric or 0) for route in self._defaults()]

    def route_ops(self, wanted: list[tuple[str, str]]) -> list[Op]:
        """Change the static routes into these."""
        gone = [r for r in self.routes if r not in wanted]
        new = [r for r in wanted if r not in self.routes]
        self.routes = list(wanted)
        ops: list[Op] = [RemoveRoute(self.node, *route, self.index) for route in gone]
        if self.up:
            ops += [AddRoute(self.node, *route, self.index) for route in new]
        return ops

    # -- verbs

    def up_ops(self) -> list[Op]:
        """Admin up, with the addresses and routes that the kernel dropped."""
        self.up = True
        return [
            SetLink(self.node, self.index, up=True),
            *(AddAddress(self.node, self.index, a.ip, a.prefixlen) for a in self.addresses),
            *self.default_ops(),
            *(AddRoute(self.node, *route, self.index) for route in self.routes),
        ]

    def down_ops(self) -> list[Op]:
        """Admin down; the kernel drops the routes, and keeps the addresses (keep_addr_on_down for IPv6)."""
        self.up = False
        return [SetLink(self.node, self.index, up=False)]

    def carrier_ops(self, on: bool) -> list[Op]:
        """The far end of the cable goes down or up: admin state, addresses and routes stay."""
        self.carrier = on
        return [SetLink(FABRIC, self.port, up=on)]

    def replug_ops(self, segment: Segment) -> list[Op]:
        """Pull the cable, plug it in elsewhere, and do what DHCP does: new addresses, new default route."""
        ops: list[Op] = [SetLink(FABRIC, self.port, up=False)]
        ops += self.remove_default_ops()
        ops += self.release_ops(self.addresses)
        self.segment = segment
        ops.append(SetLink(FABRIC, self.spliced or self.port, master=segment.bridge))
        if self.carrier:
            ops.append(SetLink(FABRIC, self.port, up=True))
        return ops + self.lease_ops() + self._defaults_if_up()

    def renumber_ops(self, address: str | None = None) -> list[Op]:
        """A new leased address in the same subnet; the old one of that family is gone. Routes come back."""
        pools = [p for p in self.pools if address is None or p is self.segment.pool(address)]
        if not pools:
            raise TopologyError(f"{self.segment.name} has no subnet for {address}")
        old = [a for a in self.addresses if a.leased and self.segment.pool(a.ip) in pools]
        extra = [a for a in self.addresses if a not in old]
        new = [
            Assigned(pool.allocate() if address is None else pool.reserve(address), pool.prefixlen)
            for pool in pools
        ]
        ops = self.remove_default_ops() + self.release_ops(old)
        for assigned in new:
            ops += self._assign(assigned)
        # New leases come first: .ip names the lease, not an address added by hand.
        self.addresses = [
            *new,
            *(a for a in self.addresses if a.leased and a not in new),
            *(a for a in extra if not a.leased),
        ]
        return ops + self._defaults_if_up()

    def move_subnet_ops(self) -> list[Op]:
        """The segment has new subnets: leave the old leases (the pools are new), take new ones."""
        old = [a for a in self.addresses if a.leased]
        ops: list[Op] = [RemoveAddress(self.node, self.index, a.ip, a.prefixlen) for a in old]
        self.addresses = [a for a in self.addresses if not a.leased]
        return ops + self.lease_ops() + self._defaults_if_up()

    def metric_ops(self, metric: int) -> list[Op]:
        """Another metric: the new default routes appear before the old ones go."""
        gone = self.remove_default_ops() if self.metric is not None else []
        self.metric = metric
        return self._defaults_if_up() + gone

    def add_ops(self, assigned: Assigned) -> list[Op]:
        """An address set by hand, besides the leased one."""
        if any(a.ip == assigned.ip for a in self.addresses):
            raise TopologyError(f"{self.owner} {self.name} has {assigned.ip} already")
        return self._assign(assigned)

    def _assign(self, assigned: Assigned) -> list[Op]:
        self.addresses.append(assigned)
        return [AddAddress(self.node, self.index, assigned.ip, assigned.prefixlen)]

    def _defaults_if_up(self) -> list[Op]:
        return self.default_ops() if self.up else []

    def _defaults(self) -> list[tuple[str, str]]:
        if self.metric is None:
            return []
        routes = []
        if self.segment.v4 is not None and self.ip(4):
            routes.append((DEFAULT_V4, self.segment.v4.gateway))
        if self.segment.v6 is not None and self.ip(6):
            routes.append((DEFAULT_V6, self.segment.v6.gateway))
        return routes
