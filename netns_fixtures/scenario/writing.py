"""From a lab, or a scenario, to the values of a file and its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from netns_fixtures.errors import TopologyError
from netns_fixtures.paths import path_of
from netns_fixtures.scenario.building import sections
from netns_fixtures.scenario.marked import Dumper
from netns_fixtures.scenario.model import FORMAT, Action, Command, Node, Repeated
from netns_fixtures.scenario.values import to_plain
from netns_fixtures.tape import Call
from netns_fixtures.verbs import is_handle, signature_of

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.scenario.scenario import Scenario

#: Wide enough for a step with its arguments in one line.
_WIDTH = 110
#: Times in a file: microseconds are finer than any verb.
_DIGITS = 6


@dataclass(slots=True)
class Recorded:
    """What a lab is made of, what was done to it, and what of that cannot be written, as sentences."""

    nodes: list[Node] = field(default_factory=list)
    setup: list[Action] = field(default_factory=list)
    steps: list[Action] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


def recorded(lab: Lab) -> Recorded:
    """What the tape of a lab says. Nodes that were added to a running lab are steps."""
    makers = set(sections(type(lab)).values())
    found = Recorded()
    if not lab.tape.complete:
        found.gaps.append("the first verbs were forgotten: there were too many")
    for call in lab.tape.calls:
        try:
            args = _arguments(call)
            if call.target is lab and call.verb in makers and not call.built:
                found.nodes.append(Node(call.verb, args.pop("name"), args))
            elif not call.built:
                found.setup.append(Action(path_of(call.target), call.verb, args))
            else:
                at = max(0.0, round(call.time - (lab.tape.zero or call.time), _DIGITS))
                found.steps.append(Action(path_of(call.target), call.verb, args, at))
        except TopologyError as error:
            found.gaps.append(f"{call.verb}: {error}")
    return found


def values_of(scenario: Scenario, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The values of a scenario's file."""
    values: dict[str, Any] = {"scenario": FORMAT, "name": scenario.name}
    if scenario.seed is not None:
        values["seed"] = scenario.seed
    if scenario.link_engine is not None:
        values["link_engine"] = scenario.link_engine
    values |= _sections(scenario.nodes, kinds)
    values["run"] = [_command(each) for each in scenario.run]
    values["setup"] = [_step(each) for each in scenario.setup]
    values["timeline"] = [_step(each) for each in scenario.steps]
    values["test"] = dict(scenario.test)
    optional = ("run", "setup", "timeline", "test", "order")
    return {name: value for name, value in values.items() if value or name not in optional}


def text_of(values: Mapping[str, Any]) -> str:
    """The YAML text of values, in their order."""
    text: str = yaml.dump(
        dict(values),
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=_WIDTH,
        default_flow_style=None,
    )
    return text


def _arguments(call: Call) -> dict[str, Any]:
    kind: Any = type(call.target)
    bound = signature_of(kind, call.verb).bind(call.args, call.kwargs)
    return {name: _at_home(call, to_plain(value)) for name, value in bound.items()}


def _at_home(call: Call, value: Any) -> Any:
    """An interface of the node itself goes by its own name, as the verbs of a host take it."""
    own = (
        f"{path_of(call.target)}." if is_handle(call.target) and hasattr(call.target, "interfaces") else None
    )
    return value.removeprefix(own) if own and isinstance(value, str) else value


def _sections(nodes: Sequence[Node], kinds: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    section_of = {verb: section for section, verb in kinds.items()}
    for node in nodes:
        found.setdefault(section_of[node.kind], {})[node.name] = dict(node.options)
    written = [name for section in found.values() for name in section]
    order = [node.name for node in nodes]
    # Addresses depend on the order in which nodes were described.
    return {**found, "order": order if written != order else None}


def _command(command: Command) -> dict[str, Any]:
    value: dict[str, Any] = {"on": command.host, "command": list(command.argv)}
    if command.ready:
        value["ready"] = command.ready
    return value | ({"env": dict(command.env)} if command.env else {})


def _step(step: Action | Repeated) -> dict[str, Any]:
    action = step.action if isinstance(step, Repeated) else step
    value: dict[str, Any] = {} if action.at is None else {"at": action.at}
    if isinstance(step, Repeated):
        value |= {"every": step.interval, "times": step.times}
    value["do"] = action.path
    if action.args:
        value["args"] = list(action.args) if isinstance(action.args, tuple) else dict(action.args)
    return value
