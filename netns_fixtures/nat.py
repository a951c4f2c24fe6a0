"""NAT kinds and their nftables rule text. Pure: nothing here touches the kernel.

Theory of operation (LAB.md section 6, "better2"). A plain ``snat`` looks endpoint-independent until the
peer's packet comes before ours: then conntrack holds the tuple and our packet leaves from another port, which
breaks simultaneous-open hole punching. So each new outbound flow *teaches* a map, keyed by the port that
conntrack really chose (its reply tuple), and inbound packets are DNATed through that map. An entry is
replaced by every new flow, so a client that renumbers with the same socket, and two clients with one port,
stay reachable.

What a router does not forward is dropped in the input hook *before* conntrack confirms it. Real home routers
are silent there too, and an unconfirmed entry never occupies the tuple that our own packet is about to need.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

WAN = "wan"
LAN = "lan"

#: A mapping outlives its last new flow by this; RFC 4787 REQ-5 recommends 5 minutes and more.
MAPPING_TIMEOUT = 300.0
#: One entry per outside port.
MAP_SIZE = 65536
#: The port ranges that a rebinding NAT walks through; the first rebind leaves port preservation behind.
REBIND_RANGES = ((20000, 29999), (30000, 39999), (40000, 49999), (50000, 59999))
#: Where the second client that uses a port is mapped to; the other one serves clients whose port lies in the
#: first.
COLLISION_RANGES = ((60000, 64999), (10000, 14999))


class NatKind(enum.StrEnum):
    """What a router does to addresses (mapping x filtering of RFC 4787)."""

    NONE = "none"
    """Routed, nothing translated, nothing filtered."""
    OPEN = "open"
    """Endpoint-independent mapping and filtering (full cone)."""
    MODERATE = "moderate"
    """Endpoint-independent mapping, address-and-port-dependent filtering (most home routers)."""
    STRICT = "strict"
    """Endpoint-dependent mapping with random ports, address-and-port-dependent filtering ("symmetric")."""
    CGNAT = "cgnat"
    """A moderate router whose uplink is itself behind a moderate carrier router, in 100.64.0.0/10."""

    @property
    def translates(self) -> bool:
        """Whether inside addresses stay inside."""
        return self is not NatKind.NONE

    @property
    def filters(self) -> bool:
        """Whether unsolicited packets from outside are dropped."""
        return self in (NatKind.MODERATE, NatKind.STRICT, NatKind.CGNAT)


@dataclass(frozen=True, slots=True)
class NatRules:
    """Everything that the rule text of one router depends on. ``outside`` is its IPv4 address on the WAN.

    ``ports`` is None while the NAT preserves ports, else the range (inclusive) that it takes them from.
    """

    kind: NatKind
    outside: str
    ports: tuple[int, int] | None = None
    mapping_timeout: float = MAPPING_TIMEOUT

    def text(self, *, replace: bool = False) -> str:
        """The ``nft -f`` text, one transaction; empty for a router that only routes.

        ``replace`` deletes the tables of an earlier text first (a fresh namespace has none, and deleting
        costs an RCU grace period of about 15 ms when the transaction's socket closes).
        """
        if not self.kind.translates:
            return ""
        tables = [self._nat_table(), _input_table()]
        if self.kind.filters:
            tables.append(_filter_table())
        return (_delete_tables() if replace else "") + "\n".join(tables) + "\n"

    def _nat_table(self) -> str:
        if self.kind is NatKind.STRICT:
            return _table(
                "ip nat", _chain("postrouting", "nat", "srcnat", *(f"{r} random" for r in self._snat()))
            )
        udp_out = f'oifname "{WAN}" meta l4proto udp ct direction original ct state new'
        entry = "{ ct reply proto-dst : ct original ip saddr . ct original proto-src }"
        learn = (f"{udp_out} delete @ext {entry}", f"{udp_out} add @ext {entry}")
        dnat = f'iifname "{WAN}" meta l4proto udp dnat to udp dport map @ext'
        return _table(
            "ip nat",
            _dynamic("map ext", "inet_service : ipv4_addr . inet_service", self.mapping_timeout),
            _dynamic("set owners", "ipv4_addr . inet_service", self.mapping_timeout),
            _dynamic("set taken", "inet_service", self.mapping_timeout),
            _chain("prerouting", "nat", "dstnat", dnat),
            _chain("postrouting", "nat", "srcnat", *self._preserve(), *self._snat()),
            _chain("learn", "filter", "110", *learn, hook="postrouting"),
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
            f"{udp_out} add {claim[0]} add {claim[1]} {snat}",
        )

    def _snat(self) -> tuple[str, ...]:
        if self.ports is None:
            return (f'oifname "{WAN}" snat to {self.outside}',)
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


def flush_text(kind: NatKind) -> str:
    """Rule text that forgets every learnt mapping; conntrack must be flushed beside it."""
    learns = kind.translates and kind is not NatKind.STRICT
    return "flush map ip nat ext\nflush set ip nat owners\nflush set ip nat taken\n" if learns else ""


def next_ports(ports: tuple[int, int] | None) -> tuple[int, int]:
    """The port range after a rebind: always disjoint from the one before."""
    if ports is None:
        return REBIND_RANGES[0]
    return REBIND_RANGES[(REBIND_RANGES.index(ports) + 1) % len(REBIND_RANGES)]


def _input_table() -> str:
    drop = f'iifname "{WAN}" meta l4proto {{ tcp, udp }} ct state new drop'
    return _table("inet local", _chain("input", "filter", "0", drop))


def _filter_table() -> str:
    return _table(
        "inet filter",
        _chain(
            "forward",
            "filter",
            "0",
            f'iifname "{WAN}" ct state established,related accept',
            f'iifname "{WAN}" drop',
        ),
    )


def _delete_tables() -> str:
    # "table x" creates an empty table where there is none, so that the delete cannot fail.
    names = ("ip nat", "inet local", "inet filter")
    return "".join(f"table {name}\ndelete table {name}\n" for name in names)


def _table(name: str, *parts: str) -> str:
    body = "\n".join(parts)
    return f"table {name} {{\n{body}\n}}"


def _dynamic(name: str, kind: str, timeout: float) -> str:
    return (
        f" {name} {{ type {kind}\n"
        f"  flags dynamic,timeout\n  timeout {max(1, round(timeout))}s\n  size {MAP_SIZE}\n }}"
    )


def _chain(name: str, kind: str, priority: str, *rules: str, hook: str = "") -> str:
    lines = "\n".join(f"  {rule}" for rule in rules)
    head = f"type {kind} hook {hook or name} priority {priority}; policy accept;"
    return f" chain {name} {{ {head}\n{lines}\n }}"
