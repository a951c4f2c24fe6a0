"""A NAT in the simulated network: its table, its place between two segments, and what can happen to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family
from iroh_py.testing.errors import TopologyError
from iroh_py.testing.link import Link
from iroh_py.testing.nat_table import Filtering, Mapping, NatConfig, NatTable, Ports
from iroh_py.testing.segment import Segment, parse_address

if TYPE_CHECKING:
    from iroh_py.testing.net import SimNet


class SimNat:
    """A router with a LAN inside, one IPv4 address outside, and rules (:class:`NatConfig`) between them.

    IPv6 (and all of a ``"none"`` router) is routed, not translated, behind a stateful firewall with the same
    filtering; endpoint-independent filtering is no firewall there. Made by ``SimNet.nat``. TCP and ICMP pass
    from inside to outside only, without a table of their own.
    """

    def __init__(
        self,
        net: SimNet,
        name: str,
        config: NatConfig,
        upstream: Segment,
        outside_ip: str,
        prefixes: dict[Family, str],
    ) -> None:
        self.net = net
        self.name = name
        self.config = config
        self.upstream = upstream
        self.outside_ip = parse_address(outside_ip).ip
        self.link = Link(net.rng)
        self.inside = Segment(name, net.new_mac(), prefixes, owner=self)
        #: Counts the rebinds: a TCP connection that began under another number has lost its mapping.
        self.epoch = 0
        self.table = NatTable(config, net.rng)
        self.firewall = NatTable(dataclasses.replace(config, mapping=Mapping.EIM), net.rng)
        upstream.join(self.outside_ip, self)
        upstream.nats.append(self)

    def __repr__(self) -> str:
        return f"<SimNat {self.name} {self.outside_ip}>"

    def rebind(self, *, port: bool = True, address: str | None = None) -> None:
        """Lose all mappings, then give other outside ports, another outside address, or both; nobody is told.

        TCP connections through it hang from now on. Raises TopologyError if the address is taken or
        malformed.
        """
        if address is not None:
            self._move(self.upstream, address)
        if port:
            self.table.rebind()
        else:
            self.table.flush()
        self.firewall.flush()
        self.epoch += 1
        self.net.changed(self.name, f"nat-rebind {self.outside_ip}")

    def flush(self) -> None:
        """Forget all mappings. A NAT that preserves ports gives the same ones again, and TCP goes on."""
        self.table.flush()
        self.firewall.flush()
        if self.config.ports is not Ports.PRESERVE:
            self.epoch += 1
        self.net.changed(self.name, "nat-flush")

    def configure(self, config: NatConfig) -> None:
        """Change the rules; existing mappings are lost."""
        self.config = config
        self.table = NatTable(config, self.net.rng)
        self.firewall = NatTable(dataclasses.replace(config, mapping=Mapping.EIM), self.net.rng)
        self.epoch += 1
        self.net.changed(self.name, "nat-configure")

    def replug(self, upstream: SimNat | Segment, outside_ip: str | None = None) -> None:
        """Connect the outside to another network; hosts inside see nothing of it."""
        segment = upstream.inside if isinstance(upstream, SimNat) else upstream
        self._move(segment, outside_ip or segment.free_address(Family.V4))
        self.table.flush()
        self.firewall.flush()
        self.epoch += 1
        self.net.changed(self.name, f"replug {segment.name} {self.outside_ip}")

    def age(self, seconds: float) -> None:
        """Make all mappings older, as if that time had passed."""
        self.table.age(seconds)
        self.firewall.age(seconds)

    def translates(self, ip: str) -> bool:
        """Whether packets with this inside address change on their way out."""
        return self.config.translates and ":" not in ip

    def routes(self, ip: str) -> bool:
        """Whether an address outside belongs to somebody inside."""
        return not self.translates(ip) and self.inside.find(ip) is not None

    def outbound(self, now: float, src: Addr, dst: Addr) -> Addr:
        """The source address of a packet once it is outside."""
        if self.translates(src[0]):
            return self.outside_ip, self.table.outbound(now, src, dst)
        self.firewall.outbound(now, src, dst)
        return src

    def inbound(self, now: float, src: Addr, dst: Addr) -> Addr | str:
        """The inside destination of a packet from outside, or in a word why it is dropped."""
        if self.translates(dst[0]):
            return self.table.inbound(now, dst[1], src)
        if self.config.filtering is Filtering.EIF:
            return dst
        return self.firewall.admit(now, dst, src) or dst

    def _move(self, segment: Segment, outside_ip: str) -> None:
        if self._leads_to(segment):
            raise TopologyError(f"{self.name} cannot be behind itself")
        ip = parse_address(outside_ip).ip
        segment.join(ip, self)
        if (segment, ip) != (self.upstream, self.outside_ip):
            self.upstream.leave(self.outside_ip, self)
        if segment is not self.upstream:
            self.upstream.nats.remove(self)
            segment.nats.append(self)
        self.upstream, self.outside_ip = segment, ip

    def _leads_to(self, segment: Segment) -> bool:
        owner = segment.owner
        while owner is not None:
            if owner is self:
                return True
            owner = owner.upstream.owner
        return False
