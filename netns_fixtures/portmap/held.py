"""Whose flows have an outside port already: asked of the NAT's own tables, where it keeps some."""

from __future__ import annotations

import re

from netns_fixtures.agent.nft import RuleLoader
from netns_fixtures.errors import CommandFailed

#: The end of what nft prints of a map's element: ``: 192.168.1.10 . 4444 }``.
_INSIDE = re.compile(r": (\d+\.\d+\.\d+\.\d+) \. (\d+)\s*}")


def holder_of(rules: RuleLoader, transport: str, port: int, outside: str | None) -> tuple[str, int] | None:
    """The inside end that the NAT of this namespace has mapped to an outside port; None where it knows of none."""
    # See netns_fixtures/nat: the map "ext" says where an outside port leads; in a pool, an address and a port.
    name = "ext" if transport == "udp" else f"{transport}_ext"
    for key in (f"{port}", f"{outside} . {port}"):
        try:
            found = _INSIDE.search(rules.load(f"get element ip nat {name} {{ {key} }}"))
        except CommandFailed:
            continue  # no such element, or no such map: nft does not tell them apart
        if found:
            return found[1], int(found[2])
    return None
