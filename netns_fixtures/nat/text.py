"""Pieces of nftables text."""

from __future__ import annotations

from collections.abc import Sequence

#: Names of a router's interfaces, which the rules match.
WAN = "wan"
LAN = "lan"
#: One entry per outside port.
MAP_SIZE = 65536
#: The bit of a packet's mark that says: to or from a mapped port, which ``netns_fixtures.portmap`` translates
#: before the NAT, and which the NAT's filter lets pass.
PORT_MAPPED = 0x1000_0000
IS_PORT_MAPPED = f"meta mark & {PORT_MAPPED:#x} == {PORT_MAPPED:#x}"
#: The bit of a packet that leaves for the outside by a port that is mapped for another: no NAT may keep that port.
PORT_RESERVED = 0x2000_0000
IS_RESERVED = f"meta mark & {PORT_RESERVED:#x} == {PORT_RESERVED:#x}"
#: What answers a packet for which there is no flow, such as the RST of a firewall, is no flow that a NAT may translate.
IS_ANSWER = "ct direction reply"
#: Everything that the rules of a NAT live in.
TABLES = ("ip nat", "inet local", "inet filter")


def table(name: str, *parts: str) -> str:
    """A table around sets and chains."""
    body = "\n".join(part for part in parts if part)
    return f"table {name} {{\n{body}\n}}"


def dynamic(name: str, kind: str, timeout: float, elements: Sequence[str] = ()) -> str:
    """A set or map that rules fill. ``kind`` is what follows its name; entries live ``timeout`` seconds."""
    flags = f"flags dynamic,timeout\n  timeout {milliseconds(timeout)}\n  size {MAP_SIZE}"
    return f" {name} {{ {kind}\n  {flags}\n{_elements(elements)} }}"


def fixed(name: str, kind: str, elements: Sequence[str]) -> str:
    """A set or map that has all its elements from the start; each may have a timeout."""
    return f" {name} {{ {kind}\n  flags timeout\n{_elements(elements)} }}"


def any_of(values: Sequence[str]) -> str:
    """One value, or a set of them."""
    return values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"


def ring(size: int) -> str:
    """Counts packets: 0 to size - 1, and again."""
    return f"numgen inc mod {size}"


def milliseconds(seconds: float) -> str:
    """A time as nft wants it, "4m200ms": no number in it may be large. At least 1 ms."""
    left, parts = max(1, round(seconds * 1000)), []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join([*parts, f"{left}ms"] if left or not parts else parts)


def hooked(name: str, kind: str, priority: str, *rules: str, hook: str = "") -> str:
    """A chain that the kernel calls."""
    head = f"type {kind} hook {hook or name} priority {priority}; policy accept;"
    return f" chain {name} {{ {head}\n{_lines(rules)}\n }}"


def called(name: str, *rules: str) -> str:
    """A chain that other chains jump to."""
    return f" chain {name} {{\n{_lines(rules)}\n }}"


def delete_tables() -> str:
    """Drop all that an earlier text made, or might have."""
    # "table x" creates an empty table where there is none, so that the delete cannot fail.
    return "".join(f"table {name}\ndelete table {name}\n" for name in TABLES)


def _lines(rules: tuple[str, ...]) -> str:
    return "\n".join(f"  {rule}" for rule in rules if rule)


def _elements(elements: Sequence[str]) -> str:
    return f"  elements = {{ {', '.join(elements)} }}\n" if elements else ""
