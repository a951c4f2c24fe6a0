"""From the values of a file to a scenario: only the shape is checked here, names and types when it is built."""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Iterator
from typing import Any

from netns_fixtures.link_engine import LinkEngine
from netns_fixtures.scenario.marked import Key, Marks
from netns_fixtures.scenario.model import FORMAT, Action, Command, Node, Repeated, is_time
from netns_fixtures.timeline import MAX_STEPS, MAX_TIME

#: Sections that are no nodes.
PARTS = ("scenario", "name", "seed", "link_engine", "order", "setup", "run", "timeline", "test")
_STEP = ("at", "every", "times", "on", "do", "args")
_COMMAND = ("on", "command", "ready", "env")


class Reader:
    """Reads one file. ``kinds`` are the sections of nodes: {"routers": "router"}."""

    def __init__(self, marks: Marks, kinds: dict[str, str]) -> None:
        self._marks = marks
        self._kinds = kinds

    def read(self, value: Any) -> dict[str, Any]:
        """The fields of a Scenario. Raises ScenarioError."""
        self._is(value, dict, (), "a scenario is a mapping with routers and hosts")
        self._known(value, (*PARTS, *self._kinds), ())
        version = value.get("scenario", FORMAT)
        if version != FORMAT:
            raise self._marks.error(
                ("scenario",), f"this is format {version!r}; this netns_fixtures reads format {FORMAT}"
            )
        return {
            "name": self._name(value),
            "seed": self._seed(value),
            "link_engine": self._engine(value),
            "nodes": tuple(self._nodes(value)),
            "setup": tuple(self._actions(value, "setup")),
            "run": tuple(self._commands(value)),
            "steps": tuple(self._actions(value, "timeline")),
            "test": self._is(value.get("test") or {}, dict, ("test",), "a mapping"),
        }

    def _name(self, value: dict[str, Any]) -> str:
        name: str = self._is(value.get("name", "scenario"), str, ("name",), "a text")
        return name

    def _seed(self, value: dict[str, Any]) -> int | None:
        seed: int | None = value.get("seed")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise self._marks.error(("seed",), f"{seed!r}: it is a whole number, 0 or more")
        return seed

    def _engine(self, value: dict[str, Any]) -> str | None:
        engine: str | None = value.get("link_engine")
        if engine is not None and engine not in list(LinkEngine):
            raise self._marks.error(("link_engine",), f"{engine!r}: it is one of {', '.join(LinkEngine)}")
        return engine

    def _nodes(self, value: dict[str, Any]) -> Iterator[Node]:
        found: dict[str, Node] = {}
        for section, nodes in value.items():
            if section not in self._kinds:
                continue
            self._is(
                nodes or {}, dict, (section,), f"a mapping of names, such as '{section}: {{home: {{}}}}'"
            )
            for name, options in (nodes or {}).items():
                key = (section, name)
                self._is(name, str, key, "a name is a text: write it in quotes")
                if name in found:
                    raise self._marks.error(key, "there is another node of this name")
                options = self._is({} if options is None else options, dict, key, "a mapping of options")
                self._are_words(options, key)
                found[name] = Node(self._kinds[section], name, options, key)
        yield from self._in_order(found, value.get("order"))

    def _in_order(self, found: dict[str, Node], order: Any) -> list[Node]:
        if order is None:
            return list(found.values())
        self._is(order, list, ("order",), "a list of the names of all nodes")
        if sorted(map(str, order)) != sorted(found):
            raise self._marks.error(("order",), f"it has each node once: {', '.join(found)}")
        return [found[str(name)] for name in order]

    def _actions(self, value: dict[str, Any], section: str) -> Iterator[Action | Repeated]:
        steps = self._is(value.get(section) or [], list, (section,), "a list of steps")
        if len(steps) > MAX_STEPS:
            raise self._marks.error((section,), f"there are {MAX_STEPS} steps at most")
        for number, step in enumerate(steps):
            key = (section, number)
            self._is(step, dict, key, "a step is a mapping such as {at: 2, do: laptop.link.down}")
            allowed = _STEP if section == "timeline" else _STEP[3:]
            self._known(step, allowed, key)
            yield self._action(step, key, timed=section == "timeline")

    def _action(self, step: dict[str, Any], key: Key, *, timed: bool) -> Action | Repeated:
        do = step.get("do")
        if not isinstance(do, str):
            raise self._marks.error(key, "it needs 'do', such as 'do: laptop.link.down'")
        on = self._is(step.get("on", ""), str, (*key, "on"), "the name of a host or router")
        target, _dot, verb = (f"{on}.{do}" if on else do).rpartition(".")
        args: Any = step.get("args")
        args = {} if args is None else args
        if not isinstance(args, (dict, list)):
            raise self._marks.error((*key, "args"), "a mapping of arguments by name, or a list of them")
        if isinstance(args, dict):
            self._are_words(args, (*key, "args"))
        given = tuple(args) if isinstance(args, list) else args
        if not timed:
            return Action(target, verb, given, None, key)
        if "every" in step:
            return self._repeated(step, Action(target, verb, given, 0.0, key), key)
        if "times" in step:
            raise self._marks.error((*key, "times"), "it belongs to 'every'")
        return Action(target, verb, given, self._time(step, "at", key), key)

    def _repeated(self, step: dict[str, Any], action: Action, key: Key) -> Repeated:
        interval = self._time(step, "every", key)
        if interval == 0:
            raise self._marks.error((*key, "every"), "it is above 0 seconds")
        times = step.get("times")
        if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MAX_STEPS:
            raise self._marks.error(key, f"with 'every' it needs 'times', from 1 to {MAX_STEPS}")
        first = self._time(step, "at", key) if "at" in step else interval
        return Repeated(Action(action.target, action.verb, action.args, first, key), interval, times)

    def _time(self, step: dict[str, Any], name: str, key: Key) -> float:
        if name not in step:
            raise self._marks.error(key, f"it needs {name!r}, seconds from the start")
        if not is_time(step[name]) or step[name] > MAX_TIME:
            raise self._marks.error(
                (*key, name), f"{step[name]!r} is no time: seconds from 0 to {MAX_TIME:g}"
            )
        return float(step[name])

    def _commands(self, value: dict[str, Any]) -> Iterator[Command]:
        commands = self._is(value.get("run") or [], list, ("run",), "a list of commands")
        for number, each in enumerate(commands):
            key = ("run", number)
            self._is(each, dict, key, "a command is a mapping such as {on: server, command: iperf3 -s}")
            self._known(each, _COMMAND, key)
            host = self._is(each.get("on"), str, key, "it needs 'on', the name of a host")
            ready = self._is(each.get("ready", ""), str, (*key, "ready"), "a regular expression")
            try:
                re.compile(ready)
            except re.error as error:
                raise self._marks.error((*key, "ready"), f"no regular expression: {error}") from None
            env = self._is(each.get("env") or {}, dict, (*key, "env"), "a mapping of variables")
            words = {str(name): str(text) for name, text in env.items()}
            yield Command(host, self._argv(each.get("command"), key), ready, words, key)

    def _argv(self, command: Any, key: Key) -> tuple[str, ...]:
        try:
            words = shlex.split(command) if isinstance(command, str) else command
        except ValueError as error:
            raise self._marks.error((*key, "command"), f"{command!r}: {error}") from None
        if not isinstance(words, list) or not words or any(isinstance(w, (dict, list)) for w in words):
            raise self._marks.error(key, "it needs 'command', a text or a list of words")
        return tuple(map(str, words))

    def _known(self, value: dict[Any, Any], allowed: tuple[str, ...], key: Key) -> None:
        for name in value:
            if name not in allowed:
                place = (*key, str(name))
                raise self._marks.error(place, f"{name!r} is unknown here; there are {', '.join(allowed)}")

    def _are_words(self, value: dict[Any, Any], key: Key) -> None:
        for name in value:
            self._is(name, str, (*key, str(name)), "a name is a text: write it in quotes")

    def _is(self, value: Any, kind: type, key: Key, wanted: str) -> Any:
        if not isinstance(value, kind):
            # A file that is no scenario at all may come here as one long text.
            raise self._marks.error(key, f"{reprlib.repr(value)}: {wanted}")
        return value
