"""A NAT whose mappings and pinholes stand in tables of its own: every mapping x filtering x ports, exact timers.

Theory of operation. Connection tracking remembers *flows*, RFC 4787 speaks of *mappings*: connection tracking
alone cannot end a mapping that is in use, let only one side refresh it, or give a socket one port per address.
So here the rules keep both as sets with timeouts, and connection tracking only rewrites packets:

    key K = inside address . port [. remote address [. remote port]]     (by ``mapping``)
    at    = outside port; with several outside addresses: outside address . port
    known      K                         a mapping, or one about to be
    zones_out  K -> zone                 each mapping instance is a connection tracking zone of its own
    mapped     K                         it has an outside port
    out        K -> outside . port       what its next flow is translated to
    taken      at                        outside ports that are in use
    ext        at -> inside . port       where packets from outside go
    zones_in   at -> zone                in which zone their flow is
    errors     at -> zone                the same for ICMP errors, which quote our packet
    permit     zone . remote [. port]    pinholes (by ``filtering``)
    opened     at [. at]                 pinholes between inside hosts, for hairpin

    inside -> outside                                     outside -> inside
    raw       K known: its zone; else a new zone          raw      at -> zone
    (connection tracking, in that zone)                   (connection tracking, in that zone)
    srcnat    out[K], else by ``ports``                   dstnat   ext[at]
    learn     enter everything, refresh the timers        admit    permit, refresh the timers if so configured

A zone is what makes an end an end: when K or the port expires here, the old flow is not found any more,
however busy it is, and the next packet from inside begins a new mapping in a new zone. A flow that connection
tracking forgets earlier is made again from ``out`` and ``ext``, with the same ports.

TCP with axes of its own has the same sets and chains once more, named ``tcp_...``: ``mapping_rules`` makes those of
one protocol, this file what is around them.

An outside port belongs to one mapping. One that is drawn is tried before it is given (``choosing``); should the
kernel's own choice be in use, the new mapping loses its first packet and draws again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netns_fixtures.nat.choosing import PortChoice
from netns_fixtures.nat.config import NatConfig
from netns_fixtures.nat.kept import KeptFlow, KeptRules
from netns_fixtures.nat.mapping_rules import MappingRules
from netns_fixtures.nat.text import IS_ANSWER, IS_PORT_MAPPED, LAN, WAN, any_of, called, hooked, table

__all__ = ["exact_sets", "exact_table"]


def exact_table(
    config: NatConfig,
    outsides: Sequence[str],
    ports: tuple[int, int] | None,
    generation: int = 0,
    kept: Sequence[KeptFlow] = (),
) -> str:
    """Table ``ip nat``. ``generation`` counts the times that flows were ``kept``."""
    rules = _table(config, outsides, ports, generation, kept)
    return table("ip nat", *rules.choice.fixed_sets(), *rules.sets(), *rules.chains())


def exact_sets(config: NatConfig, kept: Sequence[KeptFlow] = ()) -> list[str]:
    """What a flush empties, as "map ip nat ext"."""
    outsides = ["0.0.0.0"] * config.pool_size
    names = [text.split()[:2] for text in _table(config, outsides, None, 0, kept).sets()]
    return [f"{kind} ip nat {name}" for kind, name in names]


def _table(
    config: NatConfig,
    outsides: Sequence[str],
    ports: tuple[int, int] | None,
    generation: int,
    kept: Sequence[KeptFlow],
) -> _Table:
    protocols = {"udp": config} | ({"tcp": config.tcp} if config.tcp is not None else {})
    rules = tuple(
        MappingRules(each, protocol, tuple(outsides), generation, KeptRules(each, protocol, kept))
        for protocol, each in protocols.items()
    )
    return _Table(config, rules, PortChoice(config, rules, tuple(outsides), ports))


@dataclass(frozen=True, slots=True)
class _Table:
    config: NatConfig
    protocols: tuple[MappingRules, ...]
    choice: PortChoice

    def sets(self) -> list[str]:
        """Declarations of what rules fill."""
        return [text for rules in self.protocols for text in rules.sets()] + self.choice.sets()

    def chains(self) -> list[str]:
        """Their declarations, called ones first."""
        return [
            *(chain for rules in self.protocols for chain in rules.chains()),
            *self.choice.chains(),
            called("translate", *(rules.known_outside() for rules in self.protocols), *self.choice.choose()),
            hooked("zones", "filter", "raw", *self._zones(), hook="prerouting"),
            hooked("prerouting", "nat", "dstnat", *self._each("dnat")),
            hooked("postrouting", "nat", "srcnat", *self._translate()),
            hooked("learn", "filter", "110", *self._each("learn"), hook="postrouting"),
            hooked("admit", "filter", "-1", f"{IS_PORT_MAPPED} accept", *self._each("admit"), hook="forward"),
        ]

    def _each(self, part: str) -> list[str]:
        return [line for rules in self.protocols for line in getattr(rules, part)()]

    def _zones(self) -> list[str]:
        udp, *others = self.protocols
        return [
            f"{IS_PORT_MAPPED} accept",
            *self._each("kept_zones"),
            *self._each("error_zones"),
            *self._each("zones_in"),
            f'iifname "{WAN}" accept',
            *(f"meta l4proto {rules.protocol} goto {rules.name('zones_of')}" for rules in others),
            "meta l4proto != udp accept",
            *udp.zones_out(),
        ]

    def _translate(self) -> list[str]:
        """What leaves through the NAT: to the outside, and by hairpin back to the LAN."""
        rules = [f"{IS_ANSWER} accept", f'oifname "{WAN}" jump translate']
        if self.config.hairpin:
            to_us = f"ct original ip daddr {any_of(self.choice.outsides)}"
            protocols = any_of([each.protocol for each in self.protocols])
            hairpin = f'iifname "{LAN}" oifname "{LAN}" meta l4proto {protocols} {to_us}'
            rules.append(f"{hairpin} jump translate")
        return rules
