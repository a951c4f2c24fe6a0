"""``router.nat``: what a router does to addresses, and how that changes while a lab runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat.config import NatConfig, NatPorts
from netns_fixtures.nat.presets import nat_config, nat_label
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

    def rebind(self, address: bool = False) -> None:
        """Every flow gets a new outside port from now on, or with ``address`` comes from a new outside
        address.

        What a NAT does that restarts, or whose carrier re-assigns it. Flows under way break until their
        inside end sends again. Raises TopologyError on a router without NAT, and where its ports cannot change.
        """
        plan = self._require()
        if plan.nat.ports == NatPorts.OVERLOAD and not address:
            raise TopologyError(f"{plan.name} has ports='overload': those never change; use address=True")
        with self._lab.changing():
            before = self._outside()
            ops = self._new_address() if address else self._new_ports()
            self._lab.apply([*ops, FlushConntrack(plan.node)])
            after = self._outside()
            text = f"{plan.name} NAT rebound {before} -> {after}"
            self._lab.log_event("nat_rebind", plan.name, text, before=before, after=after, address=address)

    def change(self, nat: str | NatConfig) -> None:
        """Behave otherwise from now on; every mapping and flow is forgotten, as by a restart.

        Raises TopologyError for an unknown name, and between "none" and a NAT: that would need other addresses.
        """
        plan, config = self._require(), nat_config(nat)
        if not config.translates:
            raise TopologyError(
                f"router {plan.name} cannot become one without NAT: its LAN has inside addresses"
            )
        with self._lab.changing():
            before, plan.nat, plan.kind = plan.kind, config, nat_label(nat)
            assert plan.rules is not None
            plan.rules = replace(plan.rules, config=config)
            ops = self._lab.topology.rules_ops(plan, replace=True)
            settings = SetSysctls(plan.node, sysctls(config, reset=True), needed=True)
            self._lab.apply([*ops, settings, FlushConntrack(plan.node)])
            text = f"{plan.name} NAT changed {before} -> {plan.kind}"
            self._lab.log_event("nat_change", plan.name, text, before=before, after=plan.kind)

    def flush(self) -> None:
        """Forget every mapping and tracked flow.

        With ``ports="preserve"`` free ports come back the same, until the first :meth:`rebind`: after that no
        NAT keeps ports.
        """
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
        if self._plan.rules is None:
            raise TopologyError(f"router {self._plan.name} has no NAT: it has no IPv4 to translate")
        return self._plan
