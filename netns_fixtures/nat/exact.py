"""A NAT whose mappings and pinholes stand in tables of its own: every mapping x filtering x ports, exact timers.

Theory of operation. Connection tracking remembers *flows*, RFC 4787 speaks of *mappings*: connection tracking
alone cannot end a mapping that is in use, let only one side refresh it, or give a socket one port per address.
So here the rules keep both as sets with timeouts, and connection tracking only rewrites packets:

    key K = inside address . port [. remote address [. remote port]]     (by ``mapping``)
    known      K                         a mapping, or one about to be
    zones_out  K -> zone                 each mapping instance is a connection tracking zone of its own
    mapped     K                         it has an outside port
    out        K -> outside . port       what its next flow is translated to
    taken      port                      outside ports that are in use
    ext        port -> inside . port     where packets from outside go
    zones_in   port -> zone              in which zone their flow is
    errors     port -> zone              the same for ICMP errors, which quote our packet
    permit     zone . remote [. port]    pinholes (by ``filtering``)
    opened     port [. port]             pinholes between inside hosts, for hairpin

    inside -> outside                                     outside -> inside
    raw       K known: its zone; else a new zone          raw      port -> zone
    (connection tracking, in that zone)                   (connection tracking, in that zone)
    srcnat    out[K], else by ``ports``                   dstnat   ext[port]
    learn     enter everything, refresh the timers        admit    permit, refresh the timers if so configured

A zone is what makes an end an end: when K or the port expires here, the old flow is not found any more,
however busy it is, and the next packet from inside begins a new mapping in a new zone. A flow that connection
tracking forgets earlier is made again from ``out`` and ``ext``, with the same ports.

An outside port belongs to one mapping: a new one that was given a port in use (a random draw, or a counter
that wrapped) loses its first packet and draws again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netns_fixtures.nat.config import NatConfig, NatFiltering, NatMapping, NatPorts
from netns_fixtures.nat.kept import KeptFlow, KeptRules
from netns_fixtures.nat.text import IS_PORT_MAPPED, LAN, WAN, called, dynamic, hooked, table

#: Where a port goes that another mapping has; the second serves clients whose port lies in the first.
COLLISION_RANGES = ((60000, 64999), (10000, 14999))
#: Above the well-known ports.
RANDOM_RANGE = (1024, 65535)
#: Where counting begins, and how many numbers one rule text lists: 3 ms to load, then the counter wraps.
FIRST_SEQUENTIAL, SEQUENTIAL_PORTS = 4096, 1024
#: Zones have 16 bits; 0 is what everything else uses. Flows that outlive a rebind stay in those of their time:
#: a quarter for each generation.
_ZONES = 16000
#: Parts of a mapping's key.
_PARTS = {NatMapping.EIM: 2, NatMapping.ADM: 3, NatMapping.APDM: 4}
#: ICMP errors; what they quote begins 8 bytes into them, its source port another 20 (no IP options in a lab).
_ERRORS, _QUOTED_PORT = "{ destination-unreachable, time-exceeded, parameter-problem }", "@th,224,16"
#: The source port of a packet as a bare number, as the quoted one is: nft compares types, too.
_BARE_PORT = "@nh,160,16"


def key_parts(mapping: NatMapping) -> int:
    """How many parts the key of a mapping has, of inside address, port, remote address, port."""
    return _PARTS[mapping]


def exact_table(
    config: NatConfig,
    outside: str,
    ports: tuple[int, int] | None,
    generation: int = 0,
    kept: Sequence[KeptFlow] = (),
) -> str:
    """Table ``ip nat``. ``generation`` counts the times that flows were ``kept``."""
    rules = _Rules(config, outside, ports, generation, KeptRules(config, kept))
    return table("ip nat", *rules.sets(), *rules.chains())


def exact_sets(config: NatConfig, kept: Sequence[KeptFlow] = ()) -> list[str]:
    """What a flush empties, as "map ip nat ext"."""
    rules = _Rules(config, "0.0.0.0", None, 0, KeptRules(config, kept))
    names = [text.split()[:2] for text in rules.sets()]
    return [f"{kind} ip nat {name}" for kind, name in names]


@dataclass(frozen=True, slots=True)
class _Rules:
    config: NatConfig
    outside: str
    ports: tuple[int, int] | None
    generation: int
    kept: KeptRules

    # -- keys: of the packet in raw, of a flow's original and reply direction, of a packet let in

    def _key(self, *parts: str) -> str:
        return " . ".join(parts[: _PARTS[NatMapping(self.config.mapping)]])

    @property
    def _sent(self) -> str:
        return self._key("ip saddr", "udp sport", "ip daddr", "udp dport")

    @property
    def _original(self) -> str:
        return self._flow_key("original")

    @property
    def _reply(self) -> str:
        return self._flow_key("reply")

    def _flow_key(self, way: str) -> str:
        return self._key(
            f"ct {way} ip saddr", f"ct {way} proto-src", f"ct {way} ip daddr", f"ct {way} proto-dst"
        )

    @property
    def _entering(self) -> str:
        return self._key("ip daddr", "udp dport", "ip saddr", "udp sport")

    # -- clocks

    @property
    def _grow(self) -> str:
        """How a packet enters a mapping: by age nothing refreshes it."""
        return "update" if self.config.lifetime is None else "add"

    @property
    def _touch(self) -> str:
        """How a packet enters what the idle clock runs for."""
        return "update" if self.config.lifetime is None or self.config.aging else "add"

    def _alive(self, port: str, name: str = "taken") -> str:
        return f"{port} @{name} {port} @awake" if self.config.aging else f"{port} @{name}"

    # -- sets

    def sets(self) -> list[str]:
        """Their declarations."""
        config = self.config
        life = config.lifetime or config.idle
        key = self._key("ipv4_addr", "inet_service", "ipv4_addr", "inet_service")
        sets = [
            dynamic("set known", f"type {key}", config.idle),
            dynamic("map zones_out", f"typeof {self._sent} : ct zone", life),
            dynamic("set mapped", f"type {key}", life),
            dynamic("map out", f"type {key} : ipv4_addr . inet_service", life),
            dynamic("set taken", "type inet_service", life),
            dynamic("map ext", "type inet_service : ipv4_addr . inet_service", life),
            dynamic("map zones_in", "typeof udp dport : ct zone", life),
            dynamic("map errors", "typeof ip id : ct zone", life),  # a bare number of 16 bits
        ]
        if self.config.aging:
            sets.append(dynamic("set awake", "type inet_service", config.idle))
        if config.filters:
            remote = self._remote("ip saddr", "udp sport")
            sets.append(dynamic("set permit", f"typeof ct zone . {remote}", config.idle))
        if config.filters and config.hairpin:
            pair = "inet_service" if config.filtering == NatFiltering.ADF else "inet_service . inet_service"
            sets.append(dynamic("set opened", f"type {pair}", config.idle))
        return sets + self.kept.sets()

    def _remote(self, address: str, port: str) -> str:
        return address if self.config.filtering == NatFiltering.ADF else f"{address} . {port}"

    # -- chains

    def chains(self) -> list[str]:
        """Their declarations, called ones first."""
        return [
            called("translate", *self._translate()),
            called("answer", *self._answer()),
            called("teach", *self._teach()),
            hooked("zones", "filter", "raw", *self._zones(), hook="prerouting"),
            hooked("prerouting", "nat", "dstnat", *self._dnat()),
            hooked("postrouting", "nat", "srcnat", *self._outward("translate")),
            hooked("learn", "filter", "110", *self._learn(), hook="postrouting"),
            hooked("admit", "filter", "-1", *self._admit(), hook="forward"),
        ]

    def _learn(self) -> list[str]:
        kept = self.kept.learn(f"update @errors {{ {_BARE_PORT} : ct zone }}")
        return kept + self._outward("teach", "meta l4proto udp")

    def _outward(self, chain: str, match: str = "") -> list[str]:
        """What leaves through the NAT: to the outside, and by hairpin back to the LAN."""
        rules = [f'oifname "{WAN}" {match} jump {chain}']
        if self.config.hairpin:
            hairpin = f'iifname "{LAN}" oifname "{LAN}" meta l4proto udp ct original ip daddr {self.outside}'
            rules.append(f"{hairpin} jump {chain}")
        return rules

    def _zones(self) -> list[str]:
        key, own = self._sent, f"ip daddr != {self.outside} " if self.config.hairpin else ""
        awake = "udp dport @awake " if self.config.aging else ""
        refresh = f"update @known {{ {key} }} " if self._touch == "update" else ""
        return [
            f"{IS_PORT_MAPPED} accept",
            *self.kept.zones(),
            f'iifname "{WAN}" icmp type {_ERRORS} ct zone set {_QUOTED_PORT} map @errors accept',
            f'iifname "{WAN}" ip daddr {self.outside} {awake}ct zone set udp dport map @zones_in accept',
            f'iifname "{WAN}" accept',
            "meta l4proto != udp accept",
            f"{own}fib daddr type != unicast accept",
            f"{key} @known {refresh}ct zone set {key} map @zones_out accept",
            f"ct zone set numgen inc mod {_ZONES} offset {1 + self.generation % 4 * _ZONES}",
            f"delete @zones_out {{ {key} : ct zone }} delete @out {{ {key} : ip saddr . udp sport }} "
            f"delete @mapped {{ {key} }}",
            f"add @zones_out {{ {key} : ct zone }} delete @known {{ {key} }}",
            f"add @known {{ {key} }}",
        ]

    def _dnat(self) -> list[str]:
        awake = "udp dport @awake " if self.config.aging else ""
        sides = [WAN, LAN] if self.config.hairpin else [WAN]
        dnat = f"meta l4proto udp ip daddr {self.outside} {awake}dnat to udp dport map @ext"
        return [f'iifname "{side}" {dnat}' for side in sides]

    def _translate(self) -> list[str]:
        return [
            f"meta l4proto udp snat to {self._original} map @out",
            *self._choose(),
            f"snat to {self.outside}",
        ]

    def _choose(self) -> list[str]:
        """The outside port of a new mapping. Connection tracking keeps a port that lies in a range."""
        snat, both = f"snat to {self.outside}", "meta l4proto { tcp, udp }"
        first, other = (f"{low}-{high}" for low, high in COLLISION_RANGES)
        if self.config.ports == NatPorts.SEQUENTIAL:
            start = self.ports[0] if self.ports else FIRST_SEQUENTIAL
            numbers = ", ".join(f"{n} : {start + n}" for n in range(SEQUENTIAL_PORTS))
            return [f"{both} {snat} : numgen inc mod {SEQUENTIAL_PORTS} map {{ {numbers} }}"]
        if self.config.ports == NatPorts.RANDOM:
            low, high = self.ports or RANDOM_RANGE
            return [f"{both} {snat}:{low}-{high} random"]
        if self.ports is not None:
            low, high = self.ports
            return [f"{both} th sport {low}-{high} {snat}:{first}", f"{both} {snat}:{low}-{high}"]
        taken = f"meta l4proto udp {self._alive('udp sport')}"
        return [f"{taken} udp sport != {first} {snat}:{first}", f"{taken} {snat}:{other}"]

    def _teach(self) -> list[str]:
        """Packets of flows that began inside; those of others are answers."""
        udp, key, port = "meta l4proto udp", self._original, "ct reply proto-dst"
        inside, outside = "ct original ip saddr . ct original proto-src", f"ct reply ip daddr . {port}"
        fresh = f"{udp} ct state new {key} != @mapped"
        return [
            f"{IS_PORT_MAPPED} return",
            f"{udp} ct direction reply goto answer",
            f"{fresh} {self._alive(port)} drop",
            f"{fresh} delete @out {{ {key} : {outside} }} delete @ext {{ {port} : {inside} }} "
            f"delete @zones_in {{ {port} : ct zone }} delete @errors {{ {_BARE_PORT} : ct zone }} "
            f"delete @taken {{ {port} }}",
            f"{udp} {self._enter(key, port, inside, outside)}",
            *self._open("original", port, "ct original proto-dst"),
            *self._expect_answers(),
        ]

    def _answer(self) -> list[str]:
        udp, key, port = "meta l4proto udp", self._reply, "ct original proto-dst"
        inside, outside = "ct reply ip saddr . ct reply proto-src", f"ct original ip daddr . {port}"
        rules = []
        if self.config.lifetime is not None and self.config.mapping != NatMapping.EIM:
            # Its mapping has ended, which this flow's own key does not know: the next packet begins a new one.
            forget = f"delete @zones_out {{ {key} : ct zone }} delete @known {{ {key} }}"
            rules.append(f"{udp} {port} != @taken {forget} drop")
        rules.append(f"{udp} {self._enter(key, port, inside, outside)}")
        return rules + self._open("reply", port, "ct reply proto-dst")

    def _enter(self, key: str, port: str, inside: str, outside: str) -> str:
        """Enter a mapping and refresh it, as a packet from inside does."""
        grow = self._grow
        # The port first: where the kernel's clock ticks between two of these, it is free when its mapping ends.
        entries = [
            f"{grow} @taken {{ {port} }}",
            f"{grow} @zones_out {{ {key} : ct zone }}",
            f"{grow} @mapped {{ {key} }}",
            f"{grow} @out {{ {key} : {outside} }}",
            f"{grow} @ext {{ {port} : {inside} }}",
            f"{grow} @zones_in {{ {port} : ct zone }}",
            f"{grow} @errors {{ {_BARE_PORT} : ct zone }}",
        ]
        if self.config.aging:
            entries.append(f"update @awake {{ {port} }}")
        return " ".join(entries)

    def _open(self, way: str, own: str, other: str) -> list[str]:
        """Pinholes: for whoever was sent to; between inside hosts both must have sent."""
        if not self.config.filters:
            return []
        remote = self._remote(f"ct {way} ip daddr", other)
        rules = [f"meta l4proto udp update @permit {{ ct zone . {remote} }}"]
        if self.config.hairpin:
            adf = self.config.filtering == NatFiltering.ADF
            mine, theirs = (own, other) if adf else (f"{own} . {other}", f"{other} . {own}")
            lan = f'oifname "{LAN}" meta l4proto udp'
            rules += [f"{lan} update @opened {{ {mine} }}", f"{lan} {theirs} != @opened drop"]
        return rules

    def _expect_answers(self) -> list[str]:
        """By hairpin the other inside host answers in this flow, where its own mapping is not for everybody."""
        if not self.config.hairpin or self.config.mapping == NatMapping.EIM:
            return []
        return [f'oifname "{LAN}" meta l4proto udp {rule}' for rule in self._adopt(self._reply)]

    def _adopt(self, key: str) -> list[str]:
        """A key that is not a mapping's yet belongs to this packet's zone."""
        return [
            f"{key} != @known delete @zones_out {{ {key} : ct zone }}",
            f"add @zones_out {{ {key} : ct zone }} add @known {{ {key} }}",
        ]

    def _admit(self) -> list[str]:
        """Packets from outside that were found a mapping, translated already."""
        udp = f'iifname "{WAN}" meta l4proto udp'
        remote = self._remote("ip saddr", "udp sport")
        rules = [f"{IS_PORT_MAPPED} accept", *self.kept.admit()]
        if self.config.filters:
            rules.append(f"{udp} ct zone . {remote} != @permit drop")
        if self.config.mapping != NatMapping.EIM:
            rules += [f"{udp} ct state new {rule}" for rule in self._adopt(self._entering)]
        if self.config.refresh_inbound and self._touch == "update":
            rules += [f"{udp} ct direction {way} {self._refresh(way)}" for way in ("original", "reply")]
        return rules

    def _refresh(self, way: str) -> str:
        key, port = self._entering, f"ct {way} proto-dst"
        entries = [f"update @known {{ {key} }}"]
        if self.config.filters:
            entries.append(f"update @permit {{ ct zone . {self._remote('ip saddr', 'udp sport')} }}")
        if self.config.aging:
            return " ".join([*entries, f"update @awake {{ {port} }}"])
        entries += [
            f"update @taken {{ {port} }}",
            f"update @zones_out {{ {key} : ct zone }}",
            f"update @mapped {{ {key} }}",
            f"update @out {{ {key} : ct {way} ip daddr . {port} }}",
            f"update @ext {{ {port} : ip daddr . udp dport }}",
            f"update @zones_in {{ {port} : ct zone }}",
        ]
        return " ".join(entries)
