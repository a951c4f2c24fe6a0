"""Arguments of verbs as plain values: from a file by the types of the parameters, and back.

A router, host or interface is written as its name, an enumeration as its value, a dataclass (such as a link
condition) as a mapping of its fields, or as the name of a preset where it has presets.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import ipaddress
import types
import typing
from collections.abc import Mapping
from typing import Any

from netns_fixtures.errors import TopologyError
from netns_fixtures.paths import find, path_of
from netns_fixtures.verbs import is_handle, names_handles

_ADDRESSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)
_PLAIN = (str, int, float, bool, type(None))
_SEQUENCES = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_SEQUENCES_IN_FILES = (list, tuple)


def from_plain(lab: Any, hint: Any, value: Any) -> Any:
    """The argument that a plain value of a file means. Raises TopologyError saying what would be right."""
    origin = typing.get_origin(hint)
    if hint is Any or hint is object:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(lab, typing.get_args(hint), value)
    if origin is typing.Literal:
        return _literal(typing.get_args(hint), value)
    if origin is typing.Annotated:
        return from_plain(lab, typing.get_args(hint)[0], value)
    if origin in (dict, collections.abc.Mapping):
        return _mapping(lab, typing.get_args(hint), value)
    if origin in _SEQUENCES:
        return _sequence(lab, origin, typing.get_args(hint), value)
    if isinstance(hint, type):
        return _of_class(lab, hint, value)
    raise TopologyError(f"a file cannot say {describe(hint)}")


def to_plain(value: Any) -> Any:
    """A value of a file that means this argument. Raises TopologyError for what cannot be written."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _PLAIN):
        return value
    if is_handle(value):
        return path_of(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.init and not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, _ADDRESSES):
        return str(value)
    if isinstance(value, Mapping):
        return {str(to_plain(key)): to_plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((to_plain(each) for each in value), key=repr)
    if isinstance(value, (list, tuple, range)):
        return [to_plain(each) for each in value]
    raise TopologyError(f"{value!r} cannot be written into a file")


def can_say(hint: Any) -> bool:
    """Whether a file has values for a type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal or hint is Any:
        return True
    if origin is not None:
        return all(can_say(each) for each in args if each is not Ellipsis)
    if not isinstance(hint, type):
        return False
    return (
        hint in (*_PLAIN, *_ADDRESSES, *_SEQUENCES, dict)
        or names_handles(hint)
        or issubclass(hint, enum.Enum)
        or dataclasses.is_dataclass(hint)
    )


def describe(hint: Any) -> str:
    """A type in a person's words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(each) for each in args)
    if origin is typing.Literal:
        return " or ".join(repr(each) for each in args)
    if origin in (dict, collections.abc.Mapping):
        return f"a mapping of {describe(args[1])}"
    if origin in _SEQUENCES:
        return f"a list of {describe(args[0])}"
    if hint is type(None):
        return "null"
    if hint in (int, float):
        return "a whole number" if hint is int else "a number"
    if hint is bool:
        return "true or false"
    if hint is str:
        return "a text"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(repr(each.value) for each in hint)
    if isinstance(hint, type) and names_handles(hint):
        return f"the name of a {hint.__name__.lower()}"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"the fields of a {hint.__name__}"
    return getattr(hint, "__name__", str(hint))


def _one_of(lab: Any, hints: tuple[Any, ...], value: Any) -> Any:
    failures = []
    for hint in sorted(hints, key=lambda hint: _rank(hint, value)):
        try:
            return from_plain(lab, hint, value)
        except TopologyError as error:
            failures.append(error)
    # The first had the right shape, if any had: "no router named 'hmoe'" says more than a list of types.
    if any(_exact(hint, value) for hint in hints) or isinstance(value, (str, dict)):
        told = [e for e in failures if not str(e).endswith(_MISMATCH)] or failures
        raise told[0]
    raise TopologyError(f"{value!r} is not {' or '.join(describe(hint) for hint in hints)}")


def _rank(hint: Any, value: Any) -> int:
    """Names of nodes first, where a text may be one; then the very type of the value."""
    if isinstance(value, str) and isinstance(hint, type) and names_handles(hint):
        return 0
    return 1 if _exact(hint, value) else 2


def _exact(hint: Any, value: Any) -> bool:
    """Whether a plain type is that of the value already, so that "1" stays a text where both may be."""
    return hint is type(value)


def _literal(choices: tuple[Any, ...], value: Any) -> Any:
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise TopologyError(f"{value!r}: it is one of {', '.join(repr(each) for each in choices)}")


def _mapping(lab: Any, hints: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _mismatch(value, "a mapping")
    key, each = hints or (Any, Any)
    return {from_plain(lab, key, name): from_plain(lab, each, inner) for name, inner in value.items()}


def _sequence(lab: Any, origin: Any, hints: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, _SEQUENCES_IN_FILES):
        raise _mismatch(value, "a list")
    fixed = origin is tuple and len(hints) > 0 and hints[-1] is not Ellipsis
    if fixed and len(hints) != len(value):
        raise TopologyError(f"{value!r}: it is a list of {len(hints)}")
    kinds = hints if fixed else (hints[0] if hints else Any,) * len(value)
    found = [from_plain(lab, kind, each) for kind, each in zip(kinds, value, strict=True)]
    return origin(found) if origin in (list, tuple, set, frozenset) else found


def _of_class(lab: Any, hint: type, value: Any) -> Any:
    if names_handles(hint):
        return _handle(lab, hint, value)
    if issubclass(hint, enum.Enum):
        return _enum(hint, value)
    if dataclasses.is_dataclass(hint):
        return _fields(lab, hint, value)
    if hint in _ADDRESSES:
        return _address(hint, value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in _PLAIN and type(value) is hint:
        return value
    if hint in (dict, Mapping) and isinstance(value, dict):
        return value
    if hint in (list, tuple) and isinstance(value, _SEQUENCES_IN_FILES):
        return hint(value)
    raise _mismatch(value, describe(hint))


def _handle(lab: Any, hint: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise _mismatch(value, describe(hint))
    found = find(lab, value)
    if not isinstance(found, hint):
        raise TopologyError(f"{value!r} is {describe(type(found))}, not {describe(hint)}")
    return found


def _enum(hint: type[enum.Enum], value: Any) -> enum.Enum:
    try:
        return hint(value)
    except ValueError:
        raise TopologyError(
            f"{value!r}: it is one of {', '.join(repr(each.value) for each in hint)}"
        ) from None


def _fields(lab: Any, hint: Any, value: Any) -> Any:
    preset = getattr(hint, "preset", None)
    if isinstance(value, str) and preset is not None:
        return preset(value)
    if not isinstance(value, dict):
        raise _mismatch(value, describe(hint))
    hints = typing.get_type_hints(hint)
    names = [field.name for field in dataclasses.fields(hint) if field.init]
    for name in value:
        if name not in names:
            raise TopologyError(f"no {name!r} in a {hint.__name__}; it has {', '.join(names)}")
    try:
        return hint(**{name: from_plain(lab, hints[name], inner) for name, inner in value.items()})
    except TypeError as error:
        raise TopologyError(f"{hint.__name__}: {error}") from None


def _address(hint: type, value: Any) -> Any:
    try:
        return hint(value)
    except ValueError as error:
        raise TopologyError(str(error)) from None


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(field.default == value)
    return field.default_factory is not dataclasses.MISSING and bool(field.default_factory() == value)


#: What a value of another kind is refused with; a better reason wins, where there are several.
_MISMATCH = "is needed here"


def _mismatch(value: Any, wanted: str) -> TopologyError:
    return TopologyError(f"{value!r}: {wanted} {_MISMATCH}")
