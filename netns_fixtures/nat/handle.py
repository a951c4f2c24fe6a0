"""``router.nat``: what a router does to addresses, and how that changes while a lab runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat.config import NatConfig, NatPorts
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.pool import check_addresses, claim_ops
from netns_fixtures.nat.presets import NatKind, nat_config, nat_label
from netns_fixtures.nat.reading import NatBinding, kept_flows, mappings
from netns_fixtures.nat.rules import flush_text, next_ports, sysctls
from netns_fixtures.ops import FlushConntrack, LoadRules, Op, SetSysctls
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.topology import RouterPlan


@handle()
class Nat:
    """What a router does to addresses, and how that can change. ``router.nat``."""

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        self._lab = lab
        self._plan = plan

    @property
    def kind(self) -> str:
        """The name that it was made by ("moderate"); of a NatConfig its axes in a line."""
        return self._plan.kind

    @property
    def config(self) -> NatConfig:
        """What it does, by the axes of RFC 4787."""
        return self._plan.nat

    def rebind(self, address: bool = False, keep_flows: bool = False) -> None:
        """Every flow gets a new outside port from now on, or with ``address`` comes from a new outside
        address.

        What a NAT does that restarts, or whose carrier re-assigns it. Flows under way break until their
        inside end sends again; with ``keep_flows`` they live on as they are, and only what is new is mapped anew,
        also new flows of the same socket. Raises TopologyError on a router without NAT, and where its ports
        cannot change.
        """
        plan = self._require()
        if plan.nat.ports == NatPorts.OVERLOAD and not address:
            raise TopologyError(f"{plan.name} has ports='overload': those never change; use address=True")
        with self._lab.changing():
            before = self._outside()
            kept = kept_flows(self._lab, plan) if keep_flows and plan.nat.exact else ()
            ops: list[Op] = [] if keep_flows else self._forget()
            ops += self._new_address(kept, keep=keep_flows) if address else self._new_ports(kept)
            self._lab.apply(ops if keep_flows else [*ops, FlushConntrack(plan.node)])
            after = self._outside()
            what = "new flows" if keep_flows else "NAT"
            text = f"{plan.name} {what} rebound {before} -> {after}"
            data = {"before": before, "after": after, "address": address, "keep_flows": keep_flows}
            self._lab.log_event("nat_rebind", plan.name, text, **data)

    def change(self, nat: str | NatConfig) -> None:
        """Behave otherwise from now on; every mapping and flow is forgotten, as by a restart.

        Raises TopologyError for an unknown name, and between "none" and a NAT: that would need other addresses.
        """
        plan, config = self._require(), nat_config(nat)
        if not config.translates:
            raise TopologyError(
                f"router {plan.name} cannot become one without NAT: its LAN has inside addresses"
            )
        if nat == NatKind.CGNAT and plan.kind != NatKind.CGNAT:
            raise TopologyError(
                "'cgnat' is a router behind a carrier's: describe it with lab.router(nat='cgnat')"
            )
        if config.exact and any(each.router is plan for each in self._lab.topology.balancers.plans):
            raise TopologyError(f"router {plan.name} has a load balancer: it needs a NAT with a preset")
        assert plan.rules is not None
        assert plan.wan is not None
        own = tuple(address.ip for address in plan.wan.addresses)
        check_addresses(plan.name, config, plan.wan.segment, own)
        with self._lab.changing():
            before, plan.nat, plan.kind = plan.kind, config, nat_label(nat)
            plan.rules = replace(plan.rules, config=config)
            ops = claim_ops(plan) + self._lab.topology.rules_ops(plan, replace=True)
            ops += self._lab.topology.sync_routes()
            settings = SetSysctls(plan.node, sysctls(config, reset=True), needed=True)
            self._lab.apply([*self._forget(), *ops, settings, FlushConntrack(plan.node)])
            text = f"{plan.name} NAT changed {before} -> {plan.kind}"
            self._lab.log_event("nat_change", plan.name, text, before=before, after=plan.kind)

    def mappings(self) -> tuple[NatBinding, ...]:
        """What it remembers now: each UDP mapping, and each TCP connection, with the seconds that it has left.

        Where mappings are connection tracking's own ("strict", ``ports="overload"``), there is one for each flow.
        Raises TopologyError on a router without NAT, OSError where the kernel does not list them.
        """
        plan = self._require()
        with self._lab.changing():
            return mappings(self._lab, plan)

    def flush(self) -> None:
        """Forget every mapping and tracked flow.

        With ``ports="preserve"`` free ports come back the same, until the first :meth:`rebind`: after that no
        NAT keeps ports.
        """
        plan = self._require()
        assert plan.rules is not None
        text = flush_text(plan.rules)
        empty: list[Op] = [LoadRules(plan.node, text)] if text else []
        with self._lab.changing():
            self._lab.apply([*self._forget(), *empty, FlushConntrack(plan.node)])
            self._lab.log_event("nat_flush", plan.name, f"{plan.name} NAT forgot all its mappings")

    def _new_ports(self, kept: tuple[KeptFlow, ...]) -> list[Op]:
        plan = self._plan
        assert plan.rules is not None
        plan.rules = replace(plan.rules, ports=next_ports(plan.rules.ports))
        return self._lab.topology.rules_ops(plan, replace=True, kept=kept)

    def _new_address(self, kept: tuple[KeptFlow, ...], *, keep: bool) -> list[Op]:
        plan = self._plan
        assert plan.wan is not None
        pool = plan.wan.segment.v4
        if pool is None:
            raise TopologyError(f"{plan.name} has no IPv4 uplink to take another address from")
        if keep:
            before = (plan.wan.ip(4), *(address.ip for address in plan.pool))
            ops = plan.wan.relet_ops(pool.next_free())
            plan.former += [a for a in plan.wan.addresses if a.ip in before]
        else:
            ops = plan.wan.renumber_ops(pool.next_free())
        ops += self._lab.topology.rules_ops(plan, replace=True, kept=kept)
        return ops + self._lab.topology.sync_routes()

    def _forget(self) -> list[Op]:
        """Give up the outside addresses that only kept flows had."""
        plan = self._plan
        assert plan.wan is not None
        gone = [a for a in plan.former if a in plan.wan.addresses]
        plan.former.clear()
        return plan.wan.release_ops(gone)

    def _outside(self) -> str:
        rules = self._plan.rules
        if rules is None:
            return ""
        outsides = ", ".join(rules.outsides)
        return outsides if rules.ports is None else f"{outsides}:{rules.ports[0]}-{rules.ports[1]}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its outside addresses now, the router's own first; none without NAT."""
        rules = self._plan.rules
        return rules.outsides if rules is not None and self._plan.nat.translates else ()

    def _require(self) -> RouterPlan:
        if not self._plan.nat.translates:
            raise TopologyError(f"router {self._plan.name} has no NAT (nat='none')")
        if self._plan.rules is None:
            raise TopologyError(f"router {self._plan.name} has no NAT: it has no IPv4 to translate")
        return self._plan
