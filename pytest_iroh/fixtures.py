"""The fixtures: ``lab``, ``endpoints``, ``heals``, and what belongs to them.

What they need is imported when they are used: pytest loads this module in every project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iroh import capabilities, virtual
from pytest_iroh.attempt import Attempt
from pytest_iroh.endpoint_collector import logs_of
from pytest_iroh.labs import LabFactory
from pytest_iroh.options import settings_of
from pytest_iroh.timeline import Recorder

if TYPE_CHECKING:
    from iroh_py import EndpointConfig
    from iroh_py.testing import SimNet
    from netns_fixtures import Capabilities, Lab
    from pytest_iroh.endpoints import Endpoints


@pytest.fixture
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """The timeline of this test: what its labs did and its endpoints saw."""
    attempt = Attempt.of(request.node)
    assert attempt is not None, "begun by the hook before any fixture"
    return attempt.recorder


@pytest.fixture(scope="session")
def lab_factory(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """Makes labs that live until you close them, or the session ends; for fixtures of any scope."""
    factory = LabFactory.of(settings_of(request.config))
    yield factory
    factory.close()


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """An empty lab of this test's own: add routers and hosts.

    The test is skipped where no lab can be built.
    """
    factory = LabFactory.of(settings_of(request.config))
    yield factory(request.node.name)
    factory.close()


@pytest.fixture
def endpoint_config() -> EndpointConfig:
    """The configuration of endpoints that are given none; override it in a conftest.

    In a lab nobody minds port prediction's probes, so it is on.
    """
    from iroh_py import EndpointConfig

    return EndpointConfig(port_prediction=True)


@pytest.fixture
def endpoints(
    request: pytest.FixtureRequest, recorder: Recorder, endpoint_config: EndpointConfig
) -> Iterator[Endpoints]:
    """Binds endpoints in lab hosts, simulated hosts or here, connects them, and closes all, newest first."""
    from pytest_iroh.endpoints import Endpoints

    for needed in ("lab", "relay", "discovery_service"):
        if needed in request.fixturenames:
            request.getfixturevalue(needed)  # made before us, it is closed after us
    run = virtual.run_of(request.node)
    attempt = Attempt.of(request.node)
    logs = None if attempt is None else logs_of(attempt.evidence)
    made = Endpoints(recorder, endpoint_config, seed=None if run is None else run.seed, logs=logs)
    yield made
    made.close()


@pytest.fixture
def heals(recorder: Recorder) -> Callable[..., Any]:
    """``heals(subject, within=PING_INTERVAL)`` for this test: see ``pytest_iroh.heals``."""
    from pytest_iroh.assertion import BoundHeals

    return BoundHeals(recorder)


@pytest.fixture
def sim(request: pytest.FixtureRequest, recorder: Recorder) -> SimNet:
    """A simulated network for a test that is marked ``virtual_time``; its seed is the marker's."""
    from iroh_py.testing import SimNet

    run = virtual.run_of(request.node)
    if run is None:
        raise pytest.UsageError(
            f"{request.node.nodeid} uses the fixture sim: mark it with @pytest.mark.virtual_time, "
            "under which its network runs"
        )
    net = SimNet(run.seed)
    recorder.watch_sim(net, run.seed)
    return net


@pytest.fixture(scope="session")
def netns_capabilities(request: pytest.FixtureRequest) -> Capabilities:
    """What this machine can do: each feature of ``netns-lab doctor``, tried once."""
    return capabilities.probe(request.config)
