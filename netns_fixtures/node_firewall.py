"""The firewall of a node, and how it changes while code runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from netns_fixtures.errors import TopologyError
from netns_fixtures.firewall import Action, Block, Firewall, Ports, firewall_of
from netns_fixtures.firewall_rules import FirewallRules
from netns_fixtures.ops import FlushConntrack, LoadRules, Op, SplitFrames
from netns_fixtures.plug import FABRIC, Plug
from netns_fixtures.portal_rules import PortalRules
from netns_fixtures.sight import seen_addresses
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.node import Node
    from netns_fixtures.topology import HostPlan, RouterPlan

#: What becomes of flows under way when a firewall is set.
Established = Literal["cut", "keep"]
#: Who is blocked: a node of the lab by all its addresses, an address, or a network.
End = "Node | str"


@handle(but=("describe", "describe_portal", "set_portal"))
class NodeFirewall:
    """What a router forwards, or a host receives and sends: ``router.firewall``, ``host.firewall``.

    A router's judges what it forwards, not what is for itself. Each verb takes effect before it returns, and
    is an event of the lab.
    """

    def __init__(self, node: Node, plan: RouterPlan | HostPlan) -> None:
        self._node = node
        self._lab = node.lab
        self._plan = plan
        self._rules = FirewallRules(router=not hasattr(plan, "plugs"))
        self._loaded = False
        self._split = False

    def __repr__(self) -> str:
        return f"<Firewall of {self._node.name}: {self}>"

    def __str__(self) -> str:
        rules = self._rules
        parts = [str(rules.firewall)] if self._loaded else ["none"]
        parts += [f"blocking {block}" for block in rules.blocks]
        parts += ["PMTU black hole"] if rules.pmtu_blackhole else []
        return ", ".join(parts)

    @property
    def current(self) -> Firewall:
        """What was set last; an open one at first."""
        return self._rules.firewall

    @property
    def blocked(self) -> tuple[Block, ...]:
        """What :meth:`block` blocks now."""
        return self._rules.blocks

    @property
    def is_pmtu_blackhole(self) -> bool:
        """Whether errors about the size of packets vanish here."""
        return self._rules.pmtu_blackhole

    def set(
        self, firewall: str | Firewall, *, established: Established = "cut", reject: bool = False
    ) -> None:
        """Put a firewall in place of the one before: a preset's name, or a Firewall.

        ``established="cut"``: it applies to flows under way, too; "keep": those that the node knows go on,
        also where a new one would be blocked. ``reject``: it tells whom it refuses. Raises TopologyError.
        """
        wanted = firewall_of(firewall)
        wanted = wanted.rejecting() if reject else wanted
        if established not in ("cut", "keep"):
            raise TopologyError(f"established={established!r}: it is 'cut' or 'keep'")
        with self._lab.changing():
            keep = established == "keep"
            if keep and not self._tracks:
                raise TopologyError(
                    f"{self._node.name} keeps no track of flows so far, so there are none to keep; "
                    "give it firewall='open' from the start"
                )
            before = self._rules.firewall
            forget: list[Op] = []
            if not keep and wanted.blocks_unsolicited and not self._nat_filters:
                # Who began a flow is what the kernel remembers: let it ask anew.
                forget = [FlushConntrack(self._plan.node)]
            self._change(replace(self._rules, firewall=wanted, keep=keep), forget)
            kept = ", flows under way go on" if keep else ""
            text = f"{self._node.name} has the firewall {wanted} now{kept}"
            self._tell("firewall", text, before=str(before), after=str(wanted), established=established)

    def clear(self) -> None:
        """Let everything through again: the firewall, blocked pairs and the PMTU black hole are gone."""
        with self._lab.changing():
            before = str(self)
            self._change(FirewallRules(self._rules.router, portal=self._rules.portal))
            self._tell(
                "firewall_cleared", f"{self._node.name} cleared its firewall ({before})", before=before
            )

    def block(
        self,
        source: Node | str | None = None,
        destination: Node | str | None = None,
        *,
        protocol: str = "",
        ports: Sequence[Ports] = (),
        one_way: bool = False,
        reject: bool = False,
    ) -> None:
        """Let nothing through from ``source`` to ``destination`` (None: anyone), nor back, unless ``one_way``.

        Ends are nodes (by the addresses that they have now, as seen from here: behind a NAT its outside),
        addresses, or networks. ``protocol`` is "tcp", "udp" or "icmp"; ``ports`` are those of the
        destination. Beside the firewall that is set; flows under way are cut. Raises TopologyError.
        """
        with self._lab.changing():
            blocks = self._pair(source, destination, protocol, ports, one_way, "reject" if reject else "drop")
            new = tuple(block for block in blocks if block not in self._rules.blocks)
            self._change(replace(self._rules, blocks=(*self._rules.blocks, *new)))
            text = f"{self._node.name} blocks {_pair_text(source, destination, blocks[0], one_way)}"
            self._tell("blocked", text, blocks=[str(block) for block in blocks])

    def unblock(
        self,
        source: Node | str | None = None,
        destination: Node | str | None = None,
        *,
        protocol: str = "",
        ports: Sequence[Ports] = (),
        one_way: bool = False,
    ) -> None:
        """Take back what :meth:`block` did with the same arguments; without any, all of it.

        Raises TopologyError where it is not blocked.
        """
        with self._lab.changing():
            if source is None and destination is None and not protocol:
                self._change(replace(self._rules, blocks=()))
                self._tell("unblocked", f"{self._node.name} blocks no pairs any more")
                return
            gone: set[Block] = set()
            for action in ("drop", "reject"):
                gone |= set(self._pair(source, destination, protocol, ports, one_way, action))
            left = tuple(block for block in self._rules.blocks if block not in gone)
            if left == self._rules.blocks:
                has = "; ".join(map(str, self._rules.blocks)) or "nothing"
                raise TopologyError(f"{self._node.name} does not block that; it blocks {has}")
            self._change(replace(self._rules, blocks=left))
            block = next(iter(sorted(gone, key=str)))
            text = f"{self._node.name} lets through {_pair_text(source, destination, block, one_way)}"
            self._tell("unblocked", text)

    def pmtu_blackhole(self, on: bool = True) -> None:
        """Let ICMP errors about the size of packets vanish: fragmentation needed, packet too big (RFC 2923).

        In a router those that it makes and those that it forwards, in a host those that reach it.
        """
        with self._lab.changing():
            self._change(replace(self._rules, pmtu_blackhole=bool(on)))
            what = "is a PMTU black hole" if on else "is no PMTU black hole any more"
            self._tell("pmtu_blackhole", f"{self._node.name} {what}", on=bool(on))

    # -- for the lab and the portal

    def describe(self, firewall: str | Firewall) -> None:
        """From the start of a lab that is not built yet."""
        rules = replace(self._rules, firewall=firewall_of(firewall))
        self._lab.topology.pending += self._ops(rules)
        self._rules, self._loaded = rules, True

    def describe_portal(self, portal: PortalRules) -> None:
        """A captive portal's rules from the start of a lab that is not built yet."""
        rules = replace(self._rules, portal=portal)
        self._lab.topology.pending += self._ops(rules)
        self._rules, self._loaded = rules, True

    def set_portal(self, portal: PortalRules | None) -> None:
        """Put a captive portal's rules beside those of the firewall."""
        self._change(replace(self._rules, portal=portal))

    @property
    def _tracks(self) -> bool:
        nat = getattr(self._plan, "nat", None)
        return self._loaded or bool(nat is not None and nat.translates)

    @property
    def _nat_filters(self) -> bool:
        """Whether nothing can have been begun from outside: then a NAT's mappings need not suffer."""
        nat = getattr(self._plan, "nat", None)
        return bool(nat is not None and nat.filters)

    def _change(self, rules: FirewallRules, more: Iterable[Op] = ()) -> None:
        self._lab.apply([*self._ops(rules), *more])
        self._rules, self._loaded = rules, True

    def _ops(self, rules: FirewallRules) -> list[Op]:
        ops: list[Op] = []
        if rules.firewall.looks_at_size:
            self._check_sizes(rules)
            if not self._split:
                ops += [SplitFrames(FABRIC, plug.port_name) for plug in self._plugs()]
                self._split = True
        return [*ops, LoadRules(self._plan.node, rules.text())]

    def _check_sizes(self, rules: FirewallRules) -> None:
        if rules.router:
            return
        if any(block.longer_than and block.direction != "in" for block in rules.firewall.blocks):
            raise TopologyError(
                f"{self._node.name}: a host's firewall sees what it sends before it is cut into packets; "
                "say direction='in', or block by size in its router"
            )

    def _plugs(self) -> list[Plug]:
        plan = self._plan
        if hasattr(plan, "plugs"):
            return list(plan.plugs.values())
        return [plan.lan] + ([plan.wan] if plan.wan is not None else [])

    def _pair(
        self,
        source: Node | str | None,
        destination: Node | str | None,
        protocol: str,
        ports: Sequence[Ports],
        one_way: bool,
        action: Action,
    ) -> tuple[Block, ...]:
        if source is None and destination is None and not protocol:
            raise TopologyError("say whom to block: a source, a destination, or a protocol")
        there = Block(
            protocol=protocol,
            ports=tuple(ports),
            source=seen_addresses(self._node, source),
            destination=seen_addresses(self._node, destination),
            action=action,
        )
        return (there,) if one_way else (there, there.reversed())

    def _tell(self, kind: str, text: str, **data: object) -> None:
        self._lab.log_event(kind, self._node.name, text, **data)


def _pair_text(source: Node | str | None, destination: Node | str | None, block: Block, one_way: bool) -> str:
    arrow = "->" if one_way else "<->"
    ends = [
        end if isinstance(end, str) else "anyone" if end is None else end.name
        for end in (source, destination)
    ]
    rest = str(replace(block, source=(), destination=()))
    return f"{ends[0]} {arrow} {ends[1]}" + ("" if rest == "all" else f" ({rest})")
