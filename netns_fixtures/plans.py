"""What is described of one node: a router with its NAT and LAN, a host with its interfaces. Pure data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.nat import NatConfig, NatKind
from netns_fixtures.nat.rules import NatRules
from netns_fixtures.nat64.plan import Nat64Plan
from netns_fixtures.plug import Assigned, Plug
from netns_fixtures.prefixes import LanPrefixes
from netns_fixtures.ra.config import Slaac


@dataclass(slots=True, eq=False)
class RouterPlan:
    """A router: its uplink ``wan``, its ``lan``, and its NAT. The exchange is one with only a ``lan``."""

    name: str
    node: int
    nat: NatConfig
    lan: Plug
    wan: Plug | None = None
    upstream: RouterPlan | None = None
    rules: NatRules | None = None
    nat64: Nat64Plan | None = None
    #: Outside addresses of flows that outlived a rebind, besides the present one.
    former: list[Assigned] = field(default_factory=list)
    #: The outside addresses of the NAT besides the first, see ``nat/pool.py``.
    pool: list[Assigned] = field(default_factory=list)
    #: The NAT by name.
    kind: str = NatKind.NONE
    #: Bytes of the largest packet that it forwards; None: what its interfaces carry.
    mtu: int | None = None
    #: None without an IPv6 LAN.
    prefixes: LanPrefixes | None = None


@dataclass(slots=True, eq=False)
class HostPlan:
    """A host and its interfaces, in the order of their metrics."""

    name: str
    node: int
    plugs: dict[str, Plug] = field(default_factory=dict)
    slaac: Slaac | None = None
    dhcp: DhcpClient | None = None

    @property
    def leased_nameservers(self) -> tuple[str, ...]:
        """The name servers that its leases name, in the order of the interfaces."""
        clients = (plug.dhcp for plug in self.plugs.values())
        leases = (client.lease for client in clients if client is not None)
        return tuple(dict.fromkeys(ip for lease in leases if lease is not None for ip in lease.dns))


def ancestors(router: RouterPlan | None) -> Iterator[RouterPlan]:
    """A router and all above it, up to the exchange."""
    while router is not None:
        yield router
        router = router.upstream
