"""Mappings and pinholes of one protocol, UDP or TCP, as sets and rules; ``exact`` has the theory. Pure.

TCP differs in its clock: a packet with SYN enters what is not there for the transitory time only, every other packet
enters and refreshes for the time of open connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from netns_fixtures.nat.config import TCP_TRANSITORY, NatConfig, NatFiltering, NatMapping
from netns_fixtures.nat.kept import KeptRules
from netns_fixtures.nat.quoted import delete_error, enter_error_rules, enter_plain, error_rules, option_chains
from netns_fixtures.nat.text import IS_PORT_MAPPED, LAN, WAN, any_of, called, dynamic, milliseconds

#: Zones have 16 bits; 0 is what everything else uses. Flows that outlive a rebind stay in those of their time:
#: a quarter for each generation.
_ZONES = 16000
#: How TCP says that a connection is not open yet, or not any more.
_NOT_OPEN, _OPEN = "tcp flags & (fin | syn | rst) != 0x0", "tcp flags & (fin | syn | rst) == 0x0"
#: Statements that enter, from: how what grows old is entered, what is idle, and a timeout for each ("": the set's own).
Entries = Callable[[str, str, str, str], str]
#: Parts of a mapping's key.
_PARTS = {NatMapping.EIM: 2, NatMapping.ADM: 3, NatMapping.APDM: 4}


def key_parts(mapping: NatMapping) -> int:
    """How many parts the key of a mapping has, of inside address, port, remote address, port."""
    return _PARTS[mapping]


def prefix_of(protocol: str) -> str:
    """What the names of a protocol's sets and chains begin with."""
    return "" if protocol == "udp" else f"{protocol}_"


@dataclass(frozen=True, slots=True)
class MappingRules:
    """``config`` speaks of this protocol (see ``NatConfig.tcp``)."""

    config: NatConfig
    protocol: str
    outsides: tuple[str, ...]
    generation: int
    kept: KeptRules

    def name(self, name: str) -> str:
        """The name of a set or chain of this protocol."""
        return prefix_of(self.protocol) + name

    @property
    def _is_tcp(self) -> bool:
        return self.protocol == "tcp"

    @property
    def _this(self) -> str:
        return f"meta l4proto {self.protocol}"

    def at(self, ip: str, port: str) -> str:
        """An outside end: the port, in a pool the address and the port."""
        return port if len(self.outsides) == 1 else f"{ip} . {port}"

    # -- keys: of the packet in raw, of a flow's original and reply direction, of a packet let in

    def _key(self, *parts: str) -> str:
        return " . ".join(parts[: _PARTS[NatMapping(self.config.mapping)]])

    @property
    def _sport(self) -> str:
        return f"{self.protocol} sport"

    @property
    def _dport(self) -> str:
        return f"{self.protocol} dport"

    @property
    def _sent(self) -> str:
        return self._key("ip saddr", self._sport, "ip daddr", self._dport)

    @property
    def _four(self) -> str:
        return f"ip saddr . {self._sport} . ip daddr . {self._dport}"

    @property
    def _crosses(self) -> bool:
        """By hairpin, TCP's answers are in the flow that they answer; those of UDP are flows of their own mapping."""
        return self.config.hairpin and self._is_tcp and self.config.mapping == NatMapping.EIM

    def _flow_key(self, way: str) -> str:
        return self._key(
            f"ct {way} ip saddr", f"ct {way} proto-src", f"ct {way} ip daddr", f"ct {way} proto-dst"
        )

    @property
    def _entering(self) -> str:
        return self._key("ip daddr", self._dport, "ip saddr", self._sport)

    @property
    def _arriving(self) -> str:
        return self.at("ip daddr", self._dport)

    # -- clocks

    @property
    def _grow(self) -> str:
        """How a packet enters a mapping: by age nothing refreshes it."""
        return "update" if self.config.lifetime is None else "add"

    @property
    def _touch(self) -> str:
        """How a packet enters what the idle clock runs for."""
        return "update" if self.config.lifetime is None or self.config.aging else "add"

    @property
    def _transitory(self) -> str:
        """The shorter time, of what the idle clock runs for."""
        seconds = min(self.config.tcp_transitory or TCP_TRANSITORY, self.config.idle)
        return f" timeout {milliseconds(seconds)}"

    def in_use_sets(self) -> list[str]:
        """A port is in use while it is in all of these."""
        return [self.name("taken")] + ([self.name("awake")] if self.config.aging else [])

    def alive(self, at: str) -> str:
        """Matches where an outside end is in use."""
        return " ".join(f"{at} @{name}" for name in self.in_use_sets())

    # -- sets

    def sets(self) -> list[str]:
        """Their declarations."""
        config, n = self.config, self.name
        life = config.lifetime or config.idle
        key = self._key("ipv4_addr", "inet_service", "ipv4_addr", "inet_service")
        at = self.at("ipv4_addr", "inet_service")
        sets = [
            dynamic(f"set {n('known')}", f"type {key}", config.idle),
            dynamic(f"map {n('zones_out')}", f"typeof {self._sent} : ct zone", life),
            dynamic(f"set {n('mapped')}", f"type {key}", life),
            dynamic(f"map {n('out')}", f"type {key} : ipv4_addr . inet_service", life),
            dynamic(f"set {n('taken')}", f"type {at}", life),
            dynamic(f"map {n('ext')}", f"type {at} : ipv4_addr . inet_service", life),
            dynamic(f"map {n('zones_in')}", f"typeof {self._arriving} : ct zone", life),
            # "ip id" is a bare number of 16 bits
            dynamic(f"map {n('errors')}", f"typeof {self.at('ip daddr', 'ip id')} : ct zone", life),
        ]
        if config.aging:
            sets.append(dynamic(f"set {n('awake')}", f"type {at}", config.idle))
        if config.filters:
            remote = self._remote("ip saddr", self._sport)
            sets.append(dynamic(f"set {n('permit')}", f"typeof ct zone . {remote}", config.idle))
        if config.filters and config.hairpin:
            pair = at if config.filtering == NatFiltering.ADF else f"{at} . {at}"
            sets.append(dynamic(f"set {n('opened')}", f"type {pair}", config.idle))
        if self._crosses:
            sets.append(dynamic(f"map {n('across')}", f"typeof {self._four} : ct zone", config.idle))
        return sets + self.kept.sets()

    def _remote(self, address: str, port: str) -> str:
        return address if self.config.filtering == NatFiltering.ADF else f"{address} . {port}"

    # -- chains

    def chains(self) -> list[str]:
        """Those that others jump to."""
        chains = [called(self.name("answer"), *self._answer()), called(self.name("teach"), *self._teach())]
        if self._is_tcp:
            chains.append(called(self.name("zones_of"), *self.zones_out()))
        return option_chains(self.name("options"), self.name("errors"), self.at) + chains

    def known_outside(self) -> str:
        """The rule by which a mapping stays what it is."""
        return f"{self._this} snat to {self._flow_key('original')} map @{self.name('out')}"

    def learn(self) -> list[str]:
        """After translation."""
        kept = self.kept.learn(enter_plain("update", self.name("errors"), self.at))
        teach = f"jump {self.name('teach')}"
        rules = [*kept, f'oifname "{WAN}" {self._this} {teach}']
        if self.config.hairpin:
            to_us = f"ct original ip daddr {any_of(self.outsides)}"
            rules.append(f'iifname "{LAN}" oifname "{LAN}" {self._this} {to_us} {teach}')
        return rules

    def kept_zones(self) -> list[str]:
        """Before connection tracking: a packet's zone can be set only once, and kept flows come first."""
        return self.kept.zones()

    def error_zones(self) -> list[str]:
        """Before connection tracking: ICMP errors for our packets."""
        return error_rules(self.protocol, self.name("errors"), self.at, self.name("options"))

    def zones_in(self) -> list[str]:
        """Before connection tracking: packets for our mappings."""
        to_us = f'iifname "{WAN}" {self._this} ip daddr {any_of(self.outsides)}'
        awake = f"{self._arriving} @{self.name('awake')} " if self.config.aging else ""
        return [f"{to_us} {awake}ct zone set {self._arriving} map @{self.name('zones_in')} accept"]

    def zones_out(self) -> list[str]:
        """Before connection tracking: packets of inside hosts."""
        key, known = self._sent, self.name("known")
        out, zones = self.name("out"), self.name("zones_out")
        own = f"ip daddr != {any_of(self.outsides)} " if self.config.hairpin else ""
        refresh = f"update @{known} {{ {key} }} " if self._touch == "update" else ""
        begin, first = "", []
        if self._is_tcp:
            begin = self._transitory
            first = [f"{_NOT_OPEN} {key} @{known} ct zone set {key} map @{zones} accept"]
        if self._crosses:
            first.insert(0, f"ct zone set {self._four} map @{self.name('across')} accept")
        return [
            f"{own}fib daddr type != unicast accept",
            *first,
            f"{key} @{known} {refresh}ct zone set {key} map @{zones} accept",
            f"ct zone set numgen inc mod {_ZONES} offset {1 + self.generation % 4 * _ZONES}",
            f"delete @{zones} {{ {key} : ct zone }} delete @{out} {{ {key} : ip saddr . {self._sport} }} "
            f"delete @{self.name('mapped')} {{ {key} }}",
            f"add @{zones} {{ {key} : ct zone }} delete @{known} {{ {key} }}",
            f"add @{known} {{ {key}{begin} }}",
        ]

    def dnat(self) -> list[str]:
        """Flows that begin outside, or by hairpin."""
        awake = f"{self._arriving} @{self.name('awake')} " if self.config.aging else ""
        sides = [WAN, LAN] if self.config.hairpin else [WAN]
        to_us = f"{self._this} ip daddr {any_of(self.outsides)}"
        dnat = f"{to_us} {awake}dnat to {self._arriving} map @{self.name('ext')}"
        return [f'iifname "{side}" {dnat}' for side in sides]

    def _teach(self) -> list[str]:
        """Packets of flows that began inside; those of others are answers."""
        this, key = self._this, self._flow_key("original")
        port, ip = "ct reply proto-dst", "ct reply ip daddr"
        at, inside = self.at(ip, port), "ct original ip saddr . ct original proto-src"
        fresh = f"{this} ct state new {key} != @{self.name('mapped')}"
        errors = self.name("errors")
        return [
            f"{IS_PORT_MAPPED} return",
            f"{this} ct direction reply goto {self.name('answer')}",
            f"{fresh} {self.alive(at)} drop",
            f"{fresh} delete @{self.name('out')} {{ {key} : {ip} . {port} }} "
            f"delete @{self.name('ext')} {{ {at} : {inside} }} "
            f"delete @{self.name('zones_in')} {{ {at} : ct zone }} {delete_error(errors, self.at)} "
            f"delete @{self.name('taken')} {{ {at} }}",
            *self._enter(key, ip, port, inside),
            *self._open("original", at, "ct original ip daddr", "ct original proto-dst"),
            *self._expect_answers(),
        ]

    def _answer(self) -> list[str]:
        key, ip, port = self._flow_key("reply"), "ct original ip daddr", "ct original proto-dst"
        inside, at = "ct reply ip saddr . ct reply proto-src", self.at(ip, port)
        rules = []
        if self.config.lifetime is not None and self.config.mapping != NatMapping.EIM:
            # Its mapping has ended, which this flow's own key does not know: the next packet begins a new one.
            zones, known = self.name("zones_out"), self.name("known")
            forget = f"delete @{zones} {{ {key} : ct zone }} delete @{known} {{ {key} }}"
            rules.append(f"{self._this} {at} != @{self.name('taken')} {forget} drop")
        rules += self._enter(key, ip, port, inside)
        return rules + self._open("reply", at, "ct reply ip daddr", "ct reply proto-dst")

    def _enter(self, key: str, ip: str, port: str, inside: str) -> list[str]:
        """Enter a mapping and refresh it, as a packet from inside does."""
        at, n = self.at(ip, port), self.name

        def entries(grow: str, touch: str, life: str, idle: str) -> str:
            # The port first: where the kernel's clock ticks between two of these, it is free when its mapping ends.
            texts = [
                f"{grow} @{n('taken')} {{ {at}{life} }}",
                f"{grow} @{n('zones_out')} {{ {key}{life} : ct zone }}",
                f"{grow} @{n('mapped')} {{ {key}{life} }}",
                f"{grow} @{n('out')} {{ {key}{life} : {ip} . {port} }}",
                f"{grow} @{n('ext')} {{ {at}{life} : {inside} }}",
                f"{grow} @{n('zones_in')} {{ {at}{life} : ct zone }}",
            ]
            return " ".join(
                texts + ([f"{touch} @{n('awake')} {{ {at}{idle} }}"] if self.config.aging else [])
            )

        errors = enter_error_rules(self._grow, n("errors"), self.at, n("options"))
        return [*self._clocked(entries), *(f"{self._this} {rule}" for rule in errors)]

    def _clocked(self, entries: Entries) -> Iterator[str]:
        """Rules by which packets enter sets: TCP's SYN for a shorter time, without refreshing anything."""
        later = f"{self._this} "
        if self._is_tcp:
            life = self._transitory if self.config.lifetime is None else ""
            yield f"{_NOT_OPEN} {entries('add', 'add', life, self._transitory)}"
            later = f"{_OPEN} "
        yield later + entries(self._grow, "update", "", "")

    def _open(self, way: str, own: str, ip: str, port: str) -> list[str]:
        """Pinholes: for whoever was sent to; between inside hosts both must have sent."""
        if not self.config.filters:
            return []
        remote, permit = self._remote(ip, port), self.name("permit")
        rules = list(
            self._clocked(lambda _g, touch, _l, idle: f"{touch} @{permit} {{ ct zone . {remote}{idle} }}")
        )
        if self.config.hairpin:
            opened, other = self.name("opened"), self.at(ip, port)
            adf = self.config.filtering == NatFiltering.ADF
            mine, theirs = (own, other) if adf else (f"{own} . {other}", f"{other} . {own}")
            lan = f'oifname "{LAN}" {self._this}'
            rules += [f"{lan} update @{opened} {{ {mine} }}", f"{lan} {theirs} != @{opened} drop"]
        return rules

    def _expect_answers(self) -> list[str]:
        """By hairpin the other inside host answers in this flow, where its own mapping is not for everybody."""
        if self._crosses:
            ends = "ct reply ip saddr . ct reply proto-src . ct reply ip daddr . ct reply proto-dst"
            return [f'oifname "{LAN}" {self._this} update @{self.name("across")} {{ {ends} : ct zone }}']
        if not self.config.hairpin or self.config.mapping == NatMapping.EIM:
            return []
        return [f'oifname "{LAN}" {self._this} {rule}' for rule in self._adopt(self._flow_key("reply"))]

    def _adopt(self, key: str) -> list[str]:
        """A key that is not a mapping's yet belongs to this packet's zone."""
        zones, known = self.name("zones_out"), self.name("known")
        return [
            f"{key} != @{known} delete @{zones} {{ {key} : ct zone }}",
            f"add @{zones} {{ {key} : ct zone }} add @{known} {{ {key} }}",
        ]

    def admit(self) -> list[str]:
        """Packets from outside that were found a mapping, translated already."""
        here = f'iifname "{WAN}" {self._this}'
        remote = self._remote("ip saddr", self._sport)
        rules = self.kept.admit()
        if self.config.filters:
            stranger = f"{here} ct zone . {remote} != @{self.name('permit')}"
            if self._is_tcp and self.config.tcp_syn == "reject":
                rules.append(f"{stranger} tcp flags & (syn | rst) == syn reject with tcp reset")
            rules.append(f"{stranger} drop")
        if self.config.mapping != NatMapping.EIM:
            rules += [f"{here} ct state new {rule}" for rule in self._adopt(self._entering)]
        if self.config.refresh_inbound and self._touch == "update":
            if self._is_tcp:
                here += f" {_OPEN}"
            rules += [f"{here} ct direction {way} {self._refresh(way)}" for way in ("original", "reply")]
        return rules

    def _refresh(self, way: str) -> str:
        key, ip, port, n = self._entering, f"ct {way} ip daddr", f"ct {way} proto-dst", self.name
        at = self.at(ip, port)
        entries = [f"update @{n('known')} {{ {key} }}"]
        if self.config.filters:
            permitted = self._remote("ip saddr", self._sport)
            entries.append(f"update @{n('permit')} {{ ct zone . {permitted} }}")
        if self.config.aging:
            return " ".join([*entries, f"update @{n('awake')} {{ {at} }}"])
        entries += [
            f"update @{n('taken')} {{ {at} }}",
            f"update @{n('zones_out')} {{ {key} : ct zone }}",
            f"update @{n('mapped')} {{ {key} }}",
            f"update @{n('out')} {{ {key} : {ip} . {port} }}",
            f"update @{n('ext')} {{ {at} : ip daddr . {self._dport} }}",
            f"update @{n('zones_in')} {{ {at} : ct zone }}",
        ]
        return " ".join(entries)
