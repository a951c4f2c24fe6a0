"""YAML and TOML as plain values, with the place of each: "move.yaml, line 12 (timeline[0].args.router)"."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from netns_fixtures.errors import ScenarioError

#: One place in a file: keys of mappings and numbers of list items.
Key = tuple[str | int, ...]
#: A file of a lab with two hundred hosts has 20 kB.
MAX_TEXT = 4 << 20
#: No scenario is nested deeper; an anchor that contains itself would be endless.
_DEEP = 12
_BOOL, _FLOAT, _TIME = (f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "timestamp"))


class Loader(yaml.SafeLoader):
    """YAML 1.2's plain words: ``on`` and ``no`` are words, ``1e-3`` is a number, and no word is a date."""


class Dumper(yaml.SafeDumper):
    """The same for writing."""


def _modern(kind: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in (_BOOL, _FLOAT, _TIME)]
        for first, found in kind.yaml_implicit_resolvers.items()
    }
    kind.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    number = re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$"
    )
    kind.add_implicit_resolver(_FLOAT, number, list("-+0123456789."))


_modern(Loader)
_modern(Dumper)


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the values of a file stand. TOML has no line numbers: there only the keys are known."""

    source: str
    lines: dict[Key, int] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """A place for a person, with the nearest line that is known."""
        known = next((self.lines[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.lines), None)
        words = _dotted(key)
        line = "" if known is None else f", line {known}"
        return f"{self.source}{line}" + (f" ({words})" if words else "")

    def error(self, key: Key, reason: object) -> ScenarioError:
        """A reason with its place."""
        return ScenarioError(f"{self.place(key)}: {reason}")


def read_yaml(text: str, source: str) -> tuple[Any, Marks]:
    """The value of a YAML document and the places in it. Raises ScenarioError."""
    marks = Marks(source)
    try:
        _check_size(text, marks)
        node = yaml.compose(text, Loader=Loader)
        if node is None:
            return None, marks
        _mark(node, (), marks)
        loader = Loader("")
        try:
            return loader.construct_document(node), marks
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ScenarioError(f"{source}{line}: this is no YAML: {error.problem}") from None
    except ScenarioError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScenarioError(f"{source}: this is no YAML: {error}") from None


def read_toml(text: str, source: str) -> tuple[Any, Marks]:
    """The value of a TOML document and the places in it. Raises ScenarioError."""
    marks = Marks(source)
    try:
        _check_size(text, marks)
        return tomllib.loads(text), marks
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScenarioError(f"{source}: this is no TOML: {error}") from None


def _check_size(text: str, marks: Marks) -> None:
    if len(text) > MAX_TEXT:
        raise marks.error((), f"a scenario has {MAX_TEXT >> 20} MiB at most")


def _mark(node: yaml.Node, key: Key, marks: Marks) -> None:
    marks.lines.setdefault(key, node.start_mark.line + 1)
    if len(key) > _DEEP:
        return
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, key, marks)
        for name, value in node.value:
            inner = (*key, str(name.value))
            marks.lines[inner] = name.start_mark.line + 1
            _mark(value, inner, marks)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _mark(value, (*key, number), marks)


def _check_keys(node: yaml.MappingNode, key: Key, marks: Marks) -> None:
    """A host that is written twice is a mistake, of which YAML itself would keep the second."""
    seen: set[str] = set()
    for name, _value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise marks.error(key, "keys are plain words")
        if name.value in seen:
            raise ScenarioError(
                f"{marks.source}, line {name.start_mark.line + 1}: {name.value!r} stands here twice"
            )
        seen.add(str(name.value))


def _dotted(key: Key) -> str:
    return "".join(_segments(key)).lstrip(".")


def _segments(key: Key) -> Iterator[str]:
    for each in key:
        yield f"[{each}]" if isinstance(each, int) else f".{each}"
