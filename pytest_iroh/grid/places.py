"""Where a test belongs: its grid, row and column, out of its marker and its parameters."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest

MARKER = "netns_grid"
#: Parameters of plugins that run a test several times (pytest-repeat): runs of one cell, not grids of their own.
_REPEATS = "__"
_FORM = "netns_grid(rows, columns, *, name=None, repeats=None, at=None)"


@dataclass(frozen=True, slots=True)
class Place:
    """A cell of a grid, by names."""

    grid: str
    rows_name: str
    columns_name: str
    row: str
    column: str


def place_of(item: pytest.Item) -> Place | None:
    """Where a test belongs; None where it has no marker. Raises UsageError for a marker that cannot be meant."""
    mark = item.get_closest_marker(MARKER)
    if mark is None:
        return None
    try:
        return _place(item, *mark.args, **mark.kwargs)
    except TypeError:
        given = ", ".join([*map(repr, mark.args), *(f"{k}={v!r}" for k, v in mark.kwargs.items())])
        raise pytest.UsageError(f"{item.nodeid}: {MARKER}({given}): write {_FORM}") from None


def plain_nodeid(nodeid: str, item: pytest.Item) -> str:
    """The node id as a user types it: xdist's loadgroup adds the group."""
    groups = {
        str(mark.args[0] if mark.args else mark.kwargs.get("name", "default"))
        for mark in item.iter_markers("xdist_group")
    }
    return nodeid.removesuffix("@" + "_".join(sorted(groups))) if groups else nodeid


def is_pair(place: Place, pair: tuple[str, str]) -> bool:
    """Whether a cell is meant by a pair of patterns (``*`` and ``?`` as in file names)."""
    return fnmatchcase(place.row, pair[0]) and fnmatchcase(place.column, pair[1])


def _place(
    item: pytest.Item,
    rows: str,
    columns: str,
    *,
    name: str | None = None,
    repeats: str | None = None,
    at: Sequence[str] | None = None,
) -> Place:
    callspec = getattr(item, "callspec", None)
    params: dict[str, Any] = {} if callspec is None else dict(callspec.params)
    base = name or getattr(item, "originalname", None) or item.name
    if at is not None:
        if isinstance(at, str) or len(at) != 2:
            raise pytest.UsageError(f"{item.nodeid}: {MARKER}(at={at!r}): it is a row and a column")
        row, column = (str(label) for label in at)
    else:
        missing = [each for each in (rows, columns) if each not in params]
        if missing:
            known = ", ".join(params) or "none"
            raise pytest.UsageError(f"{item.nodeid}: {MARKER}: no parameter {missing[0]!r}; it has {known}")
        row, column = label_of(item, rows), label_of(item, columns)
    others = [
        f"{each}={label_of(item, each)}"
        for each in params
        if (at is not None or each not in (rows, columns))
        and each != repeats
        and not each.startswith(_REPEATS)
    ]
    grid = f"{base} [{', '.join(others)}]" if others else base
    return Place(grid, rows, columns, row, column)


def label_of(item: pytest.Item, name: str) -> str:
    """A parameter's value for people: itself where that is short text, else its id, else name and number."""
    callspec: Any = item.callspec  # type: ignore[attr-defined]
    value = callspec.params[name]
    given = _given_id(item, name, value)
    if given is not None:
        return given
    if isinstance(value, enum.Enum):
        return str(value.value if isinstance(value.value, str) else value.name)
    if value is None or isinstance(value, str | int | float | bool):
        return str(value)
    called = getattr(value, "__name__", None)
    return str(called) if called is not None else f"{name}{callspec.indices.get(name, 0)}"


def _given_id(item: pytest.Item, name: str, value: Any) -> str | None:
    """The id that a parametrize marker of this parameter alone gives to a value."""
    for mark in item.iter_markers("parametrize"):
        argnames, argvalues = (*mark.args, *(None, None))[:2]
        alone = argnames.split(",") if isinstance(argnames, str) else list(argnames or ())
        if [each.strip() for each in alone] != [name] or not isinstance(argvalues, Sequence):
            continue
        ids = mark.kwargs.get("ids")
        for number, each in enumerate(argvalues):
            values = getattr(each, "values", None)
            param = isinstance(each, tuple) and isinstance(values, tuple)  # pytest.param(...)
            if (values[0] if param and values else each) is not value:
                continue
            if param and isinstance(named := getattr(each, "id", None), str):
                return named
            if callable(ids):
                return None if (made := ids(value)) is None else str(made)
            if isinstance(ids, Sequence) and number < len(ids) and ids[number] is not None:
                return str(ids[number])
            return None
    return None
