"""A router: its LAN, its uplink, and its NAT."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.interface import Interface
from netns_fixtures.nat import NatKind, flush_text, next_ports
from netns_fixtures.nat64.handle import Nat64
from netns_fixtures.node import Node
from netns_fixtures.ops import FlushConntrack, LoadRules, Op
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
    def upstream(self) -> Router | None:
        """The router that it is behind; None at the internet exchange."""
        return self.lab.routers[self.plan.upstream.name] if self.plan.upstream else None

    def renumber(self, subnet: str | None = None) -> None:
        """A new LAN subnet (or the next free one): the router and all hosts on it get new addresses."""
        with self.lab.changing():
            before = self.lan or self.lan6
            self.lab.apply(self.lab.topology.renumber_lan(self.plan, subnet))
            after = self.lan or self.lan6
            text = f"{self.name} renumbered its LAN {before} -> {after}"
            self.lab.log_event("renumbered", self.name, text, before=before, after=after)


@handle()
class Nat:
    """What a router does to addresses, and how that can change."""

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        self._lab = lab
        self._plan = plan

    @property
    def kind(self) -> NatKind:
        """none, open, moderate, strict or cgnat."""
        return self._plan.nat

    def rebind(self, address: bool = False) -> None:
        """Every flow gets a new outside port from now on, or with ``address`` comes from a new outside
        address.

        What a NAT does that restarts, or whose carrier re-assigns it. Flows under way break until their
        inside end sends again. Raises TopologyError on a router without NAT.
        """
        plan = self._require()
        with self._lab.changing():
            before = self._outside()
            ops = self._new_address() if address else self._new_ports()
            self._lab.apply([*ops, FlushConntrack(plan.node)])
            after = self._outside()
            text = f"{plan.name} NAT rebound {before} -> {after}"
            self._lab.log_event("nat_rebind", plan.name, text, before=before, after=after, address=address)

    def flush(self) -> None:
        """Forget every mapping and tracked flow; the same ports come back where they are free."""
        plan = self._require()
        text = flush_text(plan.nat)
        forget: list[Op] = [LoadRules(plan.node, text)] if text else []
        with self._lab.changing():
            self._lab.apply([*forget, FlushConntrack(plan.node)])
            self._lab.log_event("nat_flush", plan.name, f"{plan.name} NAT forgot all its mappings")

    def _new_ports(self) -> list[Op]:
        plan = self._plan
        assert plan.rules is not None
        plan.rules = replace(plan.rules, ports=next_ports(plan.rules.ports))
        return self._lab.topology.rules_ops(plan, replace=True)

    def _new_address(self) -> list[Op]:
        plan = self._plan
        assert plan.wan is not None
        pool = plan.wan.segment.v4
        if pool is None:
            raise TopologyError(f"{plan.name} has no IPv4 uplink to take another address from")
        ops = plan.wan.renumber_ops(pool.next_free())
        return ops + self._lab.topology.rules_ops(plan, replace=True) + self._lab.topology.sync_routes()

    def _outside(self) -> str:
        rules = self._plan.rules
        if rules is None:
            return ""
        return rules.outside if rules.ports is None else f"{rules.outside}:{rules.ports[0]}-{rules.ports[1]}"

    def _require(self) -> RouterPlan:
        if not self._plan.nat.translates:
            raise TopologyError(f"router {self._plan.name} has no NAT (nat='none')")
        return self._plan
