"""Verbs: what can be done to a lab, found by looking at the handles themselves.

``@handle`` above a class says that its public methods which return None are verbs (and those named in
``also``). A verb is written on the lab's tape when it was done, and can be named in a scenario file: the
parameters, their types and their defaults are those of its signature. So a new parameter, or a new verb,
needs nothing here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from netns_fixtures.errors import TopologyError

_C = TypeVar("_C", bound=type)
_MARK = "__lab_verbs__"
#: Modules whose public classes annotations may name without importing them at run time.
_HANDLE_MODULES = (
    "lab",
    "dns.handle",
    "host",
    "router",
    "interface",
    "link",
    "nat",
    "node",
    "firewall",
)


_handles: list[type] = []


def handle(*, also: tuple[str, ...] = (), but: tuple[str, ...] = ()) -> Callable[[_C], _C]:
    """Mark a class as something that verbs can be done to, and record them.

    ``also``: methods that return something and are verbs; ``but``: methods that return nothing and are none.
    """

    def decorate(cls: _C) -> _C:
        names = frozenset(
            name
            for name, value in vars(cls).items()
            if isinstance(value, FunctionType)
            and (name in also or (_is_verb(name, value) and name not in but))
        )
        for name in names:
            setattr(cls, name, _recorded(name, vars(cls)[name]))
        _handles.append(cls)
        setattr(cls, _MARK, names.union(*(getattr(base, _MARK, ()) for base in cls.__bases__)))
        return cls

    return decorate


def is_handle(value: object) -> bool:
    """Whether verbs can be done to it."""
    return hasattr(type(value), _MARK)


def verb_names(kind: type) -> frozenset[str]:
    """The verbs of a class of handles; empty for any other class."""
    names: frozenset[str] = getattr(kind, _MARK, frozenset())
    return names


def all_handles() -> tuple[type, ...]:
    """The classes of everything that verbs can be done to, of the modules that were imported."""
    return tuple(_handles)


def names_handles(kind: type) -> bool:
    """Whether a parameter of this type is a handle: of a class of handles, or of what several have in common."""
    return kind is not object and any(issubclass(each, kind) for each in _handles)


def lab_of(value: Any) -> Any:
    """The lab of a handle: itself, if it is one."""
    lab = getattr(value, "lab", None) or getattr(value, "_lab", None)
    return value if lab is None else lab


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a verb: its name, the type that it is annotated with, and how it is given."""

    name: str
    hint: Any
    required: bool
    positional: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of a verb; ``rest`` is the type of further keyword arguments (None: there are none)."""

    verb: str
    parameters: tuple[Parameter, ...]
    rest: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters, in order."""
        return tuple(each.name for each in self.parameters)

    def hint(self, name: str) -> Any:
        """The type of a parameter. Raises TopologyError naming those that exist."""
        for each in self.parameters:
            if each.name == name:
                return each.hint
        if self.rest is not None:
            return self.rest
        raise TopologyError(f"{self.verb} has no {name!r}; it takes {', '.join(self.names) or 'nothing'}")

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name. Raises TopologyError for too many, unknown or missing ones."""
        places = [each.name for each in self.parameters if each.positional]
        if len(args) > len(places):
            raise TopologyError(f"{self.verb} takes {len(places)} arguments at most: {', '.join(places)}")
        bound = dict(zip(places, args, strict=False))
        for name, value in kwargs.items():
            self.hint(name)
            if name in bound:
                raise TopologyError(f"{self.verb}: {name} is given twice")
            bound[name] = value
        missing = [each.name for each in self.parameters if each.required and each.name not in bound]
        if missing:
            raise TopologyError(f"{self.verb} needs {', '.join(missing)}")
        return bound


@functools.cache
def signature_of(kind: type, verb: str) -> Signature:
    """What a verb takes. Raises TopologyError naming the verbs of that class."""
    if verb not in verb_names(kind):
        known = ", ".join(sorted(verb_names(kind))) or "none"
        raise TopologyError(f"a {kind.__name__.lower()} has no verb {verb!r}; it has {known}")
    function = getattr(kind, verb)
    hints = typing.get_type_hints(inspect.unwrap(function), localns=_public_classes())
    parameters: list[Parameter] = []
    rest = None
    for name, each in list(inspect.signature(function).parameters.items())[1:]:
        if each.kind is each.VAR_KEYWORD:
            rest = hints.get(name, Any)
            if typing.get_origin(rest) is typing.Unpack:
                (fields,) = typing.get_args(rest)
                named = typing.get_type_hints(fields).items()
                parameters += [Parameter(field, hint, False, False) for field, hint in named]
                rest = None
        elif each.kind is not each.VAR_POSITIONAL:
            positional = each.kind is not each.KEYWORD_ONLY
            parameters.append(Parameter(name, hints.get(name, Any), each.default is each.empty, positional))
    return Signature(verb, tuple(parameters), rest)


@functools.cache
def _public_classes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in _HANDLE_MODULES:
        found |= {
            name: value
            for name, value in vars(importlib.import_module(f"netns_fixtures.{module}")).items()
            if isinstance(value, type)
        }
    return found


def _is_verb(name: str, function: FunctionType) -> bool:
    # Annotations are strings (PEP 563), and reading them so imports nothing. "describe..." is about a lab that is
    # not built yet: the node's own options say the same.
    returns = function.__annotations__.get("return", ...)
    return returns in (None, "None") and not name.startswith(("_", "describe"))


def _recorded(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def verb(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        with lab_of(self).tape.recording(self, name, args, kwargs):
            return function(self, *args, **kwargs)

    # Whoever looks at the verb sees the defaults of the method, as ``inspect.signature`` shows them.
    found: Any = verb
    found.__kwdefaults__ = function.__kwdefaults__
    return found


def nodes_of(lab: Any) -> Iterator[tuple[str, Any]]:
    """Everything in a lab that has a name, such as hosts and routers."""
    for attribute, value in vars(lab).items():
        if isinstance(value, dict) and not attribute.startswith("_"):
            yield from ((name, each) for name, each in value.items() if is_handle(each))
