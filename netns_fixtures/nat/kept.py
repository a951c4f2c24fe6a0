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

_OUT, _IN = "ip saddr . udp sport . ip daddr . udp dport", "ip daddr . udp dport . ip saddr . udp sport"


@dataclass(frozen=True, slots=True)
class KeptFlow:
    """``idle``: seconds until it ends unused; ``life``: until it ends anyway (None: never)."""

    inside: Address
    outside: Address
    remote: Address
    zone: int
    idle: float
    life: float | None


class KeptRules:
    """The sets, and the rules that go before those of ``exact``; nothing without flows."""

    def __init__(self, config: NatConfig, flows: Sequence[KeptFlow]) -> None:
        self._config = config
        self._flows = flows

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
            fixed("map kept_out", f"typeof {_OUT} : ct zone", out),
            fixed("map kept_in", f"typeof {_IN} : ct zone", back),
            dynamic("set kept", kind, self._config.idle, idle),
            fixed("set kept_zones", "typeof ct zone", sorted(set(zones))),
        ]

    def zones(self) -> list[str]:
        """What finds their zones, before connection tracking; a packet's zone can be set only once."""
        if not self._flows:
            return []
        refresh = (
            ""
            if self._config.lifetime is not None and not self._config.aging
            else f"update @kept {{ {_OUT} }} "
        )
        udp_in, udp_out = f'iifname "{WAN}" meta l4proto udp', f'iifname != "{WAN}" meta l4proto udp'
        return [
            f"{udp_in} ct zone set {_IN} map @kept_in accept",
            f"{udp_out} {_OUT} @kept {refresh}ct zone set {_OUT} map @kept_out accept",
        ]

    def learn(self, error: str) -> list[str]:
        """What keeps them from becoming mappings again; ``error``: the statement for errors that they may get."""
        if not self._flows:
            return []
        return [f'oifname "{WAN}" meta l4proto udp ct zone @kept_zones {error} accept']

    def admit(self) -> list[str]:
        """What lets their packets in."""
        if not self._flows:
            return []
        udp, config = f'iifname "{WAN}" meta l4proto udp ct zone @kept_zones', self._config
        ages = config.lifetime is not None and not config.aging
        refresh = f"update @kept {{ {_IN} }} " if config.refresh_inbound and not ages else ""
        return [f"{udp} {_IN} @kept {refresh}accept", f"{udp} drop"]


def _end(address: Address) -> str:
    return f"{address[0]} . {address[1]}"
