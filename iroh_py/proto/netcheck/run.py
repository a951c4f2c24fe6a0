"""One netcheck run: sends probes by a plan, collects answers, knows when it is done (PROTOCOL.md 5.4, 5.5).

Theory of operation. A run is fed with ``handle_*`` and leaves what shall be done in ``actions``; the driver
does it and arms one timer from ``next_timeout``. Each probe set waits for its relay's addresses, then sends
its attempts by the plan as long as they would still help; the first answer ends the set. Nobody needs to wait
for the end of a run: ``findings`` are valid at any moment, and the driver acts on each answer as it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from iroh_py.errors import StunError
from iroh_py.network import Addr, Family
from iroh_py.proto import stun
from iroh_py.proto.netcheck.plan import ENOUGH_RELAYS, ProbeKind, ProbeSet
from iroh_py.proto.netcheck.report import Findings, Report
from iroh_py.relay_map import RelayNode
from iroh_py.relay_url import RelayUrl

#: Probes that have no answer by then get none (5.2).
PROBES_TIMEOUT = 3.0
#: The end of everything: nothing that is still outstanding may hold a report up (5.2).
OVERALL_TIMEOUT = 5.0
#: When the captive portal check starts, and how long it may take (5.2).
PORTAL_DELAY = 0.2
PORTAL_TIMEOUT = 2.0
#: A packet to ourselves through the router takes no longer (5.2).
HAIRPIN_TIMEOUT = 0.1
#: When a failover run has an answer over TCP, other relays get so much longer, or three times what it took.
FAILOVER_GRACE = 0.3


class RandomBytes(Protocol):
    """The part of random.Random that is needed here."""

    def randbytes(self, n: int, /) -> bytes:
        """So many random bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find the addresses of a relay."""

    url: RelayUrl


@dataclass(frozen=True, slots=True)
class SendStun:
    """Send a STUN request from the endpoint's own socket of that family."""

    data: bytes
    addr: Addr


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure the round trip to a relay over HTTPS or ICMP, at one of these addresses."""

    kind: ProbeKind
    relay: RelayNode
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckPortal:
    """Ask a relay for ``/generate_204`` over plain HTTP."""

    relay: RelayNode
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendHairpin:
    """Send a STUN request from another socket to our own public address."""

    data: bytes
    addr: Addr


Action = Resolve | SendStun | Measure | CheckPortal | SendHairpin


class _Set:
    """A probe set under way."""

    __slots__ = ("base", "ips", "open", "over", "plan", "sent")

    def __init__(self, plan: ProbeSet) -> None:
        self.plan = plan
        #: When the relay's addresses were known; delays count from there.
        self.base: float | None = None
        self.ips: tuple[str, ...] = ()
        self.sent = 0
        self.open = 0
        self.over = False

    @property
    def due(self) -> float | None:
        """When the next attempt starts."""
        if self.over or self.base is None or self.sent >= len(self.plan.delays):
            return None
        return self.base + self.plan.delays[self.sent]


class NetcheckRun:
    """One report in the making.

    ``portal``: the relay asked about a captive portal, None for no such check. ``hairpin``: whether to test
    it. ``thorough``: wait for both even when UDP works. ``reachable(ip)``: whether there is a route; probes
    without one are skipped and named in the report. ``failover``: relays are asked over TCP, whatever STUN
    says.
    """

    def __init__(
        self,
        now: float,
        plan: Sequence[ProbeSet],
        *,
        rng: RandomBytes,
        full: bool,
        portal: RelayNode | None = None,
        hairpin: bool = False,
        thorough: bool = False,
        failover: bool = False,
        reachable: Callable[[str], bool] = lambda ip: True,
    ) -> None:
        self.started = now
        self.full = full
        self.failover = failover
        self.findings = Findings()
        self.actions: deque[Action] = deque()
        self.finished = False
        self.answered_at: float | None = None
        self._rng = rng
        self._sets = [_Set(one) for one in plan]
        self._relays = {one.relay.url: one.relay for one in plan}
        self._waiting = set(self._relays)
        self._stun: dict[bytes, tuple[_Set, Addr, float]] = {}
        self._reachable = reachable
        self._thorough = thorough
        self._enough_at: float | None = None
        self._portal = portal
        self._portal_at: float | None = None if portal is None else now + PORTAL_DELAY
        self._portal_until: float | None = None
        self._portal_ips: tuple[str, ...] = ()
        self._hairpin = hairpin
        self._hairpin_tx: bytes | None = None
        self._hairpin_until: float | None = None
        self.actions += [Resolve(url) for url in self._relays]
        if not self._sets:
            self.handle_timeout(now)

    # --- what happens ---

    def handle_addresses(self, now: float, url: RelayUrl, ips: Iterable[str]) -> None:
        """A relay's addresses are known; probes to it begin now."""
        addresses = tuple(ips)
        self._waiting.discard(url)
        if self._portal is not None and self._portal.url == url:
            self._portal_ips = addresses
        for one in self._sets:
            if one.plan.relay.url == url and one.base is None:
                self._begin(now, one, addresses)
        self.handle_timeout(now)

    def handle_unresolved(self, now: float, url: RelayUrl, reason: str) -> None:
        """A relay's name does not resolve."""
        self._waiting.discard(url)
        self.findings.note(reason)
        for one in self._sets:
            if one.plan.relay.url == url and one.base is None:
                one.over = True
        self.handle_timeout(now)

    def handle_stun(self, now: float, data: bytes, source: Addr) -> bool:
        """A STUN message arrived on our socket; whether it was for this run."""
        if self._hairpin_tx is not None and data[8:20] == self._hairpin_tx and data[:2] == b"\0\1":
            self._end_hairpin(works=True)
            self.handle_timeout(now)
            return True
        try:
            tx_id, mapped = stun.parse_response(data)
        except StunError:
            return False
        sent = self._stun.pop(tx_id, None)
        if sent is None or sent[1][1] != source[1]:
            return False
        one, server, at = sent
        self._answered(now, one, now - at)
        if self.answered_at is None:
            self.answered_at = now
        self.findings.handle_mapped(server, mapped)
        self._start_hairpin(now)
        self.handle_timeout(now)
        return True

    def handle_latency(self, now: float, url: RelayUrl, kind: ProbeKind, seconds: float) -> None:
        """A probe by HTTPS or ICMP was answered."""
        one = self._find(url, kind)
        if one is None or self.finished:
            return
        if kind.is_icmp and kind.family is not None:
            self.findings.icmp[kind.family] = True
            self.findings.can_send.add(kind.family)
        if kind is ProbeKind.HTTPS:
            self.findings.https_ok.add(url)
        self._answered(now, one, seconds)
        if self.failover and kind is ProbeKind.HTTPS and self._enough_at is None:
            self._enough_at = now + max(FAILOVER_GRACE, 3 * (now - self.started))
        self.handle_timeout(now)

    def handle_failure(self, now: float, url: RelayUrl, kind: ProbeKind, reason: str, *, final: bool) -> None:
        """An attempt by HTTPS or ICMP failed; ``final``: the others of its set would fail likewise."""
        one = self._find(url, kind)
        if one is None or self.finished or one.over:
            return
        self.findings.note(reason)
        one.open -= 1
        if final or (one.open <= 0 and one.sent >= len(one.plan.delays)):
            one.over = True
            if kind.is_icmp and kind.family is not None and not final:
                self.findings.icmp.setdefault(kind.family, False)
        self.handle_timeout(now)

    def handle_sent(self, family: Family) -> None:
        """A STUN request of this family was taken by the system."""
        self.findings.can_send.add(family)

    def handle_portal(self, now: float, portal: bool | None, reason: str = "") -> None:
        """The captive portal check ended; None: it could not be made."""
        if self.finished:
            return
        self.findings.captive_portal = portal
        if reason:
            self.findings.note(reason)
        self._portal_at = self._portal_until = None
        self.handle_timeout(now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self.finished:
            return
        if self._portal_at is not None and now >= self._portal_at and self._portal_ips:
            self._check_portal(now)
        if self._portal_until is not None and now >= self._portal_until:
            self._portal_until = None
            self.findings.note("the captive portal check got no answer")
        if self._hairpin_until is not None and now >= self._hairpin_until:
            self._end_hairpin(works=False)
        for one in self._sets:
            while (due := one.due) is not None and now >= due:
                self._attempt(now, one)
        if (self._enough_at is not None and now >= self._enough_at) or now >= self.started + PROBES_TIMEOUT:
            for one in self._sets:
                one.over = True
        self.finished = now >= self.started + OVERALL_TIMEOUT or self._all_over()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next; None when finished."""
        if self.finished:
            return None
        probing = any(not one.over for one in self._sets)
        times = [
            self.started + (PROBES_TIMEOUT if probing else OVERALL_TIMEOUT),
            self._enough_at if probing else None,
            self._portal_at if self._portal_ips else None,
            self._portal_until,
            self._hairpin_until,
            *(one.due for one in self._sets),
        ]
        return min(t for t in times if t is not None)

    # --- what others ask ---

    def settled(self, family: Family) -> bool:
        """Whether our address of this family is known, or will not become known any more in this run."""
        if family in self.findings.globals:
            return True
        kind = ProbeKind.STUN4 if family is Family.V4 else ProbeKind.STUN6
        return all(one.over for one in self._sets if one.plan.kind is kind)

    @property
    def best_latency(self) -> float | None:
        """Seconds to the nearest relay so far."""
        return min(self.findings.latency.values(), default=None)

    def report(self, now: float) -> Report:
        """What is known so far."""
        return self.findings.report(started=self.started, finished=now, full=self.full)

    # --- probes ---

    def _begin(self, now: float, one: _Set, addresses: tuple[str, ...]) -> None:
        family = one.plan.kind.family
        own = [ip for ip in addresses if family is None or Family.of(ip) is family]
        one.ips = tuple(ip for ip in own if self._reachable(ip))
        if own and not one.ips:
            self.findings.note(f"no route to {own[0]}")
        one.over = not one.ips
        one.base = now

    def _attempt(self, now: float, one: _Set) -> None:
        kind, relay = one.plan.kind, one.plan.relay
        if not self._would_help(one):
            one.over = True
            return
        one.sent += 1
        if not kind.is_stun:
            one.open += 1
            self.actions.append(Measure(kind, relay, one.ips))
            return
        assert relay.stun_port is not None, "the plan asks no relay without STUN"
        tx_id = self._rng.randbytes(stun.TX_ID_SIZE)
        # A later attempt tries the next address, if the relay has several of one family.
        addr = (one.ips[(one.sent - 1) % len(one.ips)], relay.stun_port)
        self._stun[tx_id] = (one, addr, now)
        self.actions.append(SendStun(stun.encode_request(tx_id), addr))

    def _would_help(self, one: _Set) -> bool:
        found, kind = self.findings, one.plan.kind
        if one.plan.always or one.plan.relay.url not in found.latency:
            return True
        if kind is ProbeKind.STUN4:
            return Family.V4 not in found.globals or Family.V4 not in found.varies
        return kind is ProbeKind.STUN6 and not found.family_latency[Family.V6]

    def _answered(self, now: float, one: _Set, seconds: float) -> None:
        one.over = True
        found = self.findings
        found.handle_latency(one.plan.relay.url, one.plan.kind.family, seconds)
        # Without a UDP answer yet, a slow one is worth waiting for: it alone tells our address.
        wanted = min(len(self._relays), ENOUGH_RELAYS)
        if len(found.latency) >= wanted and found.udp | one.plan.kind.is_stun and not self.failover:
            end = now + max(found.latency.values()) * (2 if self.full else 1)
            self._enough_at = end if self._enough_at is None else min(end, self._enough_at)

    def _find(self, url: RelayUrl, kind: ProbeKind) -> _Set | None:
        return next((s for s in self._sets if s.plan.relay.url == url and s.plan.kind is kind), None)

    # --- the rest ---

    def _check_portal(self, now: float) -> None:
        assert self._portal is not None
        self._portal_at = None
        self._portal_until = now + PORTAL_TIMEOUT
        self.actions.append(CheckPortal(self._portal, self._portal_ips))

    def _start_hairpin(self, now: float) -> None:
        addr = self.findings.globals.get(Family.V4)
        if not self._hairpin or addr is None:
            return
        self._hairpin = False
        self._hairpin_tx = self._rng.randbytes(stun.TX_ID_SIZE)
        self._hairpin_until = now + HAIRPIN_TIMEOUT
        self.actions.append(SendHairpin(stun.encode_request(self._hairpin_tx), addr))

    def _end_hairpin(self, *, works: bool) -> None:
        self.findings.hair_pinning = works
        self._hairpin_tx = self._hairpin_until = None

    def _all_over(self) -> bool:
        if self._waiting or any(not one.over for one in self._sets):
            return False
        if self._hairpin_until is not None:
            return False
        if self.findings.udp and not self._thorough:
            return True
        pending = self._portal_at is not None and bool(self._portal_ips)
        return not pending and self._portal_until is None
