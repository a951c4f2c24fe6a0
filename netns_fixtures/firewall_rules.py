"""The nftables text of a node's firewall. Pure: nothing here touches the kernel.

All of it lives in the table ``inet firewall``, which nothing else writes: NAT changes and firewall changes
never touch each other. Its chains come after NAT's (priority 10): they see inside addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from netns_fixtures.firewall import OPEN, Block, Firewall, network_of, parse_service, ports_text
from netns_fixtures.nat.text import IS_PORT_MAPPED, WAN, called, hooked, table
from netns_fixtures.portal_rules import PortalRules

TABLE = "inet firewall"
#: After the filter of a NAT (0): what that drops is dropped already.
PRIORITY = "10"
#: Without these IPv6 does not work at all on a link (RFC 4861; RFC 4890 4.4.1): neighbour discovery, router
#: advertisements, multicast listener reports. They never cross a router.
_LINK_ICMPV6 = (
    "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, "
    "nd-redirect, mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept"
)
_ICMP = "{ icmp, ipv6-icmp }"
#: The errors that tell a sender about a smaller MTU (RFC 1191, RFC 8201).
_TOO_BIG = ("icmp type destination-unreachable icmp code frag-needed drop", "icmpv6 type packet-too-big drop")


@dataclass(frozen=True, slots=True)
class FirewallRules:
    """Everything that the rule text of one node depends on.

    ``blocks`` are those of single pairs, beside the firewall's. ``keep``: flows that are known already
    pass. ``pmtu_blackhole``: no ICMP error about a packet's size comes out of, or through, the node.
    """

    router: bool
    firewall: Firewall = OPEN
    blocks: tuple[Block, ...] = ()
    keep: bool = False
    pmtu_blackhole: bool = False
    portal: PortalRules | None = None

    def text(self) -> str:
        """The ``nft -f`` text: one transaction that replaces the table."""
        numbered = list(enumerate((*self.firewall.blocks, *self.blocks)))
        parts = [called(f"block{number}", *_verdicts(block)) for number, block in numbered]
        if self.router:
            parts.append(hooked("forward", "filter", PRIORITY, *self._forward(numbered)))
            if self.pmtu_blackhole:
                parts.append(hooked("output", "filter", PRIORITY, *_TOO_BIG))
        else:
            parts += [
                hooked(hook, "filter", PRIORITY, *self._own(numbered, way))
                for hook, way in (("input", "in"), ("output", "out"))
            ]
        if self.portal is not None:
            parts = [self.portal.sets(), self.portal.caught(), *parts, self.portal.redirect()]
        return f"table {TABLE}\ndelete table {TABLE}\n" + table(TABLE, *parts) + "\n"

    def _forward(self, numbered: list[tuple[int, Block]]) -> list[str]:
        lines = [*_TOO_BIG] if self.pmtu_blackhole else []
        if self.portal is not None:
            lines += self.portal.forward()
        lines += self._known()
        for number, block in numbered:
            way = {"both": "", "in": f'iifname "{WAN}" ', "out": f'oifname "{WAN}" '}[block.direction]
            # Who asks the router for a port is let through by it (RFC 6887, UPnP IGD), as if it had sent first.
            mapped = f"{IS_PORT_MAPPED.replace('==', '!=')} " if block.unsolicited else ""
            lines += [f"{way}{match}{mapped}jump block{number}" for match in _matches(block)]
        return lines

    def _own(self, numbered: list[tuple[int, Block]], way: str) -> list[str]:
        lines = ['iifname "lo" accept' if way == "in" else 'oifname "lo" accept', _LINK_ICMPV6]
        if self.pmtu_blackhole and way == "in":
            lines += _TOO_BIG
        lines += self._known()
        for number, block in numbered:
            if block.direction in ("both", way):
                lines += [f"{match}jump block{number}" for match in _matches(block)]
        return lines

    def _known(self) -> list[str]:
        # Also where it decides nothing: a rule about states is what makes the kernel keep track of flows.
        verdict = "accept" if self.keep else "counter"
        return [f"ct state established,related {verdict}"]


def _matches(block: Block) -> list[str]:
    """What selects the packets of a block, each ending in a space: one line per family of its addresses."""
    common = ""
    if block.unsolicited:
        common += "ct state != { established, related } "
    if block.longer_than:
        common += f"meta length > {block.longer_than} "
    if block.protocol:
        common += f"meta l4proto {_ICMP if block.protocol == 'icmp' else block.protocol} "
    if block.ports:
        common += f"th dport {{ {ports_text(block.ports)} }} "
    if block.source_ports:
        common += f"th sport {{ {ports_text(block.source_ports)} }} "
    lines = []
    for version, key in ((4, "ip"), (6, "ip6")):
        if block.family not in (0, version):
            continue
        ends = [
            (word, _of(version, nets))
            for word, nets in (("saddr", block.source), ("daddr", block.destination))
        ]
        if any(nets == [] for _word, nets in ends):
            continue  # an end that has no address of this family
        addresses = "".join(f"{key} {word} {{ {', '.join(nets)} }} " for word, nets in ends if nets)
        if addresses or block.family:
            lines.append(f"meta nfproto ipv{version} {addresses}{common}")
        elif not lines:
            lines.append(common)
            break
    return lines


def _of(version: int, networks: tuple[str, ...]) -> list[str] | None:
    """The networks of a family; None where all addresses are meant."""
    if not networks:
        return None
    return [str(net) for net in map(network_of, networks) if net.version == version]


def _verdicts(block: Block) -> list[str]:
    lines = []
    if block.but_for:
        lines.append(f"meta l4proto {_ICMP} ct state related return")
    for service in block.but_for:
        protocol, ports = parse_service(service)
        port = f" ct original proto-dst {{ {ports} }}" if ports else ""
        lines.append(f"meta l4proto {_ICMP if protocol == 'icmp' else protocol}{port} return")
    if block.action == "reject":
        return [*lines, "meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]
    return [*lines, "drop"]
