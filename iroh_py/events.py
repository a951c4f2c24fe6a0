"""What an endpoint tells about itself: small frozen events, the one source for watchers, timelines and logs.

Every event carries ``time`` (seconds on the endpoint's network clock) and a ``text`` for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iroh_py.keys import NodeId
from iroh_py.network import Addr


@dataclass(frozen=True, slots=True)
class Event:
    """The common part of every event."""

    time: float

    @property
    def kind(self) -> str:
        """The event's name in logs and timelines."""
        return _NAMES.get(type(self).__name__, type(self).__name__)

    @property
    def text(self) -> str:
        """The event as a sentence."""
        return self.kind

    def fields(self) -> dict[str, Any]:
        """The event as plain values, for JSON."""
        names = [n for base in reversed(type(self).__mro__) for n in getattr(base, "__slots__", ())]
        return {name: _plain(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True)
class NodeEvent(Event):
    """An event about one remote node."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NetworkChanged(Event):
    """The network monitor saw a change that matters."""

    major: bool
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        return ", ".join(self.reasons) + (" [major]" if self.major else "")


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """Our own direct addresses are others now."""

    addresses: tuple[Addr, ...]

    @property
    def text(self) -> str:
        return "own addresses " + (", ".join(f"{ip}:{port}" for ip, port in self.addresses) or "none")


@dataclass(frozen=True, slots=True)
class HomeRelayChanged(Event):
    """Another home relay was chosen (None: none is usable)."""

    url: str | None

    @property
    def text(self) -> str:
        return f"home relay {self.url or 'none'}"


@dataclass(frozen=True, slots=True)
class RelayStateChanged(Event):
    """A relay connection came or went."""

    url: str
    connected: bool
    detail: str = ""

    @property
    def text(self) -> str:
        return f"{self.url} {'connected' if self.connected else 'closed'}" + (
            f" ({self.detail})" if self.detail else ""
        )


@dataclass(frozen=True, slots=True)
class ReportMade(Event):
    """Netcheck finished a report: ``latencies`` are (relay URL, seconds), nearest first."""

    full: bool
    udp: bool
    mapping_varies: bool | None
    captive_portal: bool | None
    latencies: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        relays = ", ".join(f"{url} {seconds * 1000:.1f} ms" for url, seconds in self.latencies)
        udp = "UDP" if self.udp else "no UDP"
        kind = "full" if self.full else "incremental"
        return f"{kind} report: {udp}, {relays or 'no relay answered'}"


@dataclass(frozen=True, slots=True)
class PingsSent(NodeEvent):
    """A round of pings left for the known paths of a node."""

    paths: tuple[str, ...]
    why: str

    @property
    def text(self) -> str:
        return f"pings to {', '.join(self.paths)} ({self.why})"


@dataclass(frozen=True, slots=True)
class PathProven(NodeEvent):
    """A pong came back: packets flow both ways on this path."""

    path: str
    latency: float

    @property
    def text(self) -> str:
        return f"{self.path} proven, {self.latency * 1000:.1f} ms"


@dataclass(frozen=True, slots=True)
class PathChanged(NodeEvent):
    """Payload to a node goes another way from now on. ``relayed`` tells which sort of path it is."""

    path: str
    before: str
    relayed: bool = False
    latency: float | None = None

    @property
    def text(self) -> str:
        return f"path {self.before or 'none'} -> {self.path or 'none'}"


@dataclass(frozen=True, slots=True)
class PathSuspected(NodeEvent):
    """The path in use may be dead: it is questioned by pings, and other ways are tried at the same time."""

    path: str
    why: str

    @property
    def text(self) -> str:
        return f"{self.path} suspect: {self.why}"


@dataclass(frozen=True, slots=True)
class AnswerLate(NodeEvent):
    """An answer to data is later than the path explains: whether the relay still works is found out, in case."""

    path: str

    @property
    def text(self) -> str:
        return f"an answer by {self.path} is late"


@dataclass(frozen=True, slots=True)
class PeerMoved(NodeEvent):
    """The node was heard from an address that is not the one in use."""

    path: str
    how: str

    @property
    def text(self) -> str:
        return f"heard from {self.path} ({self.how})"


@dataclass(frozen=True, slots=True)
class CallMeMaybeSent(NodeEvent):
    """We told a node, over the relay, where to try and reach us."""

    addresses: tuple[Addr, ...]

    @property
    def text(self) -> str:
        return f"call-me-maybe sent with {len(self.addresses)} addresses"


@dataclass(frozen=True, slots=True)
class CallMeMaybeReceived(NodeEvent):
    """A node told us, over the relay, where to try and reach it."""

    addresses: tuple[Addr, ...]

    @property
    def text(self) -> str:
        return f"call-me-maybe received with {len(self.addresses)} addresses"


@dataclass(frozen=True, slots=True)
class HolePunched(NodeEvent):
    """The node is reachable directly, and was not before."""

    path: str

    @property
    def text(self) -> str:
        return f"direct path {self.path}"


@dataclass(frozen=True, slots=True)
class StaysRelayed(NodeEvent):
    """No direct path to a node could be had, port prediction included; it is tried again, but rarely."""

    why: str

    @property
    def text(self) -> str:
        return f"stays relayed: {self.why}"


@dataclass(frozen=True, slots=True)
class NodeDiscovered(NodeEvent):
    """A discovery service told where a node may be."""

    addresses: tuple[Addr, ...]
    relay: str | None
    provenance: str

    @property
    def text(self) -> str:
        places = [f"{ip}:{port}" for ip, port in self.addresses] + ([self.relay] if self.relay else [])
        return f"{self.provenance} says {', '.join(places) or 'nothing'}"


@dataclass(frozen=True, slots=True)
class ConnectionOpened(NodeEvent):
    """A QUIC connection with a node is established."""

    alpn: str
    dialled: bool

    @property
    def text(self) -> str:
        return f"connection {'to' if self.dialled else 'from'} {self.node.fmt_short()} ({self.alpn})"


@dataclass(frozen=True, slots=True)
class ConnectionClosed(NodeEvent):
    """A QUIC connection ended; ``reason`` is a sentence."""

    reason: str

    @property
    def text(self) -> str:
        return f"connection closed: {self.reason}"


@dataclass(frozen=True, slots=True)
class SocketRebound(Event):
    """A UDP socket was opened again after an error or a change of network."""

    local: str
    why: str

    @property
    def text(self) -> str:
        return f"socket {self.local} bound again ({self.why})"


#: Names of the original's log events where it has one for the same thing.
_NAMES = {
    "NetworkChanged": "netmon",
    "AddressesChanged": "addresses",
    "HomeRelayChanged": "relay.home_changed",
    "RelayStateChanged": "relay",
    "ReportMade": "netcheck",
    "PingsSent": "ping.sent",
    "PathProven": "pong.recv",
    "PathChanged": "path",
    "PathSuspected": "suspect",
    "AnswerLate": "late",
    "PeerMoved": "moved",
    "CallMeMaybeSent": "call-me-maybe.sent",
    "CallMeMaybeReceived": "call-me-maybe.recv",
    "HolePunched": "holepunched",
    "StaysRelayed": "stays-relayed",
    "NodeDiscovered": "discovery",
    "ConnectionOpened": "connected",
    "ConnectionClosed": "closed",
    "SocketRebound": "rebind",
}


def _plain(value: Any) -> Any:
    """A JSON-ready form of a field's value."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, NodeId) else value
