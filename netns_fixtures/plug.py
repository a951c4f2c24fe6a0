"""One end of a cable: an interface of a host or router, what it should have, and the steps that make it so.

Pure: verbs change the description and return the steps (``ops``) for the agent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from netns_fixtures.addressing import AddressPool
from netns_fixtures.dhcp.plan import DhcpPlan, serving
from netns_fixtures.dhcp.plugged import PluggedClient
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family
from netns_fixtures.ops import AddAddress, AddRoute, Op, RemoveAddress, RemoveRoute, SetLink, SetSysctls
from netns_fixtures.ra.plan import RaPlan

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
    #: A second IPv6 subnet, of unique local addresses (RFC 4193).
    ula: AddressPool | None = None
    #: What its router advertises; None: nobody does, or there is no IPv6.
    ra: RaPlan | None = None
    #: The DHCP server of its router; None: there is no router, or no IPv4.
    dhcp: DhcpPlan | None = None

    def pool(self, ip: str) -> AddressPool | None:
        """The pool of an address's family; of two IPv6 subnets the one that it lies in."""
        if ":" not in ip:
            return self.v4
        local = self.ula is not None and ipaddress.ip_address(ip) in self.ula.network
        return self.ula if local else self.v6

    def reserve(self, ip: str) -> None:
        """Keep an address free of leases. Raises TopologyError when it is outside of the subnet, or taken."""
        pool = self.pool(ip)
        if pool is not None:
            pool.reserve(ip)

    @property
    def pools(self) -> tuple[AddressPool, ...]:
        """The pools that exist, IPv4 first."""
        return tuple(pool for pool in (self.v4, self.v6, self.ula) if pool is not None)

    @property
    def prefixes(self) -> tuple[ipaddress.IPv6Network, ...]:
        """The IPv6 subnets that exist."""
        networks = (pool.network for pool in (self.v6, self.ula) if pool is not None)
        return tuple(network for network in networks if isinstance(network, ipaddress.IPv6Network))

    def ra_ops(self) -> list[Op]:
        """Advertise what there is now, if somebody does."""
        return self.ra.ops(self.prefixes) if self.ra is not None else []

    def dhcp_ops(self) -> list[Op]:
        """Serve what there is now by DHCP, if somebody does."""
        return self.dhcp.ops(self.v4) if self.dhcp is not None else []


@dataclass(frozen=True, slots=True)
class Assigned:
    """An address with its prefix length in bits. ``leased`` ones come from the segment's pool.

    ``learnt``: a DHCP client got it, and looks after it.
    """

    ip: str
    prefixlen: int
    leased: bool = True
    learnt: bool = False

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
    #: IPv6 addresses that went with the link, for when it comes back.
    dropped: list[Assigned] = field(default_factory=list)
    #: Its IPv6 addresses and routes are made by the kernel, of router advertisements.
    slaac: bool = False
    #: Its IPv4 address and routes are those that a DHCP client gets.
    dhcp: PluggedClient | None = None

    @property
    def pools(self) -> tuple[AddressPool, ...]:
        """The subnets of the segment that it is given addresses of, IPv4 first."""
        own = {6} if self.slaac else set()
        own |= {4} if self.dhcp is not None else set()
        versions = ((pool, pool.network.version) for pool in self.segment.pools)
        return tuple(pool for pool, version in versions if self.family.speaks(version) and version not in own)

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

    def up_ops(self, *, restore: bool = True) -> list[Op]:
        """Admin up; with ``restore`` the addresses and routes that the kernel dropped, as a network manager does."""
        self.up = True
        dropped, self.dropped = self.dropped, []
        if not restore:
            for address in dropped:
                pool = self.segment.pool(address.ip)
                if pool is not None:
                    pool.release(address.ip)
            self.routes = []  # so that a later change of the network brings back those that it needs
            return [SetLink(self.node, self.index, up=True), *self.link_ops()]
        self.addresses += dropped
        mine = (a for a in self.addresses if not a.learnt)
        return [
            SetLink(self.node, self.index, up=True),
            *(AddAddress(self.node, self.index, a.ip, a.prefixlen) for a in mine),
            *self.default_ops(),
            *(AddRoute(self.node, *route, self.index) for route in self.routes),
            *self.link_ops(),
        ]

    def down_ops(self, *, keep_addresses: bool = True) -> list[Op]:
        """Admin down; the kernel drops the routes, keeps IPv4 addresses, and by choice IPv6 ones (not SLAAC's)."""
        self.up = False
        down = SetLink(self.node, self.index, up=False)
        if keep_addresses:
            return [down, *self.link_ops()]
        self.dropped += [a for a in self.addresses if ":" in a.ip]
        self.addresses = [a for a in self.addresses if ":" not in a.ip]
        keep = "net/ipv6/conf/all/keep_addr_on_down"
        forgetful, mindful = (SetSysctls(self.node, ((keep, value),)) for value in "01")
        return [forgetful, down, mindful, *self.link_ops()]

    def carrier_ops(self, on: bool) -> list[Op]:
        """The far end of the cable goes down or up: admin state, addresses and routes stay."""
        self.carrier = on
        return [SetLink(FABRIC, self.port, up=on), *self.link_ops()]

    def replug_ops(self, segment: Segment) -> list[Op]:
        """Pull the cable, plug it in elsewhere, and do what DHCP does: new addresses, new default route."""
        ops: list[Op] = [SetLink(FABRIC, self.port, up=False)]
        if self.slaac:
            ops += self.ipv6_ops(False)  # the kernel alone would go on with the old LAN's addresses
        ops += self.remove_default_ops()
        ops += self.release_ops([a for a in self.addresses if not a.learnt])
        self.segment = segment
        ops.append(SetLink(FABRIC, self.spliced or self.port, master=segment.bridge))
        if self.carrier:
            ops.append(SetLink(FABRIC, self.port, up=True))
        if self.slaac:
            if segment.ra is not None:
                ops += segment.ra.begin(segment.prefixes)
            ops += self.ipv6_ops(True)
        if self.dhcp is not None and segment.dhcp is not None:
            ops += segment.dhcp.expect(self)
        return ops + self.lease_ops() + self._defaults_if_up() + self.link_ops()

    def ipv6_ops(self, on: bool) -> list[Op]:
        """Forget what the kernel learnt of advertisements, or begin anew by soliciting one."""
        return [self.sysctl_op("disable_ipv6", "0" if on else "1")]

    def sysctl_op(self, name: str, value: str) -> Op:
        """An IPv6 setting of this interface."""
        return SetSysctls(self.node, ((f"net/ipv6/conf/{self.name}/{name}", value),))

    def renumber_ops(self, address: str | None = None) -> list[Op]:
        """A new leased address in the same subnet; the old one of that family is gone. Routes come back."""
        pools = [p for p in self.pools if address is None or p is self.segment.pool(address)]
        if self.dhcp is not None and (address is None or ":" not in address):
            plan = self.segment.dhcp
            anew = plan.let_anew_ops(self, address) if plan is not None else []
            anew += self.link_ops()
            if not pools:
                return anew
        else:
            anew = []
        if not pools and self.slaac:
            raise TopologyError(
                f"{self.owner} {self.name} configures itself: use host.rotate_privacy_address(), or"
                " router.renumber_prefix()"
            )
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
        return ops + self._defaults_if_up() + anew

    def move_subnet_ops(self) -> list[Op]:
        """The segment has new subnets: leave the old leases (the pools are new), take new ones."""
        old = [a for a in self.addresses if a.leased]
        ops: list[Op] = [RemoveAddress(self.node, self.index, a.ip, a.prefixlen) for a in old]
        self.addresses = [a for a in self.addresses if not a.leased]
        return ops + self.lease_ops() + self._defaults_if_up() + self.link_ops()

    def move_v4_ops(self, leaving: AddressPool) -> list[Op]:
        """The segment has another IPv4 subnet: leave the leases of the old one, take a new one."""
        old = [a for a in self.addresses if a.leased and ipaddress.ip_address(a.ip) in leaving.network]
        ops: list[Op] = [RemoveAddress(self.node, self.index, a.ip, a.prefixlen) for a in old]
        self.addresses = [a for a in self.addresses if a not in old]
        pool = self.segment.v4
        if old and pool is not None:
            ops += self._assign(Assigned(pool.allocate(), pool.prefixlen))
            self.addresses.insert(0, self.addresses.pop())
        return ops + self._defaults_if_up()

    def move_prefix_ops(self, leaving: AddressPool) -> list[Op]:
        """The segment has another IPv6 subnet: leave the leases of the old one, take a new one."""
        old = [a for a in self.addresses if a.leased and ipaddress.ip_address(a.ip) in leaving.network]
        ops: list[Op] = [RemoveAddress(self.node, self.index, a.ip, a.prefixlen) for a in old]
        self.addresses = [a for a in self.addresses if a not in old]
        pool = self.segment.v6
        if old and pool is not None:
            ops += self._assign(Assigned(pool.allocate(), pool.prefixlen))
            self.addresses.insert(self.first6(), self.addresses.pop())
        return ops + self._defaults_if_up()

    def first6(self) -> int:
        """Where a new lease belongs among the addresses: before all IPv6 ones, as ``ip`` names the first."""
        return next((n for n, a in enumerate(self.addresses) if ":" in a.ip), len(self.addresses))

    def metric_ops(self, metric: int) -> list[Op]:
        """Another metric: the new default routes appear before the old ones go."""
        gone = self.remove_default_ops() if self.metric is not None else []
        self.metric = metric
        ops = self._defaults_if_up() + gone
        if self.slaac:  # the next advertisement moves the route
            ops += [self.sysctl_op("ra_defrtr_metric", str(metric)), *self.segment.ra_ops()]
        return ops + self.client_ops()

    def client_ops(self) -> list[Op]:
        """Begin to ask for an address, where that is its way, or go on with the metric that it has now."""
        return self.dhcp.run_ops(self) if self.dhcp is not None else []

    def link_ops(self) -> list[Op]:
        """Tell the DHCP client what its link is now; one that is up may be another one."""
        return self.dhcp.link_ops(self) if self.dhcp is not None else []

    @property
    def awaits_lease(self) -> bool:
        """Whether a DHCP server should give it an address any moment."""
        asks = self.dhcp is not None and not self.dhcp.frozen and self.up and self.carrier
        return asks and serving(self.segment) is not None

    def learn(self, address: Assigned | None) -> None:
        """The DHCP client has this address now, and no other."""
        kept = [a for a in self.addresses if not a.learnt]
        self.addresses = kept if address is None else [address, *kept]

    def add_ops(self, assigned: Assigned) -> list[Op]:
        """An address set by hand, besides the leased one."""
        if any(a.ip == assigned.ip for a in self.addresses):
            raise TopologyError(f"{self.owner} {self.name} has {assigned.ip} already")
        return self._assign(assigned)

    def relet_ops(self, address: str) -> list[Op]:
        """A new leased address in front of those of its family, which stay as if set by hand."""
        pool = self.segment.pool(address)
        assert pool is not None
        new = Assigned(pool.reserve(address), pool.prefixlen)
        same = [a for a in self.addresses if self.segment.pool(a.ip) is pool]
        rest = [a for a in self.addresses if a not in same]
        self.addresses = [new, *(replace(a, leased=False) for a in same), *rest]
        return [AddAddress(self.node, self.index, new.ip, new.prefixlen)]

    def _assign(self, assigned: Assigned) -> list[Op]:
        self.addresses.append(assigned)
        return [AddAddress(self.node, self.index, assigned.ip, assigned.prefixlen)]

    def _defaults_if_up(self) -> list[Op]:
        return self.default_ops() if self.up else []

    def _defaults(self) -> list[tuple[str, str]]:
        if self.metric is None:
            return []
        routes = []
        if self.segment.v4 is not None and self.ip(4) and self.dhcp is None:
            routes.append((DEFAULT_V4, self.segment.v4.gateway))
        if self.segment.v6 is not None and self.ip(6) and not self.slaac:
            routes.append((DEFAULT_V6, self.segment.v6.gateway))
        return routes
