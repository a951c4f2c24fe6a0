"""A lab's topology as plain data: where each node is drawn, and what each interface was at each moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Changes that are kept per lab; a storm that makes more is drawn as it was after that many.
MAX_CHANGES = 2000
#: Columns of a network beyond which hosts of one router stand below each other: at 190 pixels each, a wide window.
MAX_COLUMNS = 7
#: The node that is always there.
EXCHANGE = "exchange"
#: The moment before everything else: as it was described.
_ALWAYS = float("-inf")

#: An interface at one moment: [segment, addresses, admin up, carrier, condition or ""].
State = list[Any]


@dataclass(slots=True)
class Spot:
    """A node of the drawing. ``x`` counts columns, ``level`` rows from the exchange down.

    ``stack``: in a wide network, the place of a host among those that stand below each other, from 1.
    """

    name: str
    kind: str
    nat: str = ""
    parent: str = ""
    x: float = 0.0
    level: int = 0
    stack: int = 0
    interfaces: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "nat": self.nat,
            "parent": self.parent,
            "x": self.x,
            "level": self.level,
            "stack": self.stack,
            "interfaces": self.interfaces,
        }


class TopologyLog:
    """Remembers the interfaces of a lab as they change. Made before or after the lab is built."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self._states: dict[str, State] = {}
        #: (time, the interfaces that are others since then).
        self.changes: list[tuple[float, dict[str, State]]] = []
        self._look(_ALWAYS)
        self._unsubscribe: Callable[[], None] | None = lab.on_event(self._hear)

    def close(self) -> None:
        """Watch no longer."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _hear(self, event: Any) -> None:
        # Questions come in the name server's thread, at any time, and change nothing.
        if event.kind != "dns_query":
            self._look(event.time)

    def _look(self, time: float) -> None:
        if len(self.changes) >= MAX_CHANGES:
            return
        states = interface_states(self.lab)
        changed = {key: state for key, state in states.items() if self._states.get(key) != state}
        if changed:
            self.changes.append((time, changed))
            self._states = states

    def plain(self, zero: float) -> dict[str, Any]:
        """The drawing as JSON takes it; times relative to ``zero``."""
        spots = layout(self.lab)
        first = self.changes[0][1] if self.changes else {}
        later = [(time, states) for time, states in self.changes if time != _ALWAYS]
        # Nodes described later are drawn from the beginning, as they first were.
        start = dict(first)
        for _time, states in later:
            for key, state in states.items():
                start.setdefault(key, state)
        return {
            "nodes": [spot.plain() for spot in spots.values()],
            "start": start,
            "changes": [[round(time - zero, 6), states] for time, states in later],
        }


def interface_states(lab: Any) -> dict[str, State]:
    """Every interface of a lab by "node/interface"; empty for a lab that is none of namespaces."""
    found: dict[str, State] = {}
    for name, node in _nodes(lab).items():
        for interface in node.interfaces.values():
            plug = interface.plug
            conditions = (interface.egress_condition, interface.ingress_condition)
            texts = dict.fromkeys(str(c) for c in conditions if not c.is_clear)
            found[f"{name}/{interface.name}"] = [
                plug.segment.name,
                interface.addresses,
                interface.admin_up,
                interface.has_carrier,
                " / ".join(texts),
            ]
    return found


def layout(lab: Any) -> dict[str, Spot]:
    """Where nodes are drawn: a tree under the exchange, hosts under the router that they begin at."""
    nodes = _nodes(lab)
    if not nodes:
        return {}
    spots = {EXCHANGE: Spot(EXCHANGE, "exchange")}
    children: dict[str, list[str]] = {EXCHANGE: []}
    routers: Mapping[str, Any] = lab.routers
    for name, router in routers.items():
        parent = router.upstream.name if router.upstream is not None else EXCHANGE
        balancers = [f"balancer {each.name}" for each in lab.balancers.values() if each.router is router]
        label = ", ".join((str(router.nat.kind), *balancers))
        spots[name] = Spot(name, "router", label, parent, interfaces=list(router.interfaces))
        children.setdefault(parent, []).append(name)
    for name, host in lab.hosts.items():
        parent = _first_uplink(host, routers)
        spots[name] = Spot(name, "host", "", parent, interfaces=list(host.interfaces))
        children.setdefault(parent, []).append(name)
    if _place(EXCHANGE, 0.0, 0, spots, children) > MAX_COLUMNS:
        _stack(spots, children)
        _place(EXCHANGE, 0.0, 0, spots, children)
    return spots


def _stack(spots: dict[str, Spot], children: Mapping[str, list[str]]) -> None:
    """Let the hosts of each router that has several stand below each other."""
    for names in children.values():
        hosts = [name for name in names if spots[name].kind == "host"]
        if len(hosts) > 1:
            for place, name in enumerate(hosts, 1):
                spots[name].stack = place


def _place(
    name: str, left: float, level: int, spots: dict[str, Spot], children: Mapping[str, list[str]]
) -> float:
    """Place a node in the middle above its children; returns the width of its tree in columns."""
    width = 0.0
    for child in children.get(name, ()):
        if spots[child].stack > 1:  # below the first, in its column
            spots[child].x, spots[child].level = left + width - 0.5, level + 1
        else:
            width += _place(child, left + width, level + 1, spots, children)
    width = max(width, 1.0)
    spots[name].x, spots[name].level = left + width / 2, level
    return width


def _first_uplink(host: Any, routers: Mapping[str, Any]) -> str:
    segment = str(next(iter(host.interfaces.values())).plug.segment.name)
    return segment if segment in routers else EXCHANGE


def _nodes(lab: Any) -> dict[str, Any]:
    return {**getattr(lab, "routers", {}), **getattr(lab, "hosts", {})}
