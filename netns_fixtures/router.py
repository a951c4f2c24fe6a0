"""A router: its LAN, its uplink, and its NAT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netns_fixtures.dhcp.handle import DhcpService
from netns_fixtures.interface import Interface
from netns_fixtures.nat.handle import Nat
from netns_fixtures.nat64.handle import Nat64
from netns_fixtures.node import Node
from netns_fixtures.node_firewall import NodeFirewall
from netns_fixtures.portal import CaptivePortal
from netns_fixtures.portmap.handle import PortMapping
from netns_fixtures.prefixes import OldPrefix, renumber_prefix_ops, retire_prefixes_ops
from netns_fixtures.ra.handle import RouterAdvertisements
from netns_fixtures.renumbering import renumber_lan_ops
from netns_fixtures.topology import RouterPlan
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab


@handle()
class Router(Node):
    """A router of a lab; made by ``lab.router()``."""

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        super().__init__(lab, plan.name, plan.node)
        assert plan.wan is not None
        self.plan = plan
        self.nat = Nat(lab, plan)
        self.nat64 = Nat64(plan.nat64) if plan.nat64 else None
        self.firewall = NodeFirewall(self, plan)
        self.portal = CaptivePortal(self, self.firewall)
        self.port_mapping = PortMapping(lab, plan)
        self.dhcp = DhcpService(lab, plan)
        self.ra = RouterAdvertisements(lab, plan) if plan.lan.segment.ra else None
        self.uplink = Interface(lab, plan.wan)
        self.downlink = Interface(lab, plan.lan)
        self.interfaces = {"wan": self.uplink, "lan": self.downlink}

    def __repr__(self) -> str:
        return f"<Router {self.name} nat={self.nat.kind} {self.ip or self.ip6} lan {self.lan or self.lan6}>"

    @property
    def ip(self) -> str:
        """The IPv4 address of its uplink: what the outside sees behind a NAT; "" where that is IPv6 only."""
        return self.uplink.ip or ""

    @property
    def ip6(self) -> str | None:
        """The global IPv6 address of its uplink."""
        return self.uplink.ip6

    @property
    def lan(self) -> str:
        """The IPv4 subnet of its LAN, "192.168.1.0/24"; "" where that is IPv6 only."""
        pool = self.plan.lan.segment.v4
        return str(pool.network) if pool else ""

    @property
    def lan6(self) -> str | None:
        """The IPv6 subnet of its LAN."""
        pool = self.plan.lan.segment.v6
        return str(pool.network) if pool else None

    @property
    def lan6_local(self) -> str | None:
        """The IPv6 subnet of local addresses that its LAN has besides, or only."""
        pool = self.plan.lan.segment.ula
        only = self.plan.prefixes is not None and self.plan.prefixes.local_only
        return str(pool.network) if pool else self.lan6 if only else None

    @property
    def outside6(self) -> str | None:
        """The prefix that the world sees instead of the LAN's own, with NPTv6."""
        prefixes = self.plan.prefixes
        return str(prefixes.outside) if prefixes and prefixes.outside else None

    @property
    def upstream(self) -> Router | None:
        """The router that it is behind; None at the internet exchange."""
        return self.lab.routers[self.plan.upstream.name] if self.plan.upstream else None

    def pmtu_blackhole(self, on: bool = True) -> None:
        """The same as ``firewall.pmtu_blackhole``."""
        self.firewall.pmtu_blackhole(on)

    def captive_portal(self, *, status: int = 302, location: str = "", reject: bool = False) -> CaptivePortal:
        """Switch its captive portal on, and return it: see ``CaptivePortal.enable``. Raises TopologyError."""
        self.portal.enable(status=status, location=location, reject=reject)
        return self.portal

    def renumber(self, subnet: str | None = None) -> None:
        """A new LAN subnet (or the next free one): the router and all hosts on it get new addresses."""
        with self.lab.changing():
            before = self.lan or self.lan6
            self.lab.apply(renumber_lan_ops(self.lab.topology, self.plan, subnet))
            after = self.lan or self.lan6
            text = f"{self.name} renumbered its LAN {before} -> {after}"
            self.lab.log_event("renumbered", self.name, text, before=before, after=after)
            self._await_lan()

    def renumber_prefix(self, old: OldPrefix = "routed") -> None:
        """Another global IPv6 prefix for the LAN, told to the hosts by advertisement.

        ``old``, the prefix so far: "routed": deprecated, and works until :meth:`retire_prefix`; "deprecated": at
        the same time it is dead; "silent": dead, and nobody is told (flash renumbering, RFC 8978). Addresses of
        it stay on hosts with SLAAC until they expire; other hosts get a new one for the old one. With NPTv6 only
        the outside prefix changes. Raises TopologyError.
        """
        with self.lab.changing():
            before = self.outside6 or self.lan6
            self.lab.apply(renumber_prefix_ops(self.lab.topology, self.plan, old))
            after = self.outside6 or self.lan6
            text = f"{self.name} renumbered its prefix {before} -> {after} (the old one: {old})"
            self.lab.log_event("prefix_renumbered", self.name, text, before=before, after=after, old=old)
            self._await_lan()

    def retire_prefix(self) -> None:
        """Prefixes of earlier renumberings are no longer routed or advertised. Raises TopologyError."""
        with self.lab.changing():
            self.lab.apply(retire_prefixes_ops(self.lab.topology, self.plan))
            self.lab.log_event("prefix_retired", self.name, f"{self.name} retired its old prefixes")

    def _await_lan(self) -> None:
        segment = self.plan.lan.segment
        self.lab.await_configured(plug for plug in self.lab.topology.plugs() if plug.segment is segment)
