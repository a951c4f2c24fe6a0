"""The pytest fixture ``official_iroh``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pytest_iroh.official.peer import OfficialPeer
    from pytest_iroh.official.process import Popen


class LabHost(Protocol):
    """What is needed of a host of a lab: a name and a way to start a program in it."""

    @property
    def name(self) -> str:
        """The host's name in the lab."""

    @property
    def popen(self) -> Popen:
        """Starts a program in the host."""


OfficialFactory = Callable[..., "OfficialPeer"]
"""``official_iroh(version, host=None, **options)``; the options are those of OfficialPeer.start."""


@pytest.fixture
def official_iroh(request: pytest.FixtureRequest) -> Iterator[OfficialFactory]:
    """Start official iroh nodes of any version, in lab hosts or here; they end with the test, last one first.

    ``official_iroh("1.2.0", host=laptop, relay=server)`` with a ``server`` of the fixture ``relay``. The test is
    skipped with a remedy where that version cannot be installed (with ``--netns-strict`` it fails).
    """
    # Imported at the first use: pytest loads this module in every run of every project that has us installed.
    from pytest_iroh.missing import give_up
    from pytest_iroh.official.errors import OfficialUnavailable
    from pytest_iroh.official.peer import OfficialPeer

    for needed in ("lab", "relay"):
        if needed in request.fixturenames:
            request.getfixturevalue(needed)  # made before us, it is closed after us
    with contextlib.ExitStack() as stack:

        def start(version: str, host: LabHost | None = None, **options: Any) -> OfficialPeer:
            if host is not None:
                options = {"popen": host.popen, "name": f"{host.name} (iroh {version})", **options}
            try:
                return stack.enter_context(OfficialPeer.start(version, **options))
            except OfficialUnavailable as error:
                give_up(request.node, f"iroh {version} from PyPI", error.remedy)

        yield start
