"""Which outside address and port a new mapping gets: rule text of a NAT that keeps its own tables. Pure.

Theory of operation. Rules cannot compute a port, but they can write one into the packet, look whether that is in use,
and translate to it: ``draw`` writes the next number of a list into the packet's source port, and as often as
``TRIES`` another is drawn until one is free. The same with addresses: a chain for each writes its own into the
packet's source, so that a look at ``taken`` sees address and port as they would be outside. Connection tracking
does not mind: it remembers the packet as it came, and translates to what it is told.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netns_fixtures.nat.config import NatConfig, NatPooling, NatPorts
from netns_fixtures.nat.text import IS_RESERVED, MAP_SIZE, called, ring

if TYPE_CHECKING:
    from netns_fixtures.nat.mapping_rules import MappingRules

#: Where a port goes that another mapping has; the second serves clients whose port lies in the first.
COLLISION_RANGES = ((60000, 64999), (10000, 14999))
#: Above the well-known ports.
RANDOM_RANGE = (1024, 65535)
#: Where counting begins, and how many numbers one rule text lists: 3 ms to load, then the counter wraps.
FIRST_SEQUENTIAL, SEQUENTIAL_PORTS = 4096, 1024
#: Of random ones fewer will do: when all are in use the kernel chooses.
RANDOM_PORTS = 512
#: Draws before a new mapping must lose its first packet: with half of all ports in use that is 1 of 256.
TRIES = 8


@dataclass(frozen=True, slots=True)
class PortChoice:
    """The chains that choose, for all protocols of a table."""

    config: NatConfig
    protocols: tuple[MappingRules, ...]
    outsides: tuple[str, ...]
    ports: tuple[int, int] | None

    @property
    def _pooled(self) -> bool:
        return len(self.outsides) > 1

    @property
    def _paired(self) -> bool:
        return self._pooled and self.config.pooling == NatPooling.PAIRED

    @property
    def _draws(self) -> bool:
        return self.config.ports != NatPorts.PRESERVE or self.ports is not None

    @property
    def _number(self) -> str:
        if self.config.ports == NatPorts.SEQUENTIAL:
            return f"numgen inc mod {SEQUENTIAL_PORTS}"
        return f"numgen random mod {RANDOM_PORTS}"

    def fixed_sets(self) -> list[str]:
        """The list of ports that are drawn."""
        if not self._draws:
            return []
        numbers = ", ".join(f"{n} : {port}" for n, port in enumerate(self._numbers()))
        kind = f"typeof {self._number} : udp sport"
        return [f" map numbers {{ {kind}\n  elements = {{ {numbers} }}\n }}"]

    def sets(self) -> list[str]:
        """Who has which address; that is for good, until the NAT forgets everything."""
        if not self._paired:
            return []
        kind = f"type ipv4_addr\n  flags dynamic\n  size {MAP_SIZE}"
        return [f" set pair{n} {{ {kind}\n }}" for n in range(len(self.outsides))]

    def chains(self) -> list[str]:
        """One for the next number, one for each address of a pool."""
        chains = []
        if self._draws:
            draw = f"{self._number} map @numbers"
            chains += [
                called(rules.name("draw"), f"{rules.protocol} sport set {draw}") for rules in self.protocols
            ]
        if self._pooled:
            for number, outside in enumerate(self.outsides):
                pair = [f"add @pair{number} {{ ip saddr }}"] if self._paired else []
                rules = [*pair, f"ip saddr set {outside}", *self._ports(outside)]
                chains.append(called(f"choose{number}", *rules))
        return chains

    def choose(self) -> list[str]:
        """The rules for a packet that has no mapping yet; the last one translates whatever comes."""
        if not self._pooled:
            return self._ports(self.outsides[0])
        numbers = range(len(self.outsides))
        pairs = [f"ip saddr @pair{n} goto choose{n}" for n in numbers] if self._paired else []
        return [*pairs, f"{ring(len(self.outsides))} vmap {{ {self._choices()} }}"]

    def _choices(self) -> str:
        return ", ".join(f"{n} : goto choose{n}" for n in range(len(self.outsides)))

    def _ports(self, outside: str) -> list[str]:
        snat, both = f"snat to {outside}", "meta l4proto { tcp, udp }"
        first, other = (f"{low}-{high}" for low, high in COLLISION_RANGES)
        if self._draws:
            return [*self._leaving(both, snat), *self._drawn(snat), self._kernels(both, snat), snat]
        lines = []
        for rules in self.protocols:
            sport = f"{rules.protocol} sport"
            here = f"meta l4proto {rules.protocol} {rules.alive(rules.at('ip saddr', sport))}"
            lines += [f"{here} {sport} != {first} {snat}:{first}", f"{here} {snat}:{other}"]
        reserved = f"{both} {IS_RESERVED}"
        return [*lines, f"{reserved} th sport != {first} {snat}:{first}", f"{reserved} {snat}:{other}", snat]

    def _leaving(self, both: str, snat: str) -> list[str]:
        """The kernel preserves a port that lies in the range, which would be no rebind: those go elsewhere."""
        if self.config.ports != NatPorts.PRESERVE or self.ports is None:
            return []
        (low, high), (first, last) = self.ports, COLLISION_RANGES[0]
        return [f"{both} th sport {low}-{high} {snat}:{first}-{last}"]

    def _kernels(self, both: str, snat: str) -> str:
        """For what was drawn in vain, and for TCP where that has no tables."""
        if self.config.ports == NatPorts.SEQUENTIAL:
            return f"{both} {snat} : {self._number} map @numbers"
        low, high = self.ports or RANDOM_RANGE
        return f"{both} {snat}:{low}-{high}" + (" random" if self.config.ports == NatPorts.RANDOM else "")

    def _drawn(self, snat: str) -> list[str]:
        return [line for rules in self.protocols for line in self._draw(rules, snat)]

    def _draw(self, rules: MappingRules, snat: str) -> list[str]:
        this, sport = f"meta l4proto {rules.protocol}", f"{rules.protocol} sport"
        lines = []
        for _ in range(TRIES):
            lines.append(f"{this} jump {rules.name('draw')}")
            lines += [
                f"{this} {rules.at('ip saddr', sport)} != @{name} {snat} : {sport}"
                for name in rules.in_use_sets()
            ]
        return lines

    def _numbers(self) -> range | list[int]:
        if self.config.ports == NatPorts.SEQUENTIAL:
            start = self.ports[0] if self.ports else FIRST_SEQUENTIAL
            return range(start, start + SEQUENTIAL_PORTS)
        low, high = self.ports or RANDOM_RANGE
        # The same for the same NAT, so that a replay has them again.
        seed = f"{self.outsides[0]} {low}"
        return random.Random(seed).sample(range(low, high + 1), RANDOM_PORTS)
