"""Runs of pytest inside a test, and a lab that needs no kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import iroh_py.testing  # noqa: F401 - see below
import netns_fixtures

# pytester forgets the modules that a run inside the test imports; without these, each run would import them
# anew.
import pytest_iroh.assertion
import pytest_iroh.endpoints  # noqa: F401
from netns_fixtures.events import EventLog, LabEvent
from pytest_iroh.options import OPTIONS


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI pytest repeats whole messages in its summary; the tests look at what a person sees."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


class FakeNode:
    """A host that only has a name and a log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log = f"{name} says hello\n"


class FakeLab:
    """A lab as the plugin sees it, without a kernel behind it."""

    link_engine = "veth"
    made: list[FakeLab]

    def __init__(self, name: str = "lab", seed: int | None = None) -> None:
        self.name = name
        self.seed = 8723 if seed is None else seed
        self.closed = False
        self.routers: dict[str, FakeNode] = {}
        self.hosts: dict[str, FakeNode] = {}
        self._log = EventLog()
        self.made.append(self)

    def host(self, name: str) -> FakeNode:
        """A new host."""
        self.hosts[name] = FakeNode(name)
        return self.hosts[name]

    def happen(self, kind: str, node: str, text: str) -> LabEvent:
        """Let something happen now."""
        return self._log.emit(kind, node, text)

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """As the real lab's."""
        return self._log.subscribe(callback)

    def close(self) -> None:
        """As the real lab's."""
        self.closed = True


@pytest.fixture
def fake_labs(monkeypatch: pytest.MonkeyPatch) -> list[FakeLab]:
    """Let every lab of this test be fake; the list has those that were made."""
    FakeLab.made = []
    monkeypatch.setattr(netns_fixtures, "Lab", FakeLab)
    return FakeLab.made


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A downstream project that uses pytest-asyncio and is strict about everything."""
    for name in ("PYTEST_ADDOPTS", *(option.env for option in OPTIONS)):
        monkeypatch.delenv(name, raising=False)  # what a developer's shell says decides nothing here
    pytester.makeini(
        """
        [pytest]
        addopts = --strict-markers --strict-config -p no:cacheprovider
        filterwarnings = error
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        """
    )
    return pytester
