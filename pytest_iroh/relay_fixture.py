"""The pytest fixture ``relay``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iroh.relays import Relays


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Iterator[Relays]:
    """Start relays in lab hosts or on loopback: ``server = relay(host)``; they end with the test.

    ``server.url``, ``server.config()`` for endpoints, ``server.restart()``; with ``tls=True`` it has a
    certificate of the test's own authority. Works in plain and async tests.
    """
    # Imported at the first use: pytest loads this module in every run of every project that has us installed.
    from pytest_iroh.relays import Relays

    if "lab" in request.fixturenames:
        request.getfixturevalue("lab")  # made before us, it is closed after us
    relays = Relays(request.node.name)
    yield relays
    relays.close()
