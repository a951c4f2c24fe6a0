"""What a netcheck found out (PROTOCOL.md 5.1), and how single answers are merged into it (5.5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iroh_py.addr import format_addr
from iroh_py.network import Addr, Family
from iroh_py.relay_url import RelayUrl

#: Remarks kept per report; a report is read by people.
MAX_NOTES = 32


@dataclass(frozen=True, slots=True)
class PortmapProbe:
    """Which port mapping protocols the router answered."""

    upnp: bool = False
    pcp: bool = False
    nat_pmp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The network as seen at ``finished`` (seconds on the network's clock). None everywhere means unknown.

    Latencies are seconds, the least of this report per relay. ``notes`` say in words what was skipped or went
    wrong, and why.
    """

    started: float
    finished: float
    full: bool
    #: Some STUN answer arrived.
    udp: bool = False
    #: An answer told an address of that family.
    ipv4: bool = False
    ipv6: bool = False
    #: A probe of that family could be handed to the system.
    ipv4_can_send: bool = False
    ipv6_can_send: bool = False
    os_has_ipv6: bool = False
    icmpv4: bool | None = None
    icmpv6: bool | None = None
    mapping_varies_by_dest_ip: bool | None = None
    mapping_varies_by_dest_ipv6: bool | None = None
    hair_pinning: bool | None = None
    portmap_probe: PortmapProbe | None = None
    preferred_relay: RelayUrl | None = None
    relay_latency: Mapping[RelayUrl, float] = field(default_factory=dict)
    relay_v4_latency: Mapping[RelayUrl, float] = field(default_factory=dict)
    relay_v6_latency: Mapping[RelayUrl, float] = field(default_factory=dict)
    #: Relays that answered over TCP, so that a home relay among them would work.
    https_ok: frozenset[RelayUrl] = frozenset()
    global_v4: Addr | None = None
    global_v6: Addr | None = None
    #: Our address as each STUN server sees it, by the server's address.
    mapped: Mapping[Addr, Addr] = field(default_factory=dict)
    captive_portal: bool | None = None
    notes: tuple[str, ...] = ()

    def global_addr(self, family: Family) -> Addr | None:
        """Our public address of a family."""
        return self.global_v4 if family is Family.V4 else self.global_v6

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON; addresses as ``ip:port``, latencies in seconds."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("global_v4", "global_v6"):
            values[name] = None if values[name] is None else format_addr(values[name])
        for name in ("relay_latency", "relay_v4_latency", "relay_v6_latency"):
            values[name] = {str(url): seconds for url, seconds in sorted(values[name].items())}
        probe = self.portmap_probe
        values["portmap_probe"] = None if probe is None else dataclasses.asdict(probe)
        values["preferred_relay"] = None if self.preferred_relay is None else str(self.preferred_relay)
        values["https_ok"] = sorted(map(str, self.https_ok))
        values["mapped"] = {format_addr(server): format_addr(addr) for server, addr in self.mapped.items()}
        values["notes"] = list(self.notes)
        return values


class Findings:
    """A report in the making: answers are merged as they arrive."""

    def __init__(self) -> None:
        self.udp = False
        self.can_send: set[Family] = set()
        self.icmp: dict[Family, bool] = {}
        self.varies: dict[Family, bool] = {}
        self.globals: dict[Family, Addr] = {}
        self.latency: dict[RelayUrl, float] = {}
        self.family_latency: dict[Family, dict[RelayUrl, float]] = {Family.V4: {}, Family.V6: {}}
        self.https_ok: set[RelayUrl] = set()
        self.captive_portal: bool | None = None
        self.hair_pinning: bool | None = None
        self.portmap_probe: PortmapProbe | None = None
        self.os_has_ipv6 = False
        self.notes: dict[str, None] = {}
        self.mapped: dict[Addr, Addr] = {}
        self._servers: dict[Family, Addr] = {}

    def handle_latency(self, url: RelayUrl, family: Family | None, seconds: float) -> None:
        """A relay answered any kind of probe."""
        tables = [self.latency] if family is None else [self.latency, self.family_latency[family]]
        for table in tables:
            table[url] = min(seconds, table.get(url, seconds))

    def handle_mapped(self, server: Addr, mapped: Addr) -> None:
        """A STUN server told from which address it sees us.

        Only different servers prove that the mapping depends on the destination: another answer of the same
        one means that the NAT was rebound meanwhile.
        """
        self.udp = True
        self.mapped[server] = mapped
        family = Family.of(mapped[0])
        known, first = self.globals.get(family), self._servers.get(family)
        if known is None or first is None or (first == server and mapped != known):
            self.globals[family], self._servers[family] = mapped, server
            return
        if server != first and mapped != known:
            self.varies[family] = True
        elif server[0] != first[0]:
            self.varies.setdefault(family, False)

    def note(self, text: str) -> None:
        """Remember something for people to read."""
        if len(self.notes) < MAX_NOTES:
            self.notes[text] = None

    def report(self, *, started: float, finished: float, full: bool) -> Report:
        """What is known so far, as a report without a preferred relay."""
        return Report(
            started=started,
            finished=finished,
            full=full,
            udp=self.udp,
            ipv4=Family.V4 in self.globals,
            ipv6=Family.V6 in self.globals,
            ipv4_can_send=Family.V4 in self.can_send,
            ipv6_can_send=Family.V6 in self.can_send,
            os_has_ipv6=self.os_has_ipv6,
            icmpv4=self.icmp.get(Family.V4),
            icmpv6=self.icmp.get(Family.V6),
            mapping_varies_by_dest_ip=self.varies.get(Family.V4),
            mapping_varies_by_dest_ipv6=self.varies.get(Family.V6),
            hair_pinning=self.hair_pinning,
            portmap_probe=self.portmap_probe,
            relay_latency=dict(self.latency),
            relay_v4_latency=dict(self.family_latency[Family.V4]),
            relay_v6_latency=dict(self.family_latency[Family.V6]),
            https_ok=frozenset(self.https_ok),
            global_v4=self.globals.get(Family.V4),
            global_v6=self.globals.get(Family.V6),
            mapped=dict(self.mapped),
            captive_portal=self.captive_portal,
            notes=tuple(self.notes),
        )
