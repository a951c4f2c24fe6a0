"""Hypothesis strategies: random networks, and storms of events over them. Needs the package ``hypothesis``.

Everything is a :class:`~netns_fixtures.Scenario`, so a failing example prints as a scenario file. Examples shrink
towards one router without NAT, one host, no events, and no time between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from netns_fixtures.nat import NatConfig
from netns_fixtures.scenario import Action, Node, Scenario
from netns_fixtures.scenario.values import to_plain

_T = TypeVar("_T")
#: The kind of an event, and two numbers that say where: they count round among what a network has.
_Drawn = tuple[str, int, int]

#: The simplest first: examples shrink towards it.
NATS = ("none", "open", "moderate", "strict", "cgnat")
CONDITIONS = ("lan", "wifi", "wifi-bad", "mobile-3g")
#: Times are multiples of this: shrunk examples are easy to read, and no verb takes longer on an idle machine.
TICK = 0.01


def topologies(
    *, max_routers: int = 4, max_hosts: int = 3, nats: Sequence[str | NatConfig] = NATS, dhcp: bool = False
) -> st.SearchStrategy[Scenario]:
    """A network: routers at the exchange or behind each other, hosts with one uplink or two.

    ``dhcp``: some hosts lease their addresses.
    """
    number = st.integers(0, max_routers - 1)
    routers = st.lists(
        st.tuples(st.sampled_from(nats), number, st.booleans()), min_size=1, max_size=max_routers
    )
    plugged = st.lists(number, min_size=1, max_size=2)
    hosts = st.lists(plugged, min_size=1, max_size=max_hosts)
    # A bit per host, drawn only where it matters: what is drawn without stays as it was.
    leases = [st.integers(0, 2**max_hosts - 1)] if dhcp else []
    return st.builds(_network, routers, hosts, st.integers(0, 1000), *leases)


def events(scenario: Scenario, among: Sequence[str] | None = None) -> st.SearchStrategy[Action]:
    """One thing that can happen in a network; ``among``: only to these hosts and routers."""
    places = _Places.of(scenario, among)
    return _DRAWN.map(lambda drawn: _event(places, drawn)).filter(bool).map(_sure)


def storms(
    topology: Scenario | st.SearchStrategy[Scenario] | None = None,
    *,
    among: Sequence[str] | None = None,
    max_events: int = 8,
    max_gap: float = 0.1,
    settle: bool = False,
) -> st.SearchStrategy[Scenario]:
    """A network in which much happens, each event ``max_gap`` seconds after the one before, at most.

    ``topology``: a network, or a strategy for one (default: ``topologies()``). ``settle``: the last events bring
    every interface up again, with its carrier and without a condition.
    """
    networks = topologies() if topology is None else topology
    if isinstance(networks, Scenario):
        networks = st.just(networks)
    gap = st.integers(0, max(0, round(max_gap / TICK)))
    # Events are drawn apart from the network: so one stays what it is while nodes are taken away.
    drawn = st.lists(st.tuples(gap, _DRAWN), max_size=max_events)
    return st.builds(lambda network, events: _storm(network, events, among, settle), networks, drawn)


def _network(
    routers: Sequence[tuple[str | NatConfig, int, bool]],
    hosts: Sequence[Sequence[int]],
    seed: int,
    leases: int = 0,
) -> Scenario:
    nodes = [_router(number, *each) for number, each in enumerate(routers, 1)]
    nodes += [
        _host(number, each, len(routers), bool(leases >> number - 1 & 1))
        for number, each in enumerate(hosts, 1)
    ]
    return Scenario(name="network", seed=seed, nodes=tuple(nodes))


def _storm(
    scenario: Scenario, drawn: Sequence[tuple[int, _Drawn]], among: Sequence[str] | None, settle: bool
) -> Scenario:
    places = _Places.of(scenario, among)
    steps: list[Action] = []
    ticks = 0
    for gap, each in drawn:
        ticks += gap
        action = _event(places, each)
        if action is not None:  # else there is nothing in this network that it could happen to
            steps.append(replace(action, at=round(ticks * TICK, 3)))
    if settle:
        end = round((ticks + 1) * TICK, 3)
        steps += [replace(action, at=end) for action in _calm(steps)]
    return replace(scenario, name="storm", steps=tuple(steps))


def _router(number: int, nat: str | NatConfig, upstream: int, ipv6: bool) -> Node:
    options: dict[str, Any] = {"nat": to_plain(nat)}
    # Behind one that stands before it; 0, and what would not be there, is the exchange.
    if 0 < upstream < number:
        options["upstream"] = f"r{upstream}"
    if ipv6:
        options["ipv6"] = False
    return Node("router", f"r{number}", options)


def _host(number: int, plugged: Sequence[int], routers: int, dhcp: bool) -> Node:
    names = [f"r{min(each + 1, routers)}" for each in plugged]
    uplink: Any = names[0] if len(names) == 1 else {f"eth{n}": name for n, name in enumerate(names)}
    return Node("host", f"h{number}", {"uplink": uplink, **({"dhcp": True} if dhcp else {})})


@dataclass(frozen=True, slots=True)
class _Places:
    """Where something can happen: interfaces of hosts, routers, and those among them that translate."""

    links: tuple[tuple[str, str], ...]
    routers: tuple[str, ...]
    nats: tuple[str, ...]
    #: All routers, also where nothing may happen: one can be plugged into them.
    targets: tuple[str, ...]

    @classmethod
    def of(cls, scenario: Scenario, among: Sequence[str] | None) -> _Places:
        routers = [node for node in scenario.nodes if node.kind == "router"]
        mine = [node for node in routers if among is None or node.name in among]
        return cls(
            tuple(
                (node.name, interface)
                for node in scenario.nodes
                if node.kind == "host" and (among is None or node.name in among)
                for interface in _interfaces(node)
            ),
            tuple(node.name for node in mine),
            tuple(node.name for node in mine if node.options.get("nat", "none") != "none"),
            tuple(node.name for node in routers),
        )


def _interfaces(host: Node) -> list[str]:
    uplink = host.options["uplink"]
    return list(uplink) if isinstance(uplink, dict) else ["eth0"]


def _event(places: _Places, drawn: _Drawn) -> Action | None:
    kind, which, other = drawn
    return _KINDS[kind](places, which, other)


def _at_link(
    verb: str, args: Mapping[str, Any] | None = None
) -> Callable[[_Places, int, int], Action | None]:
    def event(places: _Places, which: int, _other: int) -> Action | None:
        return Action(".".join(_pick(places.links, which)), verb, args or {}) if places.links else None

    return event


def _at_host(verb: str) -> Callable[[_Places, int, int], Action | None]:
    def event(places: _Places, which: int, other: int) -> Action | None:
        if not places.links:
            return None
        host, interface = _pick(places.links, which)
        router = {"router": _pick(places.targets, other)} if verb == "replug" else {}
        return Action(host, verb, {**router, "interface": interface})

    return event


def _at_router(part: str, verb: str, *, nat: bool = False) -> Callable[[_Places, int, int], Action | None]:
    def event(places: _Places, which: int, _other: int) -> Action | None:
        routers = places.nats if nat else places.routers
        return Action(_pick(routers, which) + part, verb) if routers else None

    return event


def _condition(places: _Places, which: int, other: int) -> Action | None:
    return _at_link("condition", {"condition": _pick(CONDITIONS, other)})(places, which, other)


def _pick(choices: Sequence[_T], number: int) -> _T:
    return choices[number % len(choices)]


def _sure(action: Action | None) -> Action:
    assert action is not None, "filtered before"
    return action


#: Everything that can happen, the simplest first. Whatever happened before, none of it is refused.
_KINDS: Mapping[str, Callable[[_Places, int, int], Action | None]] = {
    "down": _at_link("down"),
    "up": _at_link("up"),
    "carrier lost": _at_link("carrier", {"on": False}),
    "carrier back": _at_link("carrier", {"on": True}),
    "renumber": _at_host("renumber"),
    "default route": _at_host("set_default_route"),
    "replug": _at_host("replug"),
    "condition": _condition,
    "rebind": _at_router(".nat", "rebind", nat=True),
    "flush": _at_router(".nat", "flush", nat=True),
    "renumber LAN": _at_router("", "renumber"),
    "uplink down": _at_router(".uplink", "down"),
    "uplink up": _at_router(".uplink", "up"),
}


_NUMBER = st.integers(0, 15)
_DRAWN: st.SearchStrategy[_Drawn] = st.tuples(st.sampled_from(list(_KINDS)), _NUMBER, _NUMBER)


def _calm(steps: Sequence[Action]) -> Iterator[Action]:
    """What undoes the outages and conditions that steps leave behind."""
    last: dict[tuple[str, str], Action] = {}
    for step in steps:
        verb = "up" if step.verb == "down" else step.verb
        if verb in ("up", "carrier", "condition"):
            last[step.target, verb] = step
    for (target, verb), step in last.items():
        if step.verb == "down":
            yield Action(target, "up")
        elif verb == "carrier" and step.args == {"on": False}:
            yield Action(target, "carrier", {"on": True})
        elif verb == "condition":
            yield Action(target, "condition", {"condition": None})
