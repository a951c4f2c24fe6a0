"""A scenario: a network and what happens in it, from a file, from a lab, or generated."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netns_fixtures.errors import ScenarioError, TopologyError
from netns_fixtures.lab import Lab
from netns_fixtures.link_engine import LinkEngine
from netns_fixtures.paths import LAB
from netns_fixtures.process import HostProcess
from netns_fixtures.scenario.building import call_of, conditions, describe, located, sections
from netns_fixtures.scenario.marked import Marks, read_toml, read_yaml
from netns_fixtures.scenario.model import Action, Command, Node, Repeated
from netns_fixtures.scenario.reading import Reader
from netns_fixtures.scenario.writing import recorded, text_of, values_of
from netns_fixtures.timeline import Timeline

#: Seconds in which a program of ``run`` must write what it is waited for.
READY_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A network, programs and a timeline, as plain data; ``str`` is the text of its file.

    ``setup``: verbs that are done as soon as the lab is built. ``steps``: the timeline. ``test``: what a repro
    file is about.
    """

    name: str = "scenario"
    seed: int | None = None
    link_engine: str | None = None
    nodes: tuple[Node, ...] = ()
    setup: tuple[Action, ...] = ()
    run: tuple[Command, ...] = ()
    steps: tuple[Action | Repeated, ...] = ()
    test: Mapping[str, Any] = field(default_factory=dict)
    marks: Marks = field(default_factory=lambda: Marks("scenario"), compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, source: str = "scenario", *, toml: bool = False) -> Scenario:
        """The scenario of a YAML (or TOML) text, checked as a whole. Raises ScenarioError with the place."""
        value, marks = read_toml(text, source) if toml else read_yaml(text, source)
        scenario = cls(marks=marks, **Reader(marks, sections(Lab)).read(value))
        scenario.check()
        return scenario

    @classmethod
    def of(cls, lab: Lab) -> Scenario:
        """The network of a lab and the verbs that were done to it, at their times.

        What cannot be written (an argument that is a function) stands in ``test["gaps"]``, as sentences.
        """
        found = recorded(lab)
        return cls(
            name=lab.name,
            seed=lab.seed,
            link_engine=None if lab.engine_choice is LinkEngine.AUTO else str(lab.engine_choice),
            nodes=tuple(found.nodes),
            setup=tuple(found.setup),
            steps=tuple(found.steps),
            test={"gaps": found.gaps} if found.gaps else {},
        )

    def __str__(self) -> str:
        return text_of(values_of(self, sections(Lab)))

    def __repr__(self) -> str:
        return f"Scenario.parse('''\n{self}''')"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """How Hypothesis and IPython print it: as the text of its file, not field by field."""
        printer.text(repr(self))

    @property
    def actions(self) -> tuple[Action, ...]:
        """The timeline with each repetition, in order of time."""
        each = [a for step in self.steps for a in (step.actions if isinstance(step, Repeated) else (step,))]
        return tuple(sorted(each, key=_when))

    def check(self) -> None:
        """Find every name, verb and argument, without a kernel. Raises ScenarioError with the place.

        What only a running lab can tell, such as whether an address is free, is not checked.
        """
        lab = self.lab(seed=0)
        for command in self.run:
            self._host(lab, command)
        makers = sections(Lab).values()
        for action in (*self._first(lab), *self.actions):
            verb, arguments = call_of(lab, action, self.marks)
            if action.target == LAB and action.verb in makers:
                self._do(action, verb, arguments)  # it only describes, and later steps may name it

    def lab(self, *, seed: int | None = None, link_engine: str | None = None) -> Lab:
        """A lab as described, not built yet; seed and engine are the scenario's where None. Raises ScenarioError."""
        engine = self.link_engine if link_engine is None else link_engine
        lab = Lab(self.name, self.seed if seed is None else seed, engine)
        describe(lab, self.nodes, self.marks)
        return lab

    def set_up(self, lab: Lab) -> None:
        """Build a lab that ``lab()`` made, and do ``setup``. Raises ScenarioError, and what building raises."""
        lab.build()
        for action in self._first(lab):
            self._later(lab, action)

    def build(self, *, seed: int | None = None, link_engine: str | None = None) -> Lab:
        """A running lab, with ``setup`` done. Raises ScenarioError, and what building raises."""
        lab = self.lab(seed=seed, link_engine=link_engine)
        try:
            self.set_up(lab)
        except BaseException:
            lab.close()
            raise
        return lab

    def start(self, lab: Lab) -> list[HostProcess]:
        """Start the programs of ``run``, each when the one before is ready.

        Raises CommandFailed, and TimeoutError for one that is not ready in time.
        """
        processes = []
        for command in self.run:
            host = self._host(lab, command)
            process = host.popen(command.argv, env={**os.environ, **command.env})
            processes.append(process)
            if command.ready:
                process.wait_for_output(command.ready, READY_TIMEOUT)
        return processes

    def timeline(self, lab: Lab) -> Timeline:
        """The timeline for a lab of this scenario. Raises ScenarioError for what the lab does not have."""
        timeline = Timeline(lab)
        for action in self.actions:
            try:
                verb, arguments = call_of(lab, action, self.marks)
            except ScenarioError:
                if not any(each.target == LAB for each in self.actions):
                    raise
                # It is about a node that another step adds.
                timeline.at(action.at or 0.0, self._named(lab, action))
            else:
                timeline.at(action.at or 0.0, verb, **arguments)
        return timeline

    def save(self, path: str | Path) -> None:
        """Write the file. Raises OSError."""
        Path(path).write_text(str(self), encoding="utf-8")

    def with_test(self, **values: Any) -> Scenario:
        """A copy with more in ``test``."""
        return replace(self, test={**self.test, **values})

    def _first(self, lab: Lab) -> tuple[Action, ...]:
        """What is done as soon as the lab is built."""
        return (*conditions(lab, self.nodes), *self.setup)

    def _named(self, lab: Lab, action: Action) -> Callable[[], None]:
        def later() -> None:
            self._later(lab, action)

        later.__qualname__ = action.path
        return later

    def _later(self, lab: Lab, action: Action) -> None:
        self._do(action, *call_of(lab, action, self.marks))

    def _do(self, action: Action, verb: Callable[..., Any], arguments: dict[str, Any]) -> None:
        try:
            verb(**arguments)
        except TopologyError as error:
            raise located(error, self.marks, action.key) from None

    def _host(self, lab: Lab, command: Command) -> Any:
        node = lab.hosts.get(command.host) or lab.routers.get(command.host)
        if node is None:
            names = ", ".join((*lab.hosts, *lab.routers)) or "none"
            raise self.marks.error((*command.key, "on"), f"no host named {command.host!r}; there are {names}")
        return node


def load_scenario(path: str | Path) -> Scenario:
    """The scenario of a file: TOML where its name ends so, else YAML. Raises ScenarioError, OSError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{path}: this is no text: {error}") from None
    return Scenario.parse(text, str(path), toml=path.suffix == ".toml")


def _when(action: Action) -> float:
    return action.at or 0.0
