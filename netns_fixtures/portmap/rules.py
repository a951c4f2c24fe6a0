"""The nftables rules of port mappings: a table of their own beside the NAT's. Pure text.

A mapped port is translated before the NAT's own rules see it (priorities one lower), in both directions: inbound
packets go to the inside address, and what that inside socket sends comes from the mapped port, to every destination
(RFC 6887 section 11: one mapping per internal address and port). These packets carry a mark, by which the NAT leaves
them alone and its filter and a firewall let them pass.

A mapped port is reserved: what others send from a port of that number carries a mark by which the NAT gives it another;
should the NAT draw a mapped one all the same, that packet is dropped, and the next one draws again.

In IPv6 nothing is translated: a mapping is a pinhole, and the mark is all of it (RFC 6887 section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from netns_fixtures.nat.text import IS_PORT_MAPPED, PORT_MAPPED, PORT_RESERVED, WAN, hooked
from netns_fixtures.portmap.table import Mapping

TABLE, TABLE6 = "ip portmap", "ip6 portmap"
_TRANSPORTS = ("udp", "tcp")


def table_text(size: int) -> str:
    """The empty table, replacing an earlier one. ``size``: how many mappings there may be."""
    parts = [" set outside { type ipv4_addr; }"]
    parts += [part for transport in _TRANSPORTS for part in _containers(transport, size)]
    mark = f"meta mark set meta mark | {PORT_MAPPED:#x}"
    marks = [f'iifname "{WAN}" ip daddr @outside {t} dport @{t}_ports {mark}' for t in _TRANSPORTS]
    # To the router's own addresses go hairpins, which are the NAT's.
    inside = f'iifname != "{WAN}" fib daddr type unicast'
    marks += [f"{inside} ip saddr . {t} sport @{t}_inside {mark}" for t in _TRANSPORTS]
    inbound = [f'iifname "{WAN}" ip daddr @outside dnat to {t} dport map @{t}_in' for t in _TRANSPORTS]
    outbound = [f'oifname "{WAN}" snat to ip saddr . {t} sport map @{t}_out' for t in _TRANSPORTS]
    others = f'oifname "{WAN}" ct state new ct direction original {IS_PORT_MAPPED.replace("==", "!=")}'
    reserve = f"meta mark set meta mark | {PORT_RESERVED:#x}"
    reserved = [f"{others} {t} sport @{t}_ports {reserve}" for t in _TRANSPORTS]
    drawn = [
        f"{others} meta l4proto {t} ct reply ip daddr @outside ct reply proto-dst @{t}_ports drop"
        for t in _TRANSPORTS
    ]
    parts += [
        hooked("reserving", "filter", "srcnat - 2", *reserved, hook="postrouting"),
        hooked("drawn", "filter", "srcnat + 5", *drawn, hook="postrouting"),
        hooked("marking", "filter", "raw - 1", *marks, hook="prerouting"),
        hooked("prerouting", "nat", "dstnat - 1", *inbound),
        hooked("postrouting", "nat", "srcnat - 1", *outbound),
    ]
    body = "\n".join(parts)
    return f"{delete_text()}table {TABLE} {{\n{body}\n}}\n{_table6_text(size)}"


def _table6_text(size: int) -> str:
    key = "type ipv6_addr . inet_service"
    mark = f"meta mark set meta mark | {PORT_MAPPED:#x}"
    marks = [f'iifname "{WAN}" ip6 daddr . {t} dport @{t}_pinholes {mark}' for t in _TRANSPORTS]
    parts = [f" set {t}_pinholes {{ {key}; size {size}; }}" for t in _TRANSPORTS]
    body = "\n".join([*parts, hooked("marking", "filter", "mangle", *marks, hook="prerouting")])
    return f"table {TABLE6} {{\n{body}\n}}\n"


def delete_text() -> str:
    """The end of the table; no error where there is none."""
    return "".join(f"table {name}\ndelete table {name}\n" for name in (TABLE, TABLE6))


def elements(mappings: Iterable[Mapping], outside: str | None) -> set[tuple[str, str]]:
    """All elements, as (container, element): what must be in the kernel for these mappings."""
    found: set[tuple[str, str]] = {("outside", outside)} if outside is not None else set()
    sources: set[tuple[str, str, int]] = set()
    for mapping in mappings:
        t, port, inside = (
            mapping.transport,
            mapping.external_port,
            f"{mapping.internal_ip} . {mapping.internal_port}",
        )
        if mapping.is_pinhole:
            found.add((f"{t}_pinholes", inside))
            continue
        found |= {(f"{t}_ports", f"{port}"), (f"{t}_in", f"{port} : {inside}")}
        # Of several outside ports (UPnP allows it) one is where its packets come from.
        if outside is not None and mapping.inside not in sources:
            sources.add(mapping.inside)
            found |= {(f"{t}_inside", inside), (f"{t}_out", f"{inside} : {outside} . {port}")}
    return found


def change_text(before: set[tuple[str, str]], after: set[tuple[str, str]]) -> str:
    """The transaction from one set of elements to another; empty where nothing changes."""
    lines = [f"delete element {_table_of(name)} {name} {{ {e} }}" for name, e in sorted(before - after)]
    lines += [f"add element {_table_of(name)} {name} {{ {e} }}" for name, e in sorted(after - before)]
    return "".join(f"{line}\n" for line in lines)


def _table_of(container: str) -> str:
    return TABLE6 if container.endswith("_pinholes") else TABLE


def _containers(transport: str, size: int) -> tuple[str, ...]:
    inside = "ipv4_addr . inet_service"
    return (
        f" set {transport}_ports {{ type inet_service; size {size}; }}",
        f" set {transport}_inside {{ type {inside}; size {size}; }}",
        f" map {transport}_in {{ type inet_service : {inside}; size {size}; }}",
        f" map {transport}_out {{ type {inside} : {inside}; size {size}; }}",
    )
