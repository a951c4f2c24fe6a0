"""``--netns-topology-only``: the networks of the tests without the tests.

The fixtures of every test are set up and torn down as ever; what its body would be builds the labs that they
described. The test is then skipped, never passed: nothing was tested.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import pytest

from pytest_iroh.attempt import Attempt
from pytest_iroh.options import settings_of

#: The property of a report that names a lab that was built.
PROPERTY = "netns_topology"
NOTHING = "topology only: no lab is described by the fixtures"


def take(item: pytest.Item) -> None:
    """Replace what a test would do, if the option wants that."""
    if settings_of(item.config).topology_only:
        item.runtest = lambda: _build(item)  # type: ignore[method-assign]


def _build(item: pytest.Item) -> NoReturn:
    """Build the labs of the test's fixtures. Raises Skipped, MissingCapability, CommandFailed."""
    __tracebackhide__ = True
    attempt = Attempt.of(item)
    labs = attempt.recorder.labs if attempt is not None else []
    described = [lab for lab in labs if hasattr(lab, "build") and (lab.hosts or lab.routers)]
    for lab in described:
        lab.build()
        item.user_properties.append((PROPERTY, _words(lab)))
    reason = f"topology only: built {', '.join(map(_words, described))}" if described else NOTHING
    raise pytest.skip.Exception(reason, _use_item_location=True)


def _words(lab: Any) -> str:
    return f'lab "{lab.name}" ({len(lab.hosts)} hosts, {len(lab.routers)} routers, seed {lab.seed})'


def summary(config: pytest.Config, reports: Iterable[Any]) -> list[str]:
    """One line for the end of the run; none in an ordinary one."""
    if not settings_of(config).topology_only:
        return []
    built = {
        str(value)
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    }
    labs = "1 lab" if len(built) == 1 else f"{len(built)} labs"
    return [f"topology only: {labs} built, no test body ran"]
