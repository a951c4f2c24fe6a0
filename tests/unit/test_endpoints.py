"""The factory of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from iroh_py import Endpoint, EndpointConfig
from iroh_py.testing import SimNet, run_virtual
from pytest_iroh import Endpoints, Recorder


def _break_close(monkeypatch: pytest.MonkeyPatch) -> list[Endpoint]:
    """Let closing an endpoint fail; returns those that were asked to."""
    asked: list[Endpoint] = []

    async def close(endpoint: Endpoint) -> None:
        asked.append(endpoint)
        raise RuntimeError(f"number {len(asked)} does not close")

    monkeypatch.setattr(Endpoint, "close", close)
    return asked


def test_every_endpoint_is_closed_though_some_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints are closed newest first; failures are collected and raised at the end."""
    endpoints = Endpoints()
    asked = _break_close(monkeypatch)
    net = SimNet()
    made: list[Endpoint] = []

    async def bind() -> None:
        made.extend([await endpoints.bind(net.host("a")), await endpoints.bind(net.host("b"))])

    run_virtual(bind)

    assert asked == made[::-1]
    with pytest.raises(ExceptionGroup, match="endpoints did not close well") as caught:
        endpoints.close()
    assert [str(error) for error in caught.value.exceptions] == [
        "number 1 does not close",
        "number 2 does not close",
    ]


def test_loop_that_was_closed_by_force_is_reported() -> None:
    """A loop that ends without its asynchronous generators leaks sockets: that is an error, not silence."""
    endpoints = Endpoints()
    net = SimNet()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(endpoints.bind(net.host("laptop")))
    loop.close()

    with pytest.raises(ExceptionGroup) as caught:
        endpoints.close()
    assert "the event loop of 1 endpoints was closed" in str(caught.value.exceptions[0])
    endpoints.close()


def test_same_seed_gives_the_same_keys() -> None:
    """Under virtual time the identity of endpoints is part of the run that a seed repeats."""

    def ids(seed: int | None) -> list[str]:
        endpoints = Endpoints(seed=seed)
        net = SimNet()

        async def bind() -> list[str]:
            return [str((await endpoints.bind(net.host(name))).node_id) for name in ("a", "b")]

        return run_virtual(bind)

    assert ids(3) == ids(3) != ids(4)
    assert ids(None) != ids(None)


@pytest.mark.virtual_time
async def test_endpoints_are_on_the_timeline(sim: SimNet, recorder: Recorder, endpoints: Endpoints) -> None:
    """What an endpoint sees is recorded under its host's name, or the name given."""
    await endpoints.bind(sim.host("laptop"))
    await endpoints.bind(sim.host("server"), name="relay-1")
    await asyncio.sleep(0.1)

    assert {entry.who for entry in recorder.entries if entry.part == "netmon"} == {"laptop", "relay-1"}


@pytest.mark.virtual_time
async def test_config_of_the_factory_is_the_default(sim: SimNet) -> None:
    """A configuration of all endpoints can be given once; one of an endpoint's own wins."""
    slow, fast = EndpointConfig(connect_timeout=60), EndpointConfig(connect_timeout=1)
    endpoints = Endpoints(config=slow)

    assert (await endpoints.bind(sim.host("a"))).config is slow
    assert (await endpoints.bind(sim.host("b"), config=fast)).config is fast
    await endpoints.aclose()


@pytest.mark.parametrize(
    "make", [lambda net, _made: net.host("x"), lambda _net, made: made], ids=["host", "endpoint"]
)
def test_connect_takes_hosts_and_endpoints(make: Callable[[SimNet, Endpoint], object]) -> None:
    """What is not an endpoint yet becomes one."""
    endpoints = Endpoints()
    net = SimNet()

    async def story() -> None:
        client = make(net, await endpoints.bind(net.host("laptop")))
        async with endpoints.connect(client, net.host("server")) as connection:
            assert connection.path.direct

    run_virtual(story)
    endpoints.close()


def test_endpoints_left_by_a_cancelled_close_are_closed_with_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A timeout in the middle of ``aclose`` leaves none open: the end of the event loop closes the rest."""
    endpoints = Endpoints()
    asked: list[Endpoint] = []
    net = SimNet()
    really = Endpoint.close

    async def close(endpoint: Endpoint) -> None:
        asked.append(endpoint)
        await really(endpoint)
        if len(asked) == 1:
            await asyncio.Event().wait()

    async def test() -> None:
        made.extend([await endpoints.bind(net.host("a")), await endpoints.bind(net.host("b"))])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await endpoints.aclose()

    made: list[Endpoint] = []
    monkeypatch.setattr(Endpoint, "close", close)
    run_virtual(test)
    assert asked == made[::-1]
    endpoints.close()
