"""Names of handles: "laptop", "laptop.wlan0", "home.nat", "lab"; there and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netns_fixtures.errors import TopologyError
from netns_fixtures.verbs import is_handle, lab_of, nodes_of, verb_names

#: The lab itself, unless a node has this name.
LAB = "lab"


def path_of(target: Any) -> str:
    """The name of a handle. Raises TopologyError for one that cannot be reached from its lab."""
    for path, each in _walk(lab_of(target)):
        if each is target:
            return path
    raise TopologyError(f"{target!r} has no name in its lab")


def find(lab: Any, path: str) -> Any:
    """The handle of that name. Raises TopologyError naming what there is."""
    owner, rest = _node(lab, path)
    while rest:
        found, rest = _part(owner, rest)
        if found is None:
            known = ", ".join(name for name, _each in _parts(owner)) or "nothing"
            where = path[: len(path) - len(rest) - 1] if rest else path
            raise TopologyError(f"{where!r}: no {rest!r} there; there are {known}")
        owner = found
    return owner


def find_verb(lab: Any, path: str) -> tuple[Any, str]:
    """The handle and the verb of "laptop.link.down". Raises TopologyError naming what there is."""
    owner, dot, verb = path.rpartition(".")
    if not dot:
        raise TopologyError(f"{path!r} is no verb: write what it is done to, such as 'laptop.link.down'")
    target = find(lab, owner)
    if verb not in verb_names(type(target)):
        known = ", ".join(sorted(verb_names(type(target)))) or "none"
        raise TopologyError(f"{owner} has no verb {verb!r}; it has {known}")
    return target, verb


def _node(lab: Any, path: str) -> tuple[Any, str]:
    nodes = dict(nodes_of(lab))
    # Names may have dots in them ("relay.test"): the longest one that fits is meant.
    for name in sorted(nodes, key=len, reverse=True):
        if path == name or path.startswith(name + "."):
            return nodes[name], path[len(name) + 1 :]
    head, _dot, rest = path.partition(".")
    if head == LAB:
        return lab, rest
    raise TopologyError(f"no node named {head!r}; there are {', '.join(nodes) or 'none'}")


def _part(owner: Any, path: str) -> tuple[Any, str]:
    """The handle that the beginning of a path names, and the rest; None and the path where there is none."""
    for name, each in sorted(_parts(owner), key=lambda part: len(part[0]), reverse=True):
        if path == name or path.startswith(name + "."):
            return each, path[len(name) + 1 :]
    return None, path


def _parts(owner: Any) -> Iterator[tuple[str, Any]]:
    """The handles in a handle: interfaces by name, then attributes and properties such as ``link``."""
    yield from getattr(owner, "interfaces", {}).items()
    for name in dir(type(owner)):
        if not name.startswith("_") and isinstance(getattr(type(owner), name), property):
            value = getattr(owner, name, None)
            if is_handle(value):
                yield name, value
    for name, value in vars(owner).items():
        if not name.startswith("_") and name != LAB and is_handle(value):
            yield name, value


def _walk(lab: Any) -> Iterator[tuple[str, Any]]:
    """Every handle under the name that a recording uses."""
    yield LAB, lab
    for name, node in nodes_of(lab):
        yield name, node
        for part, value in _own_parts(node):
            yield f"{name}.{part}", value
    for part, value in _own_parts(lab):
        yield f"{LAB}.{part}", value


def _own_parts(owner: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(owner, "interfaces", {}).items()
    for name, value in vars(owner).items():
        if not name.startswith("_") and name != LAB and is_handle(value):
            yield name, value
