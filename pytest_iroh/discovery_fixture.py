"""The pytest fixture ``discovery_service``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iroh.discovery_services import DiscoveryServices


@pytest.fixture
def discovery_service(request: pytest.FixtureRequest) -> Iterator[DiscoveryServices]:
    """Start discovery services in lab hosts or on loopback: ``service = discovery_service(host)``.

    Each is a pkarr relay with a DNS zone, known to the lab's name server; ``service.config()`` is for
    endpoints that publish and find each other there. They end with the test. Works in plain and async tests.
    """
    # Imported at the first use: pytest loads this module in every run of every project that has us installed.
    from pytest_iroh.discovery_services import DiscoveryServices

    if "lab" in request.fixturenames:
        request.getfixturevalue("lab")  # made before us, it is closed after us
    services = DiscoveryServices(request.node.name)
    yield services
    services.close()
