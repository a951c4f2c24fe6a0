"""From a scenario to a lab: nodes are described, names and arguments get their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from netns_fixtures.errors import ScenarioError, TopologyError
from netns_fixtures.paths import LAB, find_verb
from netns_fixtures.scenario.marked import Key, Marks
from netns_fixtures.scenario.model import Action, Node
from netns_fixtures.scenario.values import from_plain
from netns_fixtures.verbs import signature_of, verb_names

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

#: An option of a node that is no parameter of it: the condition of its uplinks.
CONDITION = "condition"


def sections(kind: Any) -> dict[str, str]:
    """The sections of nodes of a class of labs, and the verb that makes one: those that take a name first."""
    return {
        f"{verb}s": verb
        for verb in sorted(verb_names(kind), reverse=True)
        if signature_of(kind, verb).names[:1] == ("name",)
    }


def describe(lab: Lab, nodes: Sequence[Node], marks: Marks) -> None:
    """Describe nodes in a lab, each after those that it names; touches no kernel. Raises ScenarioError."""
    waiting = list(nodes)
    while waiting:
        missing = {node.name for node in waiting}
        ready = next((node for node in waiting if not missing & _refs(node)), None)
        if ready is None:
            names = ", ".join(node.name for node in waiting)
            raise marks.error(waiting[0].key, f"they are behind each other: {names}")
        waiting.remove(ready)
        _add(lab, ready, marks)


def conditions(lab: Lab, nodes: Sequence[Node]) -> Iterator[Action]:
    """The conditions of nodes that are written beside their parameters, as verbs of their uplinks."""
    for node in nodes:
        if CONDITION in node.options and _is_sugar(lab, node):
            made = lab.routers.get(node.name)
            names = ["uplink"] if made is not None else list(lab.hosts[node.name].interfaces)
            given = {CONDITION: node.options[CONDITION]}
            for name in names:
                yield Action(f"{node.name}.{name}", CONDITION, given, None, node.key)


def call_of(lab: Lab, action: Action, marks: Marks) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The verb of an action, and its arguments. Raises ScenarioError with the place in the file."""
    try:
        target, verb = find_verb(lab, action.path)
        kind: Any = type(target)
        signature = signature_of(kind, verb)
        given = action.args
        if isinstance(given, tuple):
            places = range(len(given))
            keys: dict[str, Key] = dict(
                zip(signature.names, ((*action.key, "args", n) for n in places), strict=False)
            )
            bound = signature.bind(given, {})
        else:
            keys = {name: _key_of(action, name) for name in given}
            _check_names(signature.hint, keys, marks)
            bound = signature.bind((), given)
        if isinstance(bound.get("interface"), str) and hasattr(target, "interface"):
            target.interface(bound["interface"])
    except TopologyError as error:
        raise located(error, marks, action.key) from None
    return getattr(target, verb), {
        name: _meant(lab, signature.hint(name), value, marks, keys[name]) for name, value in bound.items()
    }


def located(error: TopologyError, marks: Marks, key: Key) -> ScenarioError:
    """An error with its place in the file; one that has a place already stays."""
    return error if isinstance(error, ScenarioError) else marks.error(key, error)


def _check_names(hint: Callable[[str], Any], keys: dict[str, Key], marks: Marks) -> None:
    for name, key in keys.items():
        try:
            hint(name)
        except TopologyError as error:
            raise located(error, marks, key) from None


def _meant(lab: Lab, hint: Any, value: Any, marks: Marks, key: Key) -> Any:
    try:
        return from_plain(lab, hint, value)
    except TopologyError as error:
        raise located(error, marks, key) from None


def _key_of(action: Action, name: str) -> Key:
    # The options of a node stand in it, the arguments of a step in its "args".
    return (
        (*action.key, "args", name) if action.key[:1] in (("setup",), ("timeline",)) else (*action.key, name)
    )


def _refs(node: Node) -> set[str]:
    """Every text among the options: the names of other nodes, perhaps."""
    return set(_texts(list(node.options.values())))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        # Keys may be names, too: of regions with a latency to each.
        for each in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(each)


def _is_sugar(lab: Lab, node: Node) -> bool:
    kind: Any = type(lab)
    return node.kind in ("router", "host") and CONDITION not in signature_of(kind, node.kind).names


def _add(lab: Lab, node: Node, marks: Marks) -> None:
    options = {name: v for name, v in node.options.items() if name != CONDITION or not _is_sugar(lab, node)}
    verb, arguments = call_of(
        lab, Action(LAB, node.kind, {"name": node.name, **options}, None, node.key), marks
    )
    try:
        verb(**arguments)
    except TopologyError as error:
        raise located(error, marks, node.key) from None
