"""``lab_fixture``: a named fixture out of a function that describes a network, for a conftest.

::

    # conftest.py
    def build(lab):
        home, office = lab.router("home", nat="moderate"), lab.router("office", nat="strict")
        lab.host("laptop", uplink=home)
        lab.host("desktop", uplink=office)

    two_homes = lab_fixture("two_homes", build, scope="module")

    # test_it.py
    def test_it(two_homes):
        two_homes.laptop.run(...)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pytest

from pytest_iroh.labs import LabFactory
from pytest_iroh.options import settings_of

if TYPE_CHECKING:
    from netns_fixtures import Host, Lab, Router

T = TypeVar("T")
Scope = Literal["session", "package", "module", "class", "function"]
_SCOPES = ("session", "package", "module", "class", "function")


class LabNodes:
    """A lab with its nodes as attributes: ``nodes.laptop``, ``nodes.home``; ``nodes.lab`` is the lab.

    What is no letter or digit in a name is "_" in its attribute: "home-a" is ``nodes.home_a``. Nodes that are added
    later are there, too.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __repr__(self) -> str:
        return f"<LabNodes of {self.lab.name}: {', '.join(self._nodes()) or 'none'}>"

    def __getattr__(self, name: str) -> Any:
        nodes = self._nodes()
        try:
            return nodes[name]
        except KeyError:
            known = ", ".join(nodes) or "no nodes"
            raise AttributeError(f"lab {self.lab.name} has no node {name!r}; it has {known}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._nodes()})

    def _nodes(self) -> dict[str, Host | Router]:
        return {re.sub(r"\W", "_", name): node for name, node in (self.lab.routers | self.lab.hosts).items()}


def lab_fixture(
    name: str,
    builder: Callable[[Lab], T],
    *,
    scope: Scope = "function",
    seed: int | None = None,
    build: bool = True,
) -> Callable[..., Iterator[T | LabNodes]]:
    """A pytest fixture ``name`` that gives the network which ``builder(lab)`` describes; closed at its scope's end.

    Its value is what the builder returns (a dataclass of its hosts, say, for typed tests), or where that is None, the
    lab's nodes as attributes (``LabNodes``). ``build``: make it in the kernel at set-up already, so that its time is
    not the first test's. ``seed``: of the lab; default is the option. Raises UsageError for a scope or a name that
    pytest cannot have.
    """
    if scope not in _SCOPES:
        raise pytest.UsageError(f"lab_fixture({name!r}, scope={scope!r}): it is one of {', '.join(_SCOPES)}")
    if not name.isidentifier():
        raise pytest.UsageError(
            f"lab_fixture({name!r}): a fixture's name is a Python name, such as 'two_homes'"
        )

    def network(request: pytest.FixtureRequest) -> Iterator[T | LabNodes]:
        factory = LabFactory.of(settings_of(request.config))
        try:
            lab = factory(name, seed=seed)
            made = builder(lab)
            if build:
                lab.build()
            yield LabNodes(lab) if made is None else made
        finally:
            factory.close()

    network.__doc__ = builder.__doc__ or f"The network {name}, of lab_fixture() in {builder.__module__}."
    # "pytest --fixtures" names the builder's file then, which is where the network stands.
    network.__signature__ = inspect.signature(network)  # type: ignore[attr-defined]
    network.__wrapped__ = builder  # type: ignore[attr-defined]
    fixture: Callable[..., Iterator[T | LabNodes]] = pytest.fixture(scope=scope, name=name)(network)
    return fixture
