"""The nftables rule text of one router, and the NATs that connection tracking makes with few rules. Pure.

Theory of operation (LAB.md section 6, "better2"). A plain ``snat`` looks endpoint-independent until the
peer's packet comes before ours: then conntrack holds the tuple and our packet leaves from another port, which
breaks simultaneous-open hole punching. So each new outbound flow *teaches* a map, keyed by the port that
conntrack really chose (its reply tuple), and inbound packets are DNATed through that map. An entry is
replaced by every new flow, so a client that renumbers with the same socket, and two clients with one port,
stay reachable.

What a router does not forward is dropped in the input hook *before* conntrack confirms it. Real home routers
are silent there too, and an unconfirmed entry never occupies the tuple that our own packet is about to need.

What conntrack does not do by itself (timers that are followed, address-dependent rules, hairpin) is
``nat/exact.py``; it needs more rules, and loading those takes longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from netns_fixtures.nat.choosing import COLLISION_RANGES
from netns_fixtures.nat.config import KERNEL_TCP, MAPPING_TIMEOUT, NatConfig, NatMapping, NatPorts
from netns_fixtures.nat.exact import exact_sets, exact_table
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.text import (
    IS_ANSWER,
    IS_PORT_MAPPED,
    IS_RESERVED,
    LAN,
    WAN,
    delete_tables,
    dynamic,
    hooked,
    table,
)

__all__ = ["LAN", "WAN", "NatRules", "flush_text", "next_ports", "sysctls"]

#: The port ranges that a rebinding NAT walks through; the first rebind leaves port preservation behind.
REBIND_RANGES = ((20000, 29999), (30000, 39999), (40000, 49999), (50000, 59999))
#: What a kernel has where nobody said anything (seconds; <net/netfilter/nf_conntrack_*.h>).
_KERNEL_UDP, _KERNEL_UDP_STREAM = 30, 120
#: TCP's states on the way to an open connection, and from there.
_KERNEL_TRANSITORY = {
    "tcp_timeout_syn_sent": 120,
    "tcp_timeout_syn_recv": 60,
    "tcp_timeout_fin_wait": 120,
    "tcp_timeout_close_wait": 60,
    "tcp_timeout_last_ack": 30,
    "tcp_timeout_time_wait": 120,
    "tcp_timeout_close": 10,
}
_CONNTRACK = "net/netfilter/nf_conntrack"


@dataclass(frozen=True, slots=True)
class NatRules:
    """Everything that the rule text of one router depends on. ``outside`` is its IPv4 address on the WAN,
    ``pool`` are the others that its NAT has there.

    ``ports`` is None until the first rebind, else the range (inclusive) that the NAT takes its ports from.
    ``kept`` are flows that outlive this rebind, the ``generation``-th that lets them.
    """

    config: NatConfig
    outside: str
    ports: tuple[int, int] | None = None
    generation: int = 0
    kept: tuple[KeptFlow, ...] = ()
    pool: tuple[str, ...] = ()

    @property
    def outsides(self) -> tuple[str, ...]:
        """All outside addresses."""
        return (self.outside, *self.pool)

    def text(self, *, replace: bool = False) -> str:
        """The ``nft -f`` text, one transaction; empty for a router that only routes.

        ``replace`` deletes the tables of an earlier text first (a fresh namespace has none, and deleting
        costs an RCU grace period of about 15 ms when the transaction's socket closes).
        """
        if not self.config.translates:
            return ""
        tables = [self._nat_table(), _input_table(self.config)]
        if self.config.filters:
            tables.append(_filter_table(self.config))
        return (delete_tables() if replace else "") + "\n".join(tables) + "\n"

    @property
    def learns(self) -> bool:
        """Whether each new flow teaches the map ``ext``, and nothing else has to be kept."""
        config = self.config
        return config.translates and not config.exact and config.ports == NatPorts.PRESERVE

    def _nat_table(self) -> str:
        if self.config.exact:
            return exact_table(self.config, self.outsides, self.ports, self.generation, self.kept)
        if self.config.ports == NatPorts.OVERLOAD:
            return table(
                "ip nat", hooked("postrouting", "nat", "srcnat", f'oifname "{WAN}" snat to {self.outside}')
            )
        if self.config.mapping == NatMapping.APDM:
            rules = (f"{rule} random" for rule in self._snat())
            return table("ip nat", hooked("postrouting", "nat", "srcnat", f"{IS_ANSWER} accept", *rules))
        return self._learning_table()

    def _learning_table(self) -> str:
        udp_out = f'oifname "{WAN}" meta l4proto udp ct direction original ct state new'
        entry = "{ ct reply proto-dst : ct original ip saddr . ct original proto-src }"
        learn = (f"{IS_PORT_MAPPED} accept", f"{udp_out} delete @ext {entry}", f"{udp_out} add @ext {entry}")
        dnat = f'iifname "{WAN}" meta l4proto udp dnat to udp dport map @ext'
        return table(
            "ip nat",
            dynamic("map ext", "type inet_service : ipv4_addr . inet_service", MAPPING_TIMEOUT),
            dynamic("set owners", "type ipv4_addr . inet_service", MAPPING_TIMEOUT),
            dynamic("set taken", "type inet_service", MAPPING_TIMEOUT),
            hooked("prerouting", "nat", "dstnat", dnat),
            hooked("postrouting", "nat", "srcnat", f"{IS_ANSWER} accept", *self._preserve(), *self._snat()),
            hooked("learn", "filter", "110", *learn, hook="postrouting"),
        )

    def _preserve(self) -> tuple[str, ...]:
        """Who keeps its port: the first client that uses it. A second one gets another, for all destinations."""
        if self.ports is not None:
            return ()
        udp_out, snat = f'oifname "{WAN}" meta l4proto udp', f"snat to {self.outside}"
        claim = "@owners { ip saddr . udp sport }", "@taken { udp sport }"
        first, other = (f"{low}-{high}" for low, high in COLLISION_RANGES)
        return (
            f"{udp_out} ip saddr . udp sport @owners update {claim[0]} update {claim[1]} {snat}",
            f"{udp_out} udp sport @taken udp sport != {first} {snat}:{first}",
            f"{udp_out} udp sport @taken {snat}:{other}",
            f"{udp_out} {IS_RESERVED} udp sport != {first} {snat}:{first}",
            f"{udp_out} {IS_RESERVED} {snat}:{other}",
            f"{udp_out} add {claim[0]} add {claim[1]} {snat}",
        )

    def _snat(self) -> tuple[str, ...]:
        if self.ports is None:
            first, second = (f"{low}-{high}" for low, high in COLLISION_RANGES)
            reserved = f'oifname "{WAN}" meta l4proto {{ tcp, udp }} {IS_RESERVED}'
            return (
                f"{reserved} th sport != {first} snat to {self.outside}:{first}",
                f"{reserved} snat to {self.outside}:{second}",
                f'oifname "{WAN}" snat to {self.outside}',
            )
        low, high = self.ports
        other = COLLISION_RANGES[0]
        # The kernel preserves a port that lies in the range, which would be no rebind: such ports go
        # elsewhere. A port range needs a transport: these rules must not match ICMP, which goes by the last
        # one.
        ports = f'oifname "{WAN}" meta l4proto {{ tcp, udp }}'
        return (
            f"{ports} th sport {low}-{high} snat to {self.outside}:{other[0]}-{other[1]}",
            f"{ports} snat to {self.outside}:{low}-{high}",
            f'oifname "{WAN}" snat to {self.outside}',
        )


def flush_text(rules: NatRules) -> str:
    """Rule text that forgets every learnt mapping; conntrack must be flushed beside it."""
    if rules.config.exact:
        return "".join(f"flush {name}\n" for name in exact_sets(rules.config, rules.kept))
    learnt = "flush map ip nat ext\nflush set ip nat owners\nflush set ip nat taken\n"
    return learnt if rules.learns else ""


def next_ports(ports: tuple[int, int] | None) -> tuple[int, int]:
    """The port range after a rebind: always disjoint from the one before."""
    if ports is None:
        return REBIND_RANGES[0]
    return REBIND_RANGES[(REBIND_RANGES.index(ports) + 1) % len(REBIND_RANGES)]


def sysctls(config: NatConfig, *, reset: bool = False) -> tuple[tuple[str, str], ...]:
    """Connection tracking's own timers, as far as they differ from a kernel's defaults; with ``reset`` all.

    Whole seconds, rounded up: where a NAT keeps its own tables, those decide, and conntrack must not forget
    earlier: firewalls ask it what is established.
    """
    wanted = {"udp_timeout": _KERNEL_UDP, "udp_timeout_stream": _KERNEL_UDP_STREAM}
    wanted |= {"tcp_timeout_established": KERNEL_TCP, "tcp_loose": 1, **_KERNEL_TRANSITORY}
    usual = dict(wanted)
    if config.exact or config.timeout is not None:
        seconds = math.ceil(config.idle)
        wanted["udp_timeout"] = wanted["udp_timeout_stream"] = seconds
    if config.tcp_timeout is not None:
        wanted["tcp_timeout_established"] = int(config.tcp_timeout)
    if config.tcp_transitory is not None:
        wanted |= dict.fromkeys(_KERNEL_TRANSITORY, int(config.tcp_transitory))
    if _forgets_tcp(config):
        # Without "loose" a forgotten connection stays forgotten: its next packet is not taken for a new one.
        wanted["tcp_loose"] = 0
    return tuple((f"{_CONNTRACK}_{k}", str(v)) for k, v in wanted.items() if reset or v != usual[k])


def _forgets_tcp(config: NatConfig) -> bool:
    """Whether its connections end otherwise than by the kernel's own times."""
    return config.tcp_timeout is not None or config.tcp_transitory is not None or config.tcp is not None


def _input_table(config: NatConfig) -> str:
    tcp_udp = f'iifname "{WAN}" meta l4proto {{ tcp, udp }} ct state'
    syn = f'iifname "{WAN}" tcp flags & (syn | rst) == syn ct state new reject with tcp reset'
    reject = syn if config.tcp_syn == "reject" else ""
    if not _forgets_tcp(config):
        return table("inet local", hooked("input", "filter", "0", reject, f"{tcp_udp} new drop"))
    # Packets of forgotten connections are not new (see sysctls) and nobody's: untranslated they must not go out,
    # and the router itself must not reset them.
    stray = f'oifname "{WAN}" meta nfproto ipv4 meta l4proto tcp ct state invalid drop'
    return table(
        "inet local",
        hooked("input", "filter", "0", reject, f"{tcp_udp} {{ new, invalid }} drop"),
        hooked("forward", "filter", "0", stray),
    )


def _filter_table(config: NatConfig) -> str:
    judged = "{ tcp, udp }" if config.tcp is not None else "udp"  # in ``exact``, chain admit
    own = f'iifname "{WAN}" meta nfproto ipv4 meta l4proto {judged} accept' if config.exact else ""
    known = f'iifname "{WAN}" ct state established,related accept'
    rules = (own, known, f'iifname "{WAN}" {IS_PORT_MAPPED} accept', f'iifname "{WAN}" drop')
    return table("inet filter", hooked("forward", "filter", "0", *rules))
