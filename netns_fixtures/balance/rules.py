"""What load balancers are, and the nftables text of all of one router's. Pure: nothing here touches the kernel.

A new flow to a balancer's address and port is translated to one of its backends (DNAT), chosen by a hash, at random
or in turn; connection tracking keeps it there. The mark of its connection says which backend it has, so that the
flows of one can be forgotten. Packets are marked as those of mapped ports are: a NAT's filter lets them pass.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netns_fixtures.balance.maglev import slots
from netns_fixtures.errors import TopologyError
from netns_fixtures.nat.text import LAN, PORT_MAPPED, called, hooked, table
from netns_fixtures.ops import LoadRules, Op

if TYPE_CHECKING:
    from netns_fixtures.plans import HostPlan, RouterPlan

TABLE = "inet balance"
#: Before the portal's redirect (-105) and a NAT's own chains (-100): the balancer's address is not theirs to judge.
_PRIORITY = "-110"
#: Before a NAT's: what stays inside the LAN must come back through the balancer.
_POST_PRIORITY = "90"
#: Connection marks of balanced flows: this, and the number of the backend. Nothing else in a lab marks connections.
MARK, MARK_MASK = 0x4C00_0000, 0xFF00_0000
#: More than any test needs; one rule chain each, and a name in each slot of the hash.
MAX_BACKENDS = 64
MAX_PORT = 65535


class BalanceBy(enum.StrEnum):
    """What decides where a new flow goes."""

    SOURCE = "source"
    """The client's address: all of its flows reach one backend, whatever its port."""
    FLOW = "flow"
    """The client's address and port, as network load balancers of clouds do: a rebound NAT mapping is another flow."""
    RANDOM = "random"
    """The kernel's dice; not repeated by the lab's seed."""
    ROUND_ROBIN = "round-robin"
    """One after the other."""


class BalanceProtocol(enum.StrEnum):
    """What is balanced."""

    UDP = "udp"
    TCP = "tcp"
    BOTH = "both"

    @property
    def match(self) -> str:
        """As nft says it."""
        return "{ tcp, udp }" if self is BalanceProtocol.BOTH else self.value


@dataclass(slots=True, eq=False)
class Backend:
    """A host behind a balancer. ``mark`` is of its flows; ``port`` None: the one that the client asked for."""

    host: HostPlan
    mark: int
    port: int | None = None

    def address(self, version: int, lan: str) -> str | None:
        """Its present address on the segment of that name."""
        plugs = (plug for plug in self.host.plugs.values() if plug.segment.name == lan)
        return next((ip for plug in plugs if (ip := plug.ip(version)) is not None), None)


@dataclass(slots=True, eq=False)
class BalancerPlan:
    """One balancer. ``addresses`` () : the router's own, as they are at the time; ``number`` is its own in the lab."""

    name: str
    number: int
    router: RouterPlan
    ports: tuple[int, ...]
    protocol: BalanceProtocol
    by: BalanceBy
    seed: int
    addresses: tuple[str, ...] = ()
    backends: list[Backend] = field(default_factory=list)
    #: Of each host that ever was behind it: one that comes back may still have flows.
    marks: dict[str, int] = field(default_factory=dict)

    def address(self, version: int) -> str | None:
        """What clients ask for."""
        assert self.router.wan is not None
        if not self.addresses:
            return self.router.wan.ip(version)
        return next((ip for ip in self.addresses if (":" in ip) == (version == 6)), None)

    def usable(self, version: int) -> list[tuple[Backend, str]]:
        """The backends that have an address of a family in the router's LAN, with it."""
        lan = self.router.lan.segment.name
        found = ((backend, backend.address(version, lan)) for backend in self.backends)
        return [(backend, ip) for backend, ip in found if ip is not None]


class Balancers:
    """All balancers of a lab, and what the routers were told of them."""

    def __init__(self) -> None:
        self.plans: list[BalancerPlan] = []
        self._marks = 0
        self._loaded: dict[int, str] = {}

    def mark(self, plan: BalancerPlan, host: str) -> int:
        """The mark of the flows of a host behind a balancer."""
        if host not in plan.marks:
            self._marks += 1
            plan.marks[host] = MARK | self._marks
        return plan.marks[host]

    def ops(self) -> list[Op]:
        """What routers must be told now: backends move, routers renumber. Called after every change."""
        if not self.plans:
            return []
        routers = {plan.router.node: plan.router for plan in self.plans}
        ops: list[Op] = []
        for node in routers:
            text = rules_text([plan for plan in self.plans if plan.router.node == node])
            if self._loaded.get(node) != text:
                self._loaded[node] = text
                ops.append(LoadRules(node, text))
        return ops


def rules_text(plans: Sequence[BalancerPlan]) -> str:
    """The ``nft -f`` text of one router: one transaction that replaces the table."""
    chains: list[str] = []
    entry: list[str] = []
    # A balancer with an address of its own comes before one at the router's, which might have the same port.
    for plan in sorted(plans, key=lambda plan: (not plan.addresses, plan.number)):
        for version in (4, 6):
            chains += _chains(plan, version)
            entry += _entry(plan, version)
    hairpin = f'iifname "{LAN}" oifname "{LAN}" ct mark & {MARK_MASK:#x} == {MARK:#x} masquerade'
    parts = (
        *chains,
        hooked("prerouting", "nat", _PRIORITY, *entry),
        hooked("postrouting", "nat", _POST_PRIORITY, hairpin),
    )
    return f"table {TABLE}\ndelete table {TABLE}\n" + table(TABLE, *parts) + "\n"


def check_ports(ports: int | Iterable[int]) -> tuple[int, ...]:
    """One port or several. Raises TopologyError."""
    found = (ports,) if isinstance(ports, int) else tuple(ports)
    for port in found:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= MAX_PORT:
            raise TopologyError(f"port={port!r}: a port is a number from 1 to {MAX_PORT}")
    if not found:
        raise TopologyError("port=(): a balancer needs a port, or several")
    return found


def _chains(plan: BalancerPlan, version: int) -> list[str]:
    usable = plan.usable(version)
    each = [
        called(_name(plan, version, backend), *_to_backend(plan, backend, ip, version))
        for backend, ip in usable
    ]
    return [
        *each,
        called(_name(plan, version), *_choice(plan, version, [backend for backend, _ip in usable])),
    ]


def _entry(plan: BalancerPlan, version: int) -> list[str]:
    ip = plan.address(version)
    if ip is None:
        return []
    key = "ip" if version == 4 else "ip6"
    ports = ", ".join(map(str, plan.ports))
    match = f"{key} daddr {ip} meta l4proto {plan.protocol.match} th dport {{ {ports} }}"
    return [f"{match} goto {_name(plan, version)}"]


def _to_backend(plan: BalancerPlan, backend: Backend, ip: str, version: int) -> tuple[str, ...]:
    port = "" if backend.port is None else f":{backend.port}"
    target = f"[{ip}]" if port and version == 6 else ip
    family = "ip" if version == 4 else "ip6"
    return (
        f"ct mark set {backend.mark:#x}",
        f"meta mark set meta mark | {PORT_MAPPED:#x}",
        f"meta l4proto {plan.protocol.match} dnat {family} to {target}{port}",
    )


def _choice(plan: BalancerPlan, version: int, backends: Sequence[Backend]) -> tuple[str, ...]:
    if not backends:
        # Nobody is behind it: silence, rather than whatever the router itself has at that port.
        return ("drop",)
    chains = {backend.host.name: _name(plan, version, backend) for backend in backends}
    if plan.by in (BalanceBy.SOURCE, BalanceBy.FLOW):
        key = "ip saddr" if version == 4 else "ip6 saddr"
        sport = " . th sport" if plan.by is BalanceBy.FLOW else ""
        shares = [chains[name] for name in slots(list(chains))]
        return (f"jhash {key}{sport} mod {len(shares)} seed {plan.seed:#x} vmap {_vmap(shares)}",)
    way = "random" if plan.by is BalanceBy.RANDOM else "inc"
    return (f"numgen {way} mod {len(chains)} vmap {_vmap(list(chains.values()))}",)


def _vmap(chains: Sequence[str]) -> str:
    return f"{{ {', '.join(f'{number} : goto {chain}' for number, chain in enumerate(chains))} }}"


def _name(plan: BalancerPlan, version: int, backend: Backend | None = None) -> str:
    own = "" if backend is None else f"_{backend.mark & ~MARK_MASK}"
    return f"b{plan.number}_v{version}{own}"
