"""The advertisement of one LAN: what is said now, as a step for the agent. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from netns_fixtures.ops import Advertise, Op
from netns_fixtures.ra.config import Ra
from netns_fixtures.ra.packet import Prefix, encode

#: "off": never begun; "on"; "withdrawn": it said that it is no router any more; "silent": it stopped, like a crash.
State = Literal["off", "on", "withdrawn", "silent"]
#: For how long an address of a prefix that goes stays valid: hosts believe no less (RFC 4862 section 5.5.3 e).
RETIRED_VALID = 7200.0


@dataclass(frozen=True, slots=True)
class Retired:
    """A prefix that goes. ``routed``: packets to it still arrive; ``announced``: hosts are told that it goes."""

    network: ipaddress.IPv6Network
    routed: bool
    announced: bool


@dataclass(slots=True, eq=False)
class RaPlan:
    """Who advertises: the LAN interface ``index`` of ``node``, with hardware address ``mac``."""

    node: int
    index: int
    mac: str
    config: Ra = field(default_factory=Ra)
    state: State = "off"
    retired: list[Retired] = field(default_factory=list)

    def begin(self, networks: Iterable[ipaddress.IPv6Network]) -> list[Op]:
        """Advertise from now on, unless that began before (and perhaps ended on purpose)."""
        if self.state != "off":
            return []
        self.state = "on"
        return self.ops(networks)

    def ops(self, networks: Iterable[ipaddress.IPv6Network]) -> list[Op]:
        """Say this from now on, beginning now."""
        if self.state == "off":
            return []
        if self.state == "silent":
            return [Advertise(self.node, self.index, self.mac, b"", 0.0)]
        config = self.config
        prefixes = [Prefix(n, config.preferred_lifetime, config.valid_lifetime) for n in networks]
        prefixes += [
            Prefix(old.network, 0.0, min(RETIRED_VALID, config.valid_lifetime))
            for old in self.retired
            if old.announced
        ]
        packet = encode(config, self.mac, prefixes, default_router=self.state == "on")
        # A withdrawal is said once and then never again: nobody is there to say more.
        interval = config.interval if self.state == "on" else 0.0
        return [Advertise(self.node, self.index, self.mac, packet, interval)]
