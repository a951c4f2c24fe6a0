"""Segments: where addresses are known. The Internet is one, each LAN is one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from iroh_py.network import Family, InterfaceAddress
from iroh_py.testing.errors import TopologyError

if TYPE_CHECKING:
    from iroh_py.testing.interface import SimInterface
    from iroh_py.testing.nat import SimNat

#: The first host number that is given out automatically; those below are for the reader of a test to choose.
_FIRST_HOST = 10


class Segment:
    """Who has which address here, and the NAT that leads out (none for the Internet)."""

    def __init__(self, name: str, mac: str, prefixes: dict[Family, str], owner: SimNat | None = None) -> None:
        self.name = name
        #: Of the gateway, which is how a host tells this network from another with the same addresses.
        self.mac = mac
        self.owner = owner
        self.nats: list[SimNat] = []
        self.members: dict[str, SimInterface | SimNat] = {}
        self._prefixes = prefixes

    def __repr__(self) -> str:
        return f"<Segment {self.name}>"

    def find(self, ip: str) -> SimInterface | SimNat | None:
        """The next node on the way down to an address: its owner, a NAT that has or routes it, or None."""
        member = self.members.get(ip)
        if member is not None:
            return member
        return next((nat for nat in self.nats if nat.routes(ip)), None)

    def join(self, ip: str, node: SimInterface | SimNat) -> None:
        """Take an address. Raises TopologyError if somebody else here has it."""
        owner = self.members.setdefault(ip, node)
        if owner is not node:
            raise TopologyError(f"{ip} is taken in {self.name} by {owner!r}")

    def leave(self, ip: str, node: SimInterface | SimNat) -> None:
        """Give an address back."""
        if self.members.get(ip) is node:
            del self.members[ip]

    def gateway(self, address: InterfaceAddress) -> str:
        """The gateway for an address: .1 of a LAN, .254 on the Internet, fe80::1 for IPv6."""
        if Family.of(address.ip) is Family.V6:
            return "fe80::1"
        network = ipaddress.ip_network(f"{address.ip}/{address.prefixlen}", strict=False)
        return str(network.network_address + (1 if self.owner is not None else 254))

    def free_address(self, family: Family, prefix: str | None = None) -> str:
        """An address with prefix length that nobody here has yet, the lowest first."""
        network = ipaddress.ip_network(prefix or self._prefixes[family])
        for ip in self._hosts(network):
            if ip not in self.members:
                return f"{ip}/{network.prefixlen}"
        raise TopologyError(f"no address is left in {network} of {self.name}")

    def _hosts(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterator[str]:
        last = 254 if network.version == 4 else 65_535
        for number in range(_FIRST_HOST, last):
            yield str(network.network_address + number)


def parse_address(text: str) -> InterfaceAddress:
    """``ip`` or ``ip/prefixlen`` (/24 and /64 where it is left out). Raises TopologyError."""
    ip, _, length = text.partition("/")
    try:
        parsed = ipaddress.ip_address(ip)
        default = 24 if parsed.version == 4 else 64
        address = InterfaceAddress(str(parsed), int(length) if length else default)
        ipaddress.ip_network(f"{address.ip}/{address.prefixlen}", strict=False)
    except ValueError as error:
        raise TopologyError(f"{text!r} is not an address: {error}") from None
    return address
