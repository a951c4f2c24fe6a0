"""A host: interfaces that can be flipped, replugged and renumbered while code runs in it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netns_fixtures.addressing import parse_ip
from netns_fixtures.dhcp.host_handle import HostDhcp
from netns_fixtures.errors import HostFrozen, TopologyError
from netns_fixtures.interface import Interface
from netns_fixtures.messages import Freeze
from netns_fixtures.node import Node
from netns_fixtures.node_firewall import NodeFirewall
from netns_fixtures.ops import Op
from netns_fixtures.plug import Assigned, Plug
from netns_fixtures.router import Router
from netns_fixtures.topology import HostPlan
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

#: Room in front of metrics that have reached 1, and more than interfaces are ever switched in one test.
_STEP_BACK = 1000


@handle()
class Host(Node):
    """A host of a lab; made by ``lab.host()``. Where ``interface`` is None, its first one is meant."""

    def __init__(self, lab: Lab, plan: HostPlan) -> None:
        super().__init__(lab, plan.name, plan.node)
        self.plan = plan
        self.firewall = NodeFirewall(self, plan)
        self.interfaces = {name: Interface(lab, plug) for name, plug in plan.plugs.items()}
        self.dhcp = HostDhcp(lab, plan)
        self._is_frozen = False

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(f'{i.name}={i.ip or i.ip6}' for i in self.interfaces.values())}>"

    @property
    def ip(self) -> str:
        """Its first IPv4 address; "" where it has none."""
        return next((i.ip for i in self.interfaces.values() if i.ip), "")

    @property
    def ip6(self) -> str | None:
        """Its first global IPv6 address."""
        return next((i.ip6 for i in self.interfaces.values() if i.ip6), None)

    @property
    def link(self) -> Interface:
        """Its first interface."""
        return next(iter(self.interfaces.values()))

    def interface(self, name: str | None = None) -> Interface:
        """The interface of that name. Raises TopologyError naming those that exist."""
        if name is None:
            return self.link
        try:
            return self.interfaces[name]
        except KeyError:
            raise TopologyError(
                f"{self.name} has no interface {name!r}; it has {', '.join(self.interfaces)}"
            ) from None

    def replug(self, router: Router, interface: str | Interface | None = None) -> None:
        """Plug an interface into another router: new addresses, new default route, same index and MAC."""
        plug = self._plug(interface)
        if not isinstance(router, Router) or router.lab is not self.lab:
            raise TopologyError(f"{router!r} is no router of this lab")
        with self.lab.changing():
            before = plug.segment.name
            self.lab.apply(plug.replug_ops(router.plan.lan.segment))
            self._tell(
                plug, "replugged", f"replugged {before} -> {router.name}", before=before, after=router.name
            )
            self.lab.await_configured([plug])

    def renumber(self, interface: str | Interface | None = None, address: str | None = None) -> None:
        """A new address in the same subnet; the old one is gone.

        Without ``address`` the next free ones of both families; with one, only its family changes.
        Raises TopologyError for an address outside of the subnet, or taken.
        """
        plug = self._plug(interface)
        with self.lab.changing():
            before = [str(a) for a in plug.addresses]
            self.lab.apply(plug.renumber_ops(address))
            self.lab.await_configured([plug] if plug.dhcp is not None else [])
            after = [str(a) for a in plug.addresses]
            gone = " ".join(a for a in before if a not in after)
            new = " ".join(a for a in after if a not in before)
            self._tell(plug, "renumbered", f"renumbered {gone} -> {new}", before=before, after=after)

    def rotate_privacy_address(self, interface: str | Interface | None = None) -> None:
        """End the preferred lifetime of the temporary addresses now: the kernel makes new ones.

        What the kernel does by itself every ``Slaac.temporary_lifetime``. The old ones are deprecated: they work,
        and new connections take the new ones. Raises TopologyError where there are no temporary addresses.
        """
        plug = self._plug(interface)
        if self.plan.slaac is None or not self.plan.slaac.privacy:
            raise TopologyError(
                f"{self.name} has no temporary addresses; describe it with slaac=Slaac(privacy=True)"
            )
        with self.lab.changing():
            from netns_fixtures.ra.rotating import rotate  # it brings pyroute2, and most labs are static

            self.lab.ready()
            before, after = rotate(self.lab, plug)
            text = f"rotated its privacy address {' '.join(before)} -> {' '.join(after)}"
            self._tell(plug, "privacy_rotated", text, before=before, after=after)

    def add_address(self, address: str, interface: str | Interface | None = None) -> None:
        """Add "ip/prefix"; without a prefix the subnet's own. Raises TopologyError."""
        plug = self._plug(interface)
        with self.lab.changing():
            assigned = self._assigned(plug, address)
            self.lab.apply(plug.add_ops(assigned))
            self._tell(plug, "address_added", f"added {assigned}", address=str(assigned))

    def remove_address(self, ip: str, interface: str | Interface | None = None) -> None:
        """Remove an address. Raises TopologyError when the interface does not have it."""
        plug = self._plug(interface)
        wanted = str(parse_ip(ip.partition("/")[0]))
        address = next((a for a in plug.addresses if a.ip == wanted), None)
        if address is None:
            has = ", ".join(map(str, plug.addresses)) or "none"
            raise TopologyError(f"{self.name} {plug.name} does not have {ip}; it has {has}")
        with self.lab.changing():
            ops = plug.release_ops([address])
            # A route may go with the address that it was reached from; while another remains, it comes back.
            self.lab.apply(ops + (plug.default_ops() if plug.up else []))
            self._tell(plug, "address_removed", f"removed {address}", address=str(address))

    def set_default_route(self, interface: str | Interface) -> None:
        """Make this interface's default routes the best ones; those of the others stay behind it."""
        plug = self._plug(interface)
        with self.lab.changing():
            others = [p for p in self.plan.plugs.values() if p is not plug]
            best = min((p.metric for p in others if p.metric is not None), default=_STEP_BACK)
            ops: list[Op] = []
            if best <= 1:  # no room in front: the others step back
                ops = [
                    op for p in others if p.metric is not None for op in p.metric_ops(p.metric + _STEP_BACK)
                ]
                best += _STEP_BACK
            if plug.metric is None or plug.metric >= best:
                ops = plug.metric_ops(best - 1) + ops
            self.lab.apply(ops)
            self._tell(plug, "default_route", "has the default route now", metric=plug.metric)

    def drop_default_route(self, interface: str | Interface | None = None) -> None:
        """Take this interface's default routes away; addresses stay. ``set_default_route`` gives them back.

        What the time between an address and its gateway looks like. Does nothing where there are none.
        """
        plug = self._plug(interface)
        with self.lab.changing():
            if plug.metric is None:
                return
            ops = plug.remove_default_ops()
            plug.metric = None
            self.lab.apply(ops + plug.client_ops())
            self._tell(plug, "default_route", "lost its default route", metric=None)

    def set_metric(self, interface: str | Interface, metric: int) -> None:
        """Change the metric of an interface's default routes; lower wins. Raises TopologyError when taken."""
        plug = self._plug(interface)
        if metric < 1 or any(p.metric == metric for p in self.plan.plugs.values() if p is not plug):
            raise TopologyError(
                f"metric={metric!r}: use a number above 0 that no other interface of {self.name} has"
            )
        with self.lab.changing():
            if metric != plug.metric:
                self.lab.apply(plug.metric_ops(metric))
            self._tell(plug, "metric", f"has metric {metric} now", metric=metric)

    @property
    def is_frozen(self) -> bool:
        """Whether its processes are suspended."""
        return self._is_frozen

    def freeze(self) -> None:
        """Suspend every process of this host, daemons and children of children too; returns when all stand still.

        Its network goes on as the kernel's does: packets are acknowledged, queued in socket buffers, and dropped
        where those are full. Nothing can start here until :meth:`thaw` (HostFrozen). Sockets that the test process
        opened here with ``socket()`` are the test's own, and so is an endpoint that runs on them: it is not
        frozen; run it with ``popen``.
        """
        self._suspend(True)

    def thaw(self) -> None:
        """Let all processes go on; for them the time in between is one long pause."""
        self._suspend(False)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend every process during a block: ``with laptop.frozen(): ...``."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _suspend(self, frozen: bool) -> None:
        with self.lab.changing():
            number = self.lab.ready()
            # First: no program may start between the last look at the processes and the flag.
            before, self._is_frozen = self._is_frozen, frozen
            try:
                count, _fds = self.lab.request(Freeze(number, self.number, frozen))
            except BaseException:
                self._is_frozen = before
                raise
            for plug in self.plan.plugs.values():
                if plug.dhcp is not None:
                    plug.dhcp.frozen = frozen
            kind = "frozen" if frozen else "thawed"
            self.lab.log_event(kind, self.name, f"{self.name} {kind}: {count} processes", processes=count)

    def _check_awake(self) -> None:
        if self._is_frozen:
            raise HostFrozen(f"{self.name} is frozen: nothing can start there before {self.name}.thaw()")

    def _plug(self, interface: str | Interface | None) -> Plug:
        return (interface if isinstance(interface, Interface) else self.interface(interface)).plug

    def _assigned(self, plug: Plug, text: str) -> Assigned:
        ip, slash, _prefix = text.partition("/")
        parsed = parse_ip(ip)
        pool = plug.segment.pool(ip)
        inside = pool is not None and parsed in pool.network
        if not slash:
            if pool is None or not inside:
                raise TopologyError(
                    f"{text} is outside of {self.name}'s subnet; write it with its prefix length"
                )
            return Assigned(pool.reserve(ip), pool.prefixlen, leased=False)
        try:
            prefixlen = ipaddress.ip_interface(text).network.prefixlen
        except ValueError as error:
            raise TopologyError(f"{text!r} is no address such as '192.168.1.77/24': {error}") from None
        if pool is not None and inside:
            pool.reserve(ip)
        return Assigned(str(parsed), prefixlen, leased=False)

    def _tell(self, plug: Plug, kind: str, what: str, **data: object) -> None:
        self.lab.log_event(kind, self.name, f"{self.name} {plug.name} {what}", interface=plug.name, **data)
