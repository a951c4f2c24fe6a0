"""What a firewall does not let through, as data: no kernel, no rule text.

A :class:`Firewall` is a set of :class:`Block`; a packet passes where none of them fits. So firewalls add up
(``a | b`` lets through what both let through), and the order of their parts means nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from netns_fixtures.errors import TopologyError

Direction = Literal["both", "in", "out"]
Action = Literal["drop", "reject"]
#: A port, or an inclusive range of ports.
Ports = int | tuple[int, int]

PROTOCOLS = ("", "tcp", "udp", "icmp")
#: Names are asked over both; a network that lets nothing through usually still resolves names.
DNS = ("udp/53", "tcp/53")
#: What ``lab.router(firewall=)`` takes besides the presets: more than rules, there is a server with it.
CAPTIVE_PORTAL = "captive-portal"
WEB = ("tcp/80", "tcp/443")
#: IPv4's total length is 16 bits (RFC 791 section 3.1); an IPv6 packet without jumbograms is 40 bytes longer.
MAX_PACKET = 65_575
_SERVICE = re.compile(r"(tcp|udp)(?:/(\d+)(?:-(\d+))?)?|icmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Packets that are not let through: those that fit *every* field. A field left as it is fits all.

    direction: "out" leaves the host, or the router by its uplink; "in" arrives that way; "both".
    protocol: "tcp", "udp" or "icmp" (of both families).
    ports, source_ports: where the packet goes to, where it comes from; a port or an inclusive range.
    source, destination: addresses or networks, of either family ("192.0.2.7", "2001:db8::/32").
    family: 4 or 6; 0 for both.
    longer_than: bytes of the whole IP packet (a UDP datagram's payload + 28 with IPv4, + 48 with IPv6).
    unsolicited: only what belongs to no flow that the firewall knows (conntrack's new and invalid), nor, in a
        router, to a port that it has mapped.
    but_for: flows that it lets through all the same, both ways, by where their first packet went: "udp/53",
        "tcp/1000-2000", "udp", "icmp". ICMP errors about flows under way pass with them.
    action: "drop" is silence; "reject" says so (TCP: RST; else ICMP admin-prohibited, RFC 1812 5.2.7.1).

    Raises TopologyError.
    """

    direction: Direction = "both"
    protocol: str = ""
    ports: tuple[Ports, ...] = ()
    source_ports: tuple[Ports, ...] = ()
    source: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()
    family: Literal[0, 4, 6] = 0
    longer_than: int = 0
    unsolicited: bool = False
    but_for: tuple[str, ...] = ()
    action: Action = "drop"

    def __post_init__(self) -> None:
        _one_of("direction", self.direction, ("both", "in", "out"))
        _one_of("protocol", self.protocol, PROTOCOLS)
        _one_of("family", self.family, (0, 4, 6))
        _one_of("action", self.action, ("drop", "reject"))
        if not 0 <= self.longer_than <= MAX_PACKET:
            raise TopologyError(
                f"longer_than={self.longer_than!r}: bytes of an IP packet, from 0 to {MAX_PACKET}"
            )
        for ports in (*self.ports, *self.source_ports):
            _check_ports(ports)
        if (self.ports or self.source_ports) and self.protocol not in ("tcp", "udp"):
            raise TopologyError("ports belong to a protocol: say protocol='tcp' or protocol='udp'")
        for network in (*self.source, *self.destination):
            network_of(network)
        for service in self.but_for:
            parse_service(service)

    def __str__(self) -> str:
        words = [
            self.direction if self.direction != "both" else "",
            "unsolicited" if self.unsolicited else "",
            f"IPv{self.family}" if self.family else "",
            self.protocol or ("" if self.ports else "all"),
            f"port {ports_text(self.ports)}" if self.ports else "",
            f"source port {ports_text(self.source_ports)}" if self.source_ports else "",
            f"from {', '.join(self.source)}" if self.source else "",
            f"to {', '.join(self.destination)}" if self.destination else "",
            f"longer than {self.longer_than} bytes" if self.longer_than else "",
            f"but for {', '.join(self.but_for)}" if self.but_for else "",
            "(rejected)" if self.action == "reject" else "",
        ]
        return " ".join(word for word in words if word)

    def reversed(self) -> Block:
        """The same for the way back."""
        back: dict[Direction, Direction] = {"in": "out", "out": "in", "both": "both"}
        return replace(
            self,
            direction=back[self.direction],
            source=self.destination,
            destination=self.source,
            ports=self.source_ports,
            source_ports=self.ports,
        )


@dataclass(frozen=True, slots=True)
class Firewall:
    """Everything that one firewall blocks. ``Firewall()`` blocks nothing, and keeps track of flows."""

    blocks: tuple[Block, ...] = ()
    #: What events and failures call it.
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        if not self.blocks:
            return self.name or "open"
        return self.name or "blocking " + "; ".join(map(str, self.blocks))

    def __or__(self, other: Firewall) -> Firewall:
        """Lets through what both let through."""
        names = [part.name for part in (self, other) if part.blocks]
        return Firewall((*self.blocks, *other.blocks), " + ".join(names) if all(names) else "")

    @property
    def blocks_unsolicited(self) -> bool:
        """Whether it matters to it who began a flow."""
        return any(block.unsolicited for block in self.blocks)

    @property
    def looks_at_size(self) -> bool:
        """Whether any of its blocks depends on the size of packets."""
        return any(block.longer_than for block in self.blocks)

    def rejecting(self) -> Firewall:
        """The same, telling who is refused instead of staying silent."""
        blocks = tuple(replace(block, action="reject") for block in self.blocks)
        return Firewall(blocks, f"{self.name} (rejecting)" if self.name else "")

    @classmethod
    def only(cls, *services: str) -> Firewall:
        """Nothing passes but flows to these: ``Firewall.only("tcp/443", "udp/53")``. Raises TopologyError."""
        return cls((Block(but_for=services),), f"only {', '.join(services)}" if services else "nothing")

    @classmethod
    def longer_than(
        cls, size: int, direction: Direction = "both", *, protocol: str = "", family: Literal[0, 4, 6] = 0
    ) -> Firewall:
        """IP packets of more bytes than this vanish, without any ICMP. Raises TopologyError."""
        block = Block(direction=direction, protocol=protocol, family=family, longer_than=size)
        return cls((block,), f"nothing longer than {size} bytes")

    @classmethod
    def preset(cls, name: str) -> Firewall:
        """The firewall known by that name. Raises TopologyError naming those that exist."""
        try:
            return Firewall(PRESETS[name](), name)
        except KeyError:
            raise TopologyError(f"no firewall is called {name!r}; there are {', '.join(PRESETS)}") from None


def _blocked_inbound() -> tuple[Block, ...]:
    return (Block(direction="in", unsolicited=True),)


#: Presets by name; LAB 2.3 has where they come from.
PRESETS: dict[str, Callable[[], tuple[Block, ...]]] = {
    "open": lambda: (),
    # What consumer routers do by default, also to IPv6 (RFC 6092 section 3.1).
    "block-inbound": _blocked_inbound,
    # The commonest reason for relays: iroh's relay_udp_blocked tests.
    "udp-blocked": lambda: (Block(protocol="udp", but_for=("udp/53",)),),
    "no-udp": lambda: (Block(protocol="udp"),),
    "corporate": lambda: (*_blocked_inbound(), Block(but_for=(*WEB, *DNS))),
    "https-only": lambda: (*_blocked_inbound(), Block(but_for=("tcp/443", *DNS))),
    # Also the errors by which a sender learns of a smaller MTU: well-meant, and a black hole (RFC 2923 2.1).
    "icmp-blocked": lambda: (Block(protocol="icmp"),),
}


def firewall_of(firewall: str | Firewall) -> Firewall:
    """A firewall, or the preset of that name. Raises TopologyError."""
    if isinstance(firewall, Firewall):
        return firewall
    if not isinstance(firewall, str):
        raise TopologyError(f"{firewall!r} is no firewall: use a Firewall, or one of {', '.join(PRESETS)}")
    if firewall == CAPTIVE_PORTAL:
        raise TopologyError("a captive portal is more than a firewall: use router.captive_portal()")
    return Firewall.preset(firewall)


def parse_service(service: str) -> tuple[str, str]:
    """The protocol and the port or range (as text, "" for all) of "tcp/443". Raises TopologyError."""
    match = _SERVICE.fullmatch(service)
    if match is None:
        raise TopologyError(
            f"{service!r} is no service: write it as 'tcp/443', 'udp/1000-2000', 'udp' or 'icmp'"
        )
    protocol, low, high = match[1] or "icmp", match[2], match[3]
    if low is None:
        return protocol, ""
    ports = (int(low), int(high or low))
    _check_ports(ports)
    return protocol, ports_text([ports])


def ports_text(ports: tuple[Ports, ...] | list[Ports]) -> str:
    """Ports and ranges as "80, 1000-2000"."""
    spans = [(p, p) if isinstance(p, int) else p for p in ports]
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or network. Raises TopologyError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise TopologyError(f"{text!r} is no address or network: {error}") from None


def _check_ports(ports: Ports) -> None:
    low, high = (ports, ports) if isinstance(ports, int) else ports
    if not 0 < low <= high <= 65535:
        raise TopologyError(f"{ports!r}: ports go from 1 to 65535, and ranges upwards")


def _one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise TopologyError(f"{name}={value!r}: it is one of {', '.join(map(repr, allowed))}")


#: Blocks nothing.
OPEN = Firewall()
