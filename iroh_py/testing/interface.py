"""A network interface of a simulated host, with the verbs that move it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from iroh_py.network import Family, Interface, InterfaceAddress
from iroh_py.testing.errors import TopologyError
from iroh_py.testing.link import Link
from iroh_py.testing.nat import SimNat
from iroh_py.testing.segment import Segment, parse_address

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost


class SimInterface:
    """One interface: where it is plugged in, its addresses, and its state as the kernel would show it.

    Every verb tells the host's watchers; none of them tells anybody else.
    """

    def __init__(self, host: SimHost, name: str, index: int, metric: int) -> None:
        self.host = host
        self.name = name
        self.index = index
        self.metric = metric
        self.link = Link(host.net.rng)
        self.mac = host.net.new_mac()
        self.segment: Segment | None = None
        self.addresses: tuple[InterfaceAddress, ...] = ()
        #: The addresses without the rest, for the lookup per packet.
        self.ips: frozenset[str] = frozenset()
        self.is_up = True
        self.has_carrier = True
        self.has_default_route = True
        self.generation = 0

    def __repr__(self) -> str:
        return f"<SimInterface {self.host.name}.{self.name}>"

    @property
    def ip(self) -> str:
        """The first IPv4 address. Raises TopologyError if there is none."""
        return self._first(Family.V4)

    @property
    def ip6(self) -> str:
        """The first IPv6 address. Raises TopologyError if there is none."""
        return self._first(Family.V6)

    @property
    def passes(self) -> bool:
        """Whether packets really get through: up, with carrier, plugged in somewhere."""
        return self.is_up and self.has_carrier and self.segment is not None

    def down(self) -> None:
        """Take it down administratively: its routes and IPv6 addresses are gone until it is up."""
        if self.is_up:
            self.is_up = False
            self._changed("down")

    def up(self, *, route_after: float = 0.0) -> None:
        """Bring it up; its default route follows ``route_after`` seconds later, as from a DHCP client."""
        if self.is_up:
            return
        self.is_up = True
        self.generation += 1
        if route_after > 0 and self.has_default_route:
            self.has_default_route = False
            self.host.net.schedule.call_at(self.host.time() + route_after, self.set_default_route, True)
        self._changed("up")

    def carrier(self, on: bool) -> None:
        """Plug or pull the cable: addresses and routes stay, the kernel keeps choosing them, data vanish."""
        if on is not self.has_carrier:
            self.has_carrier = on
            self.generation += on
            self._changed("carrier" if on else "no-carrier")

    def renumber(self, *ips: str) -> None:
        """Replace the addresses of each family given, in the same network. Raises TopologyError."""
        new = tuple(parse_address(ip) for ip in ips)
        families = {Family.of(address.ip) for address in new}
        kept = tuple(a for a in self.addresses if Family.of(a.ip) not in families)
        self._set(self.segment, kept + new)
        self._changed("renumber " + " ".join(ips))

    def replug(self, upstream: SimNat | Segment | None, *ips: str) -> None:
        """Connect it to another network (None: to nothing) with other addresses, by default a free IPv4 one.

        The link goes down and up: the interface's generation counts it. Raises TopologyError.
        """
        segment = upstream.inside if isinstance(upstream, SimNat) else upstream
        if segment is not None and not ips:
            ips = (segment.free_address(Family.V4),)
        self._set(segment, tuple(parse_address(ip) for ip in ips))
        self.has_carrier = segment is not None
        self.generation += segment is not None
        self._changed(f"replug {segment.name if segment else 'nowhere'} {' '.join(ips)}")

    def add_address(self, ip: str) -> None:
        """Add one address. Raises TopologyError."""
        self._set(self.segment, (*self.addresses, parse_address(ip)))
        self._changed(f"add {ip}")

    def remove_address(self, ip: str) -> None:
        """Remove one address. Raises TopologyError if it is not there."""
        self._known(ip)
        self._set(self.segment, tuple(a for a in self.addresses if a.ip != ip))
        self._changed(f"remove {ip}")

    def deprecate(self, ip: str) -> None:
        """Mark an address as deprecated: it works, but new traffic prefers another. Raises TopologyError."""
        self._known(ip)
        self.addresses = tuple(
            dataclasses.replace(a, deprecated=True) if a.ip == ip else a for a in self.addresses
        )
        self._changed(f"deprecate {ip}")

    def set_metric(self, metric: int) -> None:
        """Change the metric of its default routes; the lowest wins."""
        self.metric = metric
        self._changed(f"metric {metric}")

    def set_default_route(self, on: bool) -> None:
        """Add or remove its default routes."""
        self.has_default_route = on
        self._changed("default-route" if on else "no-default-route")

    def active_addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses as the kernel lists them: IPv6 ones vanish while the interface is down."""
        if self.is_up:
            return self.addresses
        return tuple(a for a in self.addresses if Family.of(a.ip) is Family.V4)

    def snapshot(self) -> Interface:
        """What a network monitor sees of it."""
        return Interface(
            index=self.index,
            name=self.name,
            up=self.is_up,
            running=self.is_up and self.has_carrier,
            mac=self.mac,
            addresses=self.active_addresses(),
            generation=self.generation,
        )

    def plug(self, segment: Segment | None, addresses: tuple[InterfaceAddress, ...]) -> None:
        """Where it is from the start; not an event."""
        self.has_carrier = segment is not None
        self._set(segment, addresses)

    def _set(self, segment: Segment | None, addresses: tuple[InterfaceAddress, ...]) -> None:
        ips = frozenset(address.ip for address in addresses)
        if len(ips) < len(addresses):
            raise TopologyError(f"{self!r} would have an address twice: {[a.ip for a in addresses]}")
        for ip in sorted(ips) if segment is not None else ():
            owner = segment.members.get(ip) if segment is not None else None
            if owner is not None and owner is not self:
                raise TopologyError(f"{ip} is taken in {segment!r} by {owner!r}")
        if self.segment is not None:
            for ip in self.ips:
                self.segment.leave(ip, self)
        if segment is not None:
            for ip in sorted(ips):
                segment.join(ip, self)
        self.segment, self.addresses, self.ips = segment, addresses, ips

    def _known(self, ip: str) -> None:
        if ip not in self.ips:
            raise TopologyError(
                f"{self!r} has no address {ip}, it has {', '.join(sorted(self.ips)) or 'none'}"
            )

    def _first(self, family: Family) -> str:
        for address in self.addresses:
            if Family.of(address.ip) is family:
                return address.ip
        raise TopologyError(f"{self!r} has no {family.name} address")

    def _changed(self, what: str) -> None:
        self.host.changed(f"{self.name} {what}")
