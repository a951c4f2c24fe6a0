"""The hooks of the pytest plugin; entry point ``pytest11: iroh``.

Hooks only: each hands over to the module that does the work. This module is loaded in every pytest run of
every project that has it installed, so nothing here imports endpoints or labs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_iroh import (
    capabilities,
    links,
    missing,
    options,
    pause,
    replay,
    report,
    topology_only,
    virtual,
)
from pytest_iroh import collectors as collectors  # registers them
from pytest_iroh import repro as repro
from pytest_iroh.attempt import Attempt
from pytest_iroh.discovery_fixture import discovery_service as discovery_service
from pytest_iroh.fixtures import endpoint_config as endpoint_config
from pytest_iroh.fixtures import endpoints as endpoints
from pytest_iroh.fixtures import heals as heals
from pytest_iroh.fixtures import lab as lab
from pytest_iroh.fixtures import lab_factory as lab_factory
from pytest_iroh.fixtures import netns_capabilities as netns_capabilities
from pytest_iroh.fixtures import recorder as recorder
from pytest_iroh.fixtures import sim as sim
from pytest_iroh.grid import cells
from pytest_iroh.grid import writing as grid_writing
from pytest_iroh.grid.cells import grid_cell as grid_cell
from pytest_iroh.official.fixture import official_iroh as official_iroh
from pytest_iroh.relay_fixture import relay as relay

MARKERS = (
    "requires_netns(*features): skip the test, or fail it under --netns-strict, where this machine lacks a "
    "feature that 'netns-lab doctor' names",
    "virtual_time(seed=0, limit=3600.0): run the async test under the virtual clock of iroh_py.testing",
    "netns_grid(rows, columns, *, name=None, repeats=None, at=None): the test is a cell of a grid of --netns-grid; "
    "rows and columns name two of its parameters",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; a bad option ends the run here."""
    options.settings_of(config)
    replay.choose(config, options.settings_of(config).replay)
    capabilities.check_engine(config)
    pause.check(config)
    links.HtmlLinks.register(config)
    grid_writing.register(config)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run only the test of a repro file, where one is replayed."""
    replay.deselect(config, items, options.settings_of(config).replay)


def pytest_report_header(config: pytest.Config) -> str:
    """What this machine can do."""
    return capabilities.header(config)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Take tests under virtual time, before (that is: nearer to the collector than) pytest-asyncio does."""
    found = yield
    for node in found if isinstance(found, list) else [found]:
        if isinstance(node, pytest.Item):
            virtual.take(node)
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_runtest_setup")
def pytest_runtest_setup_begins_attempt(item: pytest.Item) -> Generator[None, object, object]:
    """Begin to record; a missing feature that a fixture meets is a skip."""
    __tracebackhide__ = True
    Attempt.begin(item)
    with missing.gives_up(item):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check what the test is marked to need, before any fixture is made."""
    capabilities.check(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Turn a missing feature into a skip: labs are built at the first verb, inside the test."""
    __tracebackhide__ = True
    topology_only.take(item)
    with missing.gives_up(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Save evidence while the lab still stands, and tell the story of a failure."""
    made = yield
    report.add_story(item, call, made)
    cells.add_cell(item, made)
    if call.when == "teardown":
        Attempt.end(item)
    return made


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: Any) -> None:
    """Hold the lab of a failed test, where asked to; last, when pytest-timeout has stopped its clock."""
    if isinstance(node, pytest.Item):
        pause.hold(node)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Count what was not tested for want of a feature, and say what else was unusual."""
    reports = [each for group in terminalreporter.stats.values() for each in group]
    lines = [
        *missing.summary(reports),
        *topology_only.summary(config, reports),
        *report.flaky(reports),
    ]
    if lines:
        terminalreporter.section("netns")
        for line in lines:
            terminalreporter.write_line(line)
