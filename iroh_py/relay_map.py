"""The relays that an endpoint may choose from (PROTOCOL.md 5.7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from iroh_py.errors import LocalProtocolError
from iroh_py.relay_url import RelayUrl

#: Where the relays of iroh answer STUN (PROTOCOL.md 7.11).
STUN_PORT = 3478
#: Every relay of the map gets probes in a full report; more than this would be a crowd, not a choice.
MAX_RELAYS = 64


@dataclass(frozen=True, slots=True)
class RelayNode:
    """One relay. ``stun_port`` None: it answers no STUN. ``stun_only``: it never becomes the home relay."""

    url: RelayUrl
    stun_port: int | None = STUN_PORT
    stun_only: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.url, RelayUrl):
            object.__setattr__(self, "url", RelayUrl.parse(self.url))
        if self.stun_only and self.stun_port is None:
            raise LocalProtocolError(f"{self.url} is for STUN only, and has no STUN port")


def relay_map(relays: Iterable[RelayNode | str]) -> tuple[RelayNode, ...]:
    """The relays in the order of their URLs, each once. Raises TicketError, LocalProtocolError (too many)."""
    nodes: dict[RelayUrl, RelayNode] = {}
    for relay in relays:
        node = relay if isinstance(relay, RelayNode) else RelayNode(RelayUrl.parse(relay))
        nodes.setdefault(node.url, node)
    if len(nodes) > MAX_RELAYS:
        raise LocalProtocolError(f"{len(nodes)} relays are too many, at most {MAX_RELAYS}")
    return tuple(nodes[url] for url in sorted(nodes))
