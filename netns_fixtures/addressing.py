"""Who gets which address. Pure data: counters and subnets, the same for every lab with the same description.

===================  =====================================================================================
the exchange         203.0.113.0/24 (TEST-NET-3) and 2001:db8::/64; the exchange itself is .1 and ::1, the
                     lab's name server .53 and ::53
LAN behind a NAT     192.168.1.0/24, 192.168.2.0/24, ... then 10.0.0.0/24, 10.0.1.0/24, ...
LAN without NAT      198.18.1.0/24, 198.18.2.0/24, ... (RFC 2544), routed by the exchange
carrier's LAN        100.64.1.0/24, ... (RFC 6598)
IPv6                 2001:db8:1::/64, 2001:db8:2::/64, ... per LAN, routed
local IPv6           fd00:db8:1::/64, fd00:db8:2::/64, ... where asked for (RFC 4193), routed nowhere
===================  =====================================================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TypeVar

from netns_fixtures.errors import TopologyError

IPv4Network = ipaddress.IPv4Network
IPv6Network = ipaddress.IPv6Network
Network = IPv4Network | IPv6Network
_N = TypeVar("_N", IPv4Network, IPv6Network)

EXCHANGE_V4 = IPv4Network("203.0.113.0/24")
EXCHANGE_V6 = IPv6Network("2001:db8::/64")
#: The lab's name server, at the exchange.
NAME_SERVER_V4, NAME_SERVER_V6 = "203.0.113.53", "2001:db8::53"
ULA = IPv6Network("fd00:db8::/64")
#: Between a carrier and its customers (RFC 6598).
CARRIER_V4 = IPv4Network("100.64.0.0/10")

#: Hosts start here, as behind many home routers; below is room for routers and for addresses set by hand.
FIRST_HOST = 10
#: Enough for one segment of a lab, also in an IPv6 /64.
_LAST_HOST = 65534


@dataclass(slots=True)
class AddressPool:
    """The addresses of one subnet. The router has number 1; hosts get the next number never used before.

    A released address is only handed out again when all others were used: a renumbering must be a change.
    """

    network: Network
    used: set[int] = field(default_factory=lambda: {1})
    next: int = FIRST_HOST
    #: Numbers that a DHCP server gives out; nobody else does.
    served: range = range(0)

    @property
    def gateway(self) -> str:
        """The router's own address in this subnet."""
        return self.address(1)

    @property
    def prefixlen(self) -> int:
        """Prefix length in bits."""
        return self.network.prefixlen

    def address(self, number: int) -> str:
        """The address with this number in the subnet, canonical text."""
        return str(self.network[number])

    def allocate(self) -> str:
        """Take the next address. Raises TopologyError when the subnet is full."""
        ip = self.next_free()
        self.used.add(self._number(ip))
        return ip

    def next_free(self) -> str:
        """The next address that nobody has, not taken yet. Raises TopologyError when the subnet is full."""
        last = min(self.network.num_addresses - 2, _LAST_HOST)
        for _ in range(last):
            number = self.next
            self.next = number + 1 if number < last else FIRST_HOST
            if number not in self.used and number not in self.served and number <= last:
                return self.address(number)
        raise TopologyError(f"no free address left in {self.network}")

    def reserve(self, ip: str) -> str:
        """Take this very address. Raises TopologyError when it is outside the subnet or taken."""
        self.check_free(ip)
        self.used.add(self._number(ip))
        return str(parse_ip(ip))

    def check_free(self, ip: str) -> None:
        """Raise TopologyError when it is outside the subnet or taken."""
        if parse_ip(ip) not in self.network:
            raise TopologyError(f"{ip} is outside of {self.network}")
        if self._number(ip) in self.used:
            raise TopologyError(f"{ip} is already in use")
        if self._number(ip) in self.served:
            raise TopologyError(f"{ip} is in the range of the DHCP server; see DhcpConfig(first=, last=)")

    def release(self, ip: str) -> None:
        """Give an address back; one of another subnet is ignored."""
        if ipaddress.ip_address(ip) in self.network:
            self.used.discard(self._number(ip))

    def _number(self, ip: str) -> int:
        return int(ipaddress.ip_address(ip)) - int(self.network.network_address)


#: Private address space (RFC 1918): each home has its own, and many have the same.
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


class SubnetPlan:
    """Hands out subnets: one per LAN and family, never the same twice in a lab."""

    def __init__(self) -> None:
        self._taken: list[Network] = [EXCHANGE_V4, EXCHANGE_V6]
        self._private = _private_subnets()
        self._public = _subnets("198.18.0.0/15")
        self._carrier = _subnets("100.64.0.0/16")
        self._v6 = _subnets_v6(EXCHANGE_V6)
        self._ula = _subnets_v6(ULA)

    def private(self) -> IPv4Network:
        """The next LAN behind a NAT."""
        return self._next(self._private)

    def public(self) -> IPv4Network:
        """The next LAN that is routed on the internet of the lab."""
        return self._next(self._public)

    def carrier(self) -> IPv4Network:
        """The next network between a carrier's NAT and its customers."""
        return self._next(self._carrier)

    def v6(self) -> IPv6Network:
        """The next IPv6 LAN."""
        return self._next(self._v6)

    def ula(self) -> IPv6Network:
        """The next IPv6 LAN of addresses that are only local."""
        return self._next(self._ula)

    def claim(self, text: str, *, hidden: bool = False) -> IPv4Network:
        """A subnet chosen by the caller. Raises TopologyError: not one, too small, or overlapping another.

        ``hidden``: it is behind a NAT, where private subnets (RFC 1918) may be those of other homes, too.
        """
        try:
            network = IPv4Network(text)
        except ValueError as error:
            raise TopologyError(f"{text!r} is no IPv4 subnet such as '192.168.7.0/24': {error}") from None
        if network.num_addresses < 2 * FIRST_HOST:
            raise TopologyError(f"{text} is too small: hosts start at number {FIRST_HOST}")
        clash = next((t for t in self._taken if t.version == 4 and network.overlaps(t)), None)
        if clash is not None and not (hidden and _is_home_network(network) and _is_home_network(clash)):
            raise TopologyError(f"{text} overlaps {clash}, which this lab already uses")
        self._taken.append(network)
        return network

    def _next(self, source: Iterator[_N]) -> _N:
        for network in source:
            if not any(network.version == t.version and network.overlaps(t) for t in self._taken):
                self._taken.append(network)
                return network
        raise TopologyError("all subnets of this kind are used up")


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address text. Raises TopologyError."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise TopologyError(f"{text!r} is no IP address") from None


def mac_of(index: int) -> str:
    """A locally administered MAC address from a lab-unique interface index."""
    return f"02:00:00:{index >> 16 & 255:02x}:{index >> 8 & 255:02x}:{index & 255:02x}"


def _subnets(text: str, first: int = 1) -> Iterator[IPv4Network]:
    """The /24 networks of a range. The first is left out where people would take it for the range itself."""
    return islice(IPv4Network(text).subnets(new_prefix=24), first, None)


def _is_home_network(network: Network) -> bool:
    return isinstance(network, IPv4Network) and any(network.subnet_of(private) for private in _PRIVATE)


def _subnets_v6(base: IPv6Network) -> Iterator[IPv6Network]:
    return (IPv6Network((int(base.network_address) + (n << 80), 64)) for n in range(1, 65536))


def _private_subnets() -> Iterator[IPv4Network]:
    return chain(_subnets("192.168.0.0/16"), _subnets("10.0.0.0/8", 0))
