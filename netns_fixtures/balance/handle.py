"""``lab.balancer()``: what a test holds of a load balancer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from netns_fixtures.addressing import AddressPool, parse_ip
from netns_fixtures.balance.rules import (
    MAX_BACKENDS,
    Backend,
    BalanceBy,
    BalanceProtocol,
    BalancerPlan,
    check_ports,
)
from netns_fixtures.errors import TopologyError
from netns_fixtures.host import Host
from netns_fixtures.ops import FlushConntrack, Op
from netns_fixtures.plug import Assigned
from netns_fixtures.router import Router
from netns_fixtures.tracked import tracked_flows
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

By = Literal["source", "flow", "random", "round-robin"]
Protocol = Literal["udp", "tcp", "both"]


@dataclass(frozen=True, slots=True)
class BalancedFlow:
    """A flow that a balancer keeps at a backend: the client's address and port as the balancer sees them."""

    protocol: str
    client: tuple[str, int]
    backend: str


@handle()
class Balancer:
    """A load balancer on a router; made by ``lab.balancer()``. Every verb is an event of the lab.

    New flows go to the backends that it has; one that is known stays where it is, as long as connection tracking
    remembers it (UDP: 30 s after the last packet, 120 s once both ends have sent; TCP: until it is closed). It
    does not look whether backends are alive: that is :meth:`take_out`.
    """

    def __init__(self, lab: Lab, plan: BalancerPlan) -> None:
        self._lab = lab
        self._plan = plan

    def __repr__(self) -> str:
        ports = ",".join(map(str, self._plan.ports))
        at = self.ip or self.ip6
        return f"<Balancer {self.name} {self._plan.protocol} {at}:{ports} -> {', '.join(self.backends) or 'nobody'}>"

    @property
    def name(self) -> str:
        """Its name in the lab."""
        return self._plan.name

    @property
    def router(self) -> Router:
        """Where it is."""
        return self._lab.routers[self._plan.router.name]

    @property
    def ip(self) -> str:
        """The IPv4 address that clients ask for; "" where it has none."""
        return self._plan.address(4) or ""

    @property
    def ip6(self) -> str | None:
        """The IPv6 address that clients ask for."""
        return self._plan.address(6)

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that it listens at."""
        return self._plan.ports

    @property
    def backends(self) -> tuple[str, ...]:
        """The names of the hosts that new flows go to."""
        return tuple(backend.host.name for backend in self._plan.backends)

    def add(self, host: Host, port: int | None = None) -> None:
        """One more backend, or one that is back; ``port``: where it listens, None: at the port asked for.

        Flows that are known stay where they are. Raises TopologyError.
        """
        with self._lab.changing():
            self._lab.ready()
            self._plan.backends.append(checked_backend(self._lab, self._plan, host, port))
            self._lab.apply([])
            self._tell("backend_added", f"{self.name} leads to {host.name}, too", host)

    def take_out(self, host: Host, flows: Literal["keep", "move"] = "keep") -> None:
        """No new flow goes to this backend.

        ``flows``: those that it has are kept until they end ("keep": it drains), or forgotten ("move": the next
        packet of each goes to another backend, which knows nothing of it). With none left, packets are dropped.
        Raises TopologyError.
        """
        if flows not in ("keep", "move"):
            raise TopologyError(f"flows={flows!r}: it is 'keep' or 'move'")
        with self._lab.changing():
            backend = self._backend(host)
            self._lab.ready()
            self._plan.backends.remove(backend)
            # First the rules, then the flows: a packet in between would go back to where it was.
            self._lab.apply([])
            if flows == "move":
                self._lab.apply(self._forget(backend))
            what = "keeps its flows" if flows == "keep" else "loses its flows"
            self._tell("backend_removed", f"{self.name} took out {host.name}, which {what}", host)

    def flows(self) -> tuple[BalancedFlow, ...]:
        """The flows that it knows now. Raises OSError where the kernel does not list them."""
        with self._lab.changing():
            self._lab.ready()
            tracked = tracked_flows(self._lab, self._plan.router.node)
        asked = {(ip, port) for ip in (self.ip, self.ip6) if ip for port in self.ports}
        owners = {
            ip: name
            for name, host in self._lab.hosts.items()
            for plug in host.plan.plugs.values()
            for ip in (assigned.ip for assigned in plug.addresses)
        }
        return tuple(
            BalancedFlow(flow.protocol, flow.source, owners.get(flow.answer[0], flow.answer[0]))
            for flow in tracked
            if flow.target in asked and flow.answer != flow.target
        )

    def _forget(self, backend: Backend) -> list[Op]:
        return [FlushConntrack(self._plan.router.node, backend.mark)]

    def _backend(self, host: Host) -> Backend:
        for backend in self._plan.backends:
            if backend.host is getattr(host, "plan", None):
                return backend
        name = getattr(host, "name", repr(host))
        raise TopologyError(
            f"{name} is not behind {self.name}; it leads to {', '.join(self.backends) or 'nobody'}"
        )

    def _tell(self, kind: str, text: str, host: Host) -> None:
        data = {"balancer": self.name, "backend": host.name, "backends": list(self.backends)}
        self._lab.log_event(kind, self._plan.router.name, text, **data)


@handle(also=("balancer",))
class BalancerVerbs:
    """What a lab can do with load balancers. A part of Lab."""

    balancers: dict[str, Balancer]

    def balancer(
        self,
        name: str,
        router: Router,
        backends: Sequence[Host],
        port: int | Sequence[int],
        *,
        address: str | Sequence[str] = (),
        protocol: Protocol = "udp",
        by: By = "source",
        backend_port: int | None = None,
    ) -> Balancer:
        """A load balancer on a router, for hosts in its LAN.

        ``address``: of its own, in the subnet of the router's uplink, one or one of each family; else it listens at the
        router's. ``port``: one, or several that lead to the same ports; ``backend_port`` is another one, for one port.
        ``protocol``: "udp", "tcp" or "both". ``by``: "source" (the client's address decides), "flow" (address and
        port), "random", "round-robin". Raises TopologyError.
        """
        lab = cast("Lab", self)
        with lab.describing():
            ports = check_ports(port)
            if not isinstance(router, Router) or router.lab is not lab:
                raise TopologyError(f"{router!r} is no router of this lab; make one with lab.router(name)")
            if backend_port is not None and len(check_ports(backend_port) + ports) > 2:
                raise TopologyError(f"backend_port={backend_port}: several ports cannot all lead to one")
            if router.plan.nat.exact:
                raise TopologyError(
                    f"router {router.name} keeps its mappings by itself ({router.nat.kind}): "
                    "a balancer needs one with a preset, or nat='none'"
                )
            topology = lab.topology
            topology.check_name(name)
            plan = BalancerPlan(
                name,
                len(topology.balancers.plans) + 1,
                router.plan,
                ports,
                _parse(BalanceProtocol, "protocol", protocol),
                _parse(BalanceBy, "by", by),
                lab.wire_seed(name, "balancer") & 0xFFFF_FFFF,
                _addresses(address),
            )
            _check_free(topology.balancers.plans, plan)
            for host in backends:
                plan.backends.append(checked_backend(lab, plan, host, backend_port))
            topology.pending += _address_ops(topology.balancers.plans, plan)
            topology.balancers.plans.append(plan)
            made = self.balancers[name] = Balancer(lab, plan)
            if lab.is_built:
                lab.apply([])
                text = f"{name} balances at {router.name}: {', '.join(made.backends) or 'nobody yet'}"
                lab.log_event(
                    "balancer_added", router.name, text, balancer=name, backends=list(made.backends)
                )
            return made


def checked_backend(lab: Lab, plan: BalancerPlan, host: Host, port: int | None) -> Backend:
    """A host as one more backend. Raises TopologyError."""
    if not isinstance(host, Host) or host.lab is not lab:
        raise TopologyError(f"{host!r} is no host of this lab; make one with lab.host(name, uplink=...)")
    if any(backend.host is host.plan for backend in plan.backends):
        raise TopologyError(f"{host.name} is behind {plan.name} already")
    if len(plan.backends) >= MAX_BACKENDS:
        raise TopologyError(f"{plan.name} has {MAX_BACKENDS} backends already; that is the most")
    lan = plan.router.lan.segment
    if not any(plug.segment is lan for plug in host.plan.plugs.values()):
        raise TopologyError(
            f"{host.name} is not in the LAN of {plan.router.name}: its answers would not come back through {plan.name}"
        )
    if port is not None:
        check_ports(port)
    return Backend(host.plan, lab.topology.balancers.mark(plan, host.name), port)


def _parse(kind: type[BalanceProtocol] | type[BalanceBy], name: str, value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise TopologyError(f"{name}={value!r}: it is one of {', '.join(kind)}") from None


def _addresses(address: str | Sequence[str]) -> tuple[str, ...]:
    given = (address,) if isinstance(address, str) else tuple(address)
    found = tuple(str(parse_ip(ip)) for ip in given)
    if len({":" in ip for ip in found}) < len(found):
        raise TopologyError(f"address={address!r}: one address, or one of each family")
    return found


def _check_free(others: Sequence[BalancerPlan], plan: BalancerPlan) -> None:
    for other in others:
        same = other.router is plan.router and set(other.addresses) & set(plan.addresses)
        if same or (other.router is plan.router and not other.addresses and not plan.addresses):
            both = {other.protocol, plan.protocol}
            ports = set(other.ports) & set(plan.ports)
            if ports and (len(both) == 1 or BalanceProtocol.BOTH in both):
                raise TopologyError(f"{other.name} has port {min(ports)} of that address already")


def _address_ops(others: Sequence[BalancerPlan], plan: BalancerPlan) -> list[Op]:
    """Give the router the balancer's own addresses; several balancers of a router may share one."""
    wan = plan.router.wan
    assert wan is not None
    shared = {ip for other in others if other.router is plan.router for ip in other.addresses}
    new = [ip for ip in plan.addresses if ip not in shared]
    taken: list[tuple[AddressPool, str]] = []
    for ip in new:
        pool = wan.segment.pool(ip)
        try:
            if pool is None:
                raise TopologyError(f"{ip}: the uplink of {plan.router.name} has no addresses of that family")
            taken.append((pool, pool.reserve(ip)))
        except TopologyError:
            for pool, before in taken:
                pool.release(before)
            raise
    return [op for pool, ip in taken for op in wan.add_ops(Assigned(ip, pool.prefixlen, leased=False))]
