"""Our own direct addresses, and the moment to tell them (PROTOCOL.md 5.8, without traps 5 and 21 of 14)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from iroh_py.network import Addr, Family, NetworkState
from iroh_py.proto import netstate
from iroh_py.proto.netcheck.report import Report
from iroh_py.proto.netcheck.run import NetcheckRun

#: Addresses told at most: what a peer accepts from one CallMeMaybe (magicsock).
MAX_ADDRESSES = 40
#: Reports without an answer of a family that an address of ours survives: probes get lost.
GRACE_REPORTS = 1
#: With one family's answer in hand, the other's gets twice the best latency, at most this long, in seconds.
GRACE = 0.1
#: Without any answer our addresses are told so long after the run began: peers wait for them.
PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class WayOut:
    """How packets of a family leave: what our public address, and a port mapping, depend on.

    ``interface`` is 0 if there is no way; ``generation`` counts how often its link came up; ``macs`` are
    those of the gateways, as far as they are known.
    """

    interface: int = 0
    generation: int = 0
    ips: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()

    def same_as(self, other: WayOut) -> bool:
        """Whether both lead by the same router; a MAC that was only just learnt makes no difference."""
        if self.macs and other.macs and self.macs != other.macs:
            return False
        return replace(self, macs=()) == replace(other, macs=())


def way_out(state: NetworkState, family: Family) -> WayOut:
    """The way of the kernel's choice."""
    index = next(iter(netstate.egress(state, family)), None)
    interface = None if index is None else state.interface(index)
    if interface is None:
        return WayOut()
    routes = [r for r in state.routes if r.interface == index and r.family is family and r.is_default]
    gateways = tuple(sorted({route.gateway for route in routes if route.gateway}))
    ips = sorted(a.ip for a in interface.addresses if Family.of(a.ip) is family and not a.deprecated)
    macs = sorted(mac for ip, mac in state.gateways if ip in gateways and mac)
    return WayOut(interface.index, interface.generation, tuple(ips), gateways, tuple(macs))


class OwnAddresses:
    """What we know of our own public addresses, across reports."""

    def __init__(self) -> None:
        self._globals: dict[Family, Addr] = {}
        self._misses: dict[Family, int] = {}
        self._seen: dict[Family, dict[Addr, Addr]] = {}
        self._varies: bool | None = None
        self._ways: dict[Family, WayOut] = {}

    def handle_network(self, state: NetworkState) -> None:
        """Our network changed: a public address lives as long as the way out that it belongs to."""
        for family in Family:
            way = way_out(state, family)
            if not way.same_as(self._ways.get(family, way)):
                self._globals.pop(family, None)
                self._seen.pop(family, None)
                if family is Family.V4:
                    self._varies = None
            self._ways[family] = way

    def handle_answer(self, report: Report) -> None:
        """Some probes of a run were answered; the report may be unfinished."""
        for family in Family:
            answers = {s: m for s, m in report.mapped.items() if Family.of(m[0]) is family}
            if answers:
                self._misses[family] = 0
                if not self._confirms(family, answers):
                    self._globals[family] = next(iter(answers.values()))
                self._seen[family] = self._seen.get(family, {}) | answers
        if report.mapping_varies_by_dest_ip is not None:
            self._varies = report.mapping_varies_by_dest_ip

    def _confirms(self, family: Family, answers: dict[Addr, Addr]) -> bool:
        """Whether these answers leave our address as it was.

        Behind a NAT that maps by destination every server sees another address: only a server that sees another
        one than before means a change.
        """
        if family not in self._globals:
            return False
        if self._globals[family] in answers.values():
            return True
        before = self._seen.get(family, {})
        known = {server: mapped for server, mapped in answers.items() if server in before}
        return bool(known) and all(before[server] == mapped for server, mapped in known.items())

    def handle_report(self, report: Report) -> None:
        """A run is finished: a family that did not answer loses its address after a grace."""
        self.handle_answer(report)
        for family in Family:
            if family in self._globals and report.global_addr(family) is None:
                self._misses[family] = self._misses.get(family, 0) + 1
                if self._misses[family] > GRACE_REPORTS:
                    del self._globals[family]

    def mapping_varies(self, local: Iterable[Addr], local_port: int | None) -> bool | None:
        """Whether our NAT gives IPv4 another port per destination; None if that cannot be told.

        One STUN server is enough to say no: where our own address or port comes back, nothing chose another one (a NAT
        that draws ports hits ours once in 64512 times).
        """
        seen = self._globals.get(Family.V4)
        if self._varies is not None or seen is None:
            return self._varies
        untouched = seen[1] == local_port or any(ip == seen[0] for ip, _ in local)
        return False if untouched else None

    def assemble(
        self, *, mapped: Addr | None, local: Iterable[Addr], local_port: int | None
    ) -> tuple[Addr, ...]:
        """All our addresses, the most useful ones first, each once, at most 40.

        ``mapped`` is the port mapping's, ``local`` those of the interfaces, ``local_port`` the IPv4 socket's:
        where the mapping varies, a router with a static forwarding may still use that port.
        """
        v4, v6 = self._globals.get(Family.V4), self._globals.get(Family.V6)
        guess = (v4[0], local_port) if v4 is not None and self._varies and local_port else None
        found = [addr for addr in (mapped, v4, guess, v6, *local) if addr is not None]
        return tuple(dict.fromkeys(found))[:MAX_ADDRESSES]


class Publication:
    """When, during one run, our addresses are told: as soon as they are as good as they get.

    At the first answers of all families in use; else a short grace after the first one; else after a second,
    with what is known. ``wanted`` are the families in use.
    """

    def __init__(self, now: float, wanted: Iterable[Family]) -> None:
        self._wanted = tuple(wanted)
        self._latest = now + PATIENCE
        self.done = False

    def due(self, run: NetcheckRun) -> float:
        """The time from which on to tell them; the past if it is overdue."""
        if run.finished or all(run.settled(family) for family in self._wanted):
            return run.started
        if run.answered_at is None:
            return self._latest
        latency = run.best_latency
        grace = GRACE if latency is None else min(2 * latency, GRACE)
        return min(run.answered_at + grace, self._latest)
