"""Flows that outlive a rebind: they stay on their old mapping, while everything new gets another one.

Theory of operation (see ``exact`` first). A rebind empties the tables, so a flow's old zone would not be found
any more. Each flow that is to live gets entries of its own, by which its packets find that zone from either side:

    kept_out    inside address . port . remote address . port -> zone
    kept_in     outside address . port . remote address . port -> zone
    kept        inside address . port . remote address . port     it is not idle
    kept_zones  zone                                              only kept flows are in it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netns_fixtures.nat.config import NatConfig
from netns_fixtures.nat.text import WAN, dynamic, fixed, milliseconds

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class KeptFlow:
    """``idle``: seconds until it ends unused; ``life``: until it ends anyway (None: never)."""

    inside: Address
    outside: Address
    remote: Address
    zone: int
    idle: float
    life: float | None
    protocol: str = "udp"


class KeptRules:
    """The sets, and the rules that go before those of ``exact``, of one protocol; nothing without flows of it."""

    def __init__(self, config: NatConfig, protocol: str, flows: Sequence[KeptFlow]) -> None:
        self._config = config
        self._flows = [flow for flow in flows if flow.protocol == protocol]
        self._this = f"meta l4proto {protocol}"
        self._prefix = "" if protocol == "udp" else f"{protocol}_"
        self._out = f"ip saddr . {protocol} sport . ip daddr . {protocol} dport"
        self._in = f"ip daddr . {protocol} dport . ip saddr . {protocol} sport"

    def sets(self) -> list[str]:
        """Their declarations, with the flows."""
        if not self._flows:
            return []
        out, back, idle, zones = [], [], [], []
        for flow in self._flows:
            remote, life = (
                _end(flow.remote),
                "" if flow.life is None else f" timeout {milliseconds(flow.life)}",
            )
            out.append(f"{_end(flow.inside)} . {remote}{life} : {flow.zone}")
            back.append(f"{_end(flow.outside)} . {remote}{life} : {flow.zone}")
            whole, left = milliseconds(self._config.idle), milliseconds(flow.idle)
            idle.append(f"{_end(flow.inside)} . {remote} timeout {whole} expires {left}")
            zones.append(str(flow.zone))
        kind = "type ipv4_addr . inet_service . ipv4_addr . inet_service"
        return [
            fixed(f"map {self._prefix}kept_out", f"typeof {self._out} : ct zone", out),
            fixed(f"map {self._prefix}kept_in", f"typeof {self._in} : ct zone", back),
            dynamic(f"set {self._prefix}kept", kind, self._config.idle, idle),
            fixed(f"set {self._prefix}kept_zones", "typeof ct zone", sorted(set(zones))),
        ]

    def zones(self) -> list[str]:
        """What finds their zones, before connection tracking; a packet's zone can be set only once."""
        if not self._flows:
            return []
        refresh = (
            ""
            if self._config.lifetime is not None and not self._config.aging
            else f"update @{self._prefix}kept {{ {self._out} }} "
        )
        inward, outward = f'iifname "{WAN}" {self._this}', f'iifname != "{WAN}" {self._this}'
        name = self._prefix + "kept"
        return [
            f"{inward} ct zone set {self._in} map @{name}_in accept",
            f"{outward} {self._out} @{name} {refresh}ct zone set {self._out} map @{name}_out accept",
        ]

    def learn(self, error: str) -> list[str]:
        """What keeps them from becoming mappings again; ``error``: the statement for errors that they may get."""
        if not self._flows:
            return []
        return [f'oifname "{WAN}" {self._this} ct zone @{self._prefix}kept_zones {error} accept']

    def admit(self) -> list[str]:
        """What lets their packets in."""
        if not self._flows:
            return []
        config, kept = self._config, f"{self._prefix}kept"
        here = f'iifname "{WAN}" {self._this} ct zone @{kept}_zones'
        ages = config.lifetime is not None and not config.aging
        refresh = f"update @{kept} {{ {self._in} }} " if config.refresh_inbound and not ages else ""
        return [f"{here} {self._in} @{kept} {refresh}accept", f"{here} drop"]


def _end(address: Address) -> str:
    return f"{address[0]} . {address[1]}"
