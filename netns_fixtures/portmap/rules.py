"""The nftables rules of port mappings: a table of their own beside the NAT's. Pure text.

A mapped port is translated before the NAT's own rules see it (priorities one lower), in both directions: inbound
packets go to the inside address, and what that inside socket sends comes from the mapped port, to every destination
(RFC 6887 section 11: one mapping per internal address and port). These packets carry a mark, by which the NAT leaves
them alone and its filter lets them pass.
"""

from __future__ import annotations

from collections.abc import Iterable

from netns_fixtures.nat.text import PORT_MAPPED, WAN, hooked
from netns_fixtures.portmap.table import Mapping

TABLE = "ip portmap"
_TRANSPORTS = ("udp", "tcp")


def table_text(size: int) -> str:
    """The empty table, replacing an earlier one. ``size``: how many mappings there may be."""
    parts = [part for transport in _TRANSPORTS for part in _containers(transport, size)]
    mark = f"meta mark set meta mark | {PORT_MAPPED:#x}"
    marks = [f'iifname "{WAN}" {t} dport @{t}_ports {mark}' for t in _TRANSPORTS]
    # To the router's own addresses go hairpins, which are the NAT's.
    inside = f'iifname != "{WAN}" fib daddr type unicast'
    marks += [f"{inside} ip saddr . {t} sport @{t}_inside {mark}" for t in _TRANSPORTS]
    inbound = [f'iifname "{WAN}" dnat to {t} dport map @{t}_in' for t in _TRANSPORTS]
    outbound = [f'oifname "{WAN}" snat to ip saddr . {t} sport map @{t}_out' for t in _TRANSPORTS]
    parts += [
        hooked("marking", "filter", "raw - 1", *marks, hook="prerouting"),
        hooked("prerouting", "nat", "dstnat - 1", *inbound),
        hooked("postrouting", "nat", "srcnat - 1", *outbound),
    ]
    body = "\n".join(parts)
    return f"{delete_text()}table {TABLE} {{\n{body}\n}}\n"


def delete_text() -> str:
    """The end of the table; no error where there is none."""
    return f"table {TABLE}\ndelete table {TABLE}\n"


def elements(mappings: Iterable[Mapping], outside: str | None) -> set[tuple[str, str]]:
    """All elements, as (container, element): what must be in the kernel for these mappings."""
    found: set[tuple[str, str]] = set()
    sources: set[tuple[str, str, int]] = set()
    for mapping in mappings:
        t, port, inside = (
            mapping.transport,
            mapping.external_port,
            f"{mapping.internal_ip} . {mapping.internal_port}",
        )
        found |= {(f"{t}_ports", f"{port}"), (f"{t}_in", f"{port} : {inside}")}
        # Of several outside ports (UPnP allows it) one is where its packets come from.
        if outside is not None and mapping.inside not in sources:
            sources.add(mapping.inside)
            found |= {(f"{t}_inside", inside), (f"{t}_out", f"{inside} : {outside} . {port}")}
    return found


def change_text(before: set[tuple[str, str]], after: set[tuple[str, str]]) -> str:
    """The transaction from one set of elements to another; empty where nothing changes."""
    lines = [f"delete element {TABLE} {name} {{ {e} }}" for name, e in sorted(before - after)]
    lines += [f"add element {TABLE} {name} {{ {e} }}" for name, e in sorted(after - before)]
    return "".join(f"{line}\n" for line in lines)


def _containers(transport: str, size: int) -> tuple[str, ...]:
    inside = "ipv4_addr . inet_service"
    return (
        f" set {transport}_ports {{ type inet_service; size {size}; }}",
        f" set {transport}_inside {{ type {inside}; size {size}; }}",
        f" map {transport}_in {{ type inet_service : {inside}; size {size}; }}",
        f" map {transport}_out {{ type {inside} : {inside}; size {size}; }}",
    )
