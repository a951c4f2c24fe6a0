"""The fixtures ``endpoints`` and ``heals``, with and without pytest-asyncio."""

from __future__ import annotations

import gc
import os

import pytest

#: Checks, from an autouse fixture that ends last, that every endpoint was closed inside its own running loop.
WATCH = """
import asyncio
import pytest
from iroh_py import Endpoint

@pytest.fixture(autouse=True)
def closed(monkeypatch):
    open_in = {}
    bind, close = Endpoint.bind.__func__, Endpoint.close

    async def watched_bind(cls, **options):
        endpoint = await bind(cls, **options)
        open_in[endpoint] = asyncio.get_running_loop()
        return endpoint

    async def watched_close(endpoint, *args):
        assert open_in.pop(endpoint, None) in (asyncio.get_running_loop(), None)
        await close(endpoint, *args)

    monkeypatch.setattr(Endpoint, "bind", classmethod(watched_bind))
    monkeypatch.setattr(Endpoint, "close", watched_close)
    yield
    assert not open_in
"""

ASYNC = """
import pytest
from pytest_iroh import PING_INTERVAL, echo

{mark}
async def test_async(endpoints, heals):
    async with endpoints.connect(None, None) as connection:
        assert await echo(connection, b"hello") == b"hello"
        async with heals(connection, within=PING_INTERVAL) as healing:
            pass
    assert healing.healed and healing.bytes_lost == 0
"""

PLAIN = """
from pytest_iroh import PING_INTERVAL

def test_plain(endpoints, heals):
    with endpoints.connect(None, None) as connection:
        assert connection.echo(b"hello") == b"hello"
        with heals(connection, within=PING_INTERVAL) as healing:
            pass
    assert healing.healed and healing.bytes_lost == 0
"""


def _open_files() -> set[str]:
    gc.collect()
    return {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_socket(fd)}


def _is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except FileNotFoundError:
        return False  # the one that listed the directory


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_async_test_closes_its_endpoints_in_its_loop(pytester: pytest.Pytester, mode: str) -> None:
    """Under pytest-asyncio in both modes, endpoints are closed in the test's loop, and no socket is left."""
    pytester.makeconftest(WATCH)
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    pytester.makepyfile(ASYNC.format(mark=mark))
    before = _open_files()

    pytester.runpytest(f"--asyncio-mode={mode}").assert_outcomes(passed=1)

    assert _open_files() <= before


@pytest.mark.parametrize(
    "option", ["", "-p no:asyncio", "-p no:logging"], ids=["asyncio", "no-asyncio", "no-logging"]
)
def test_plain_test_closes_its_endpoints(pytester: pytest.Pytester, option: str) -> None:
    """A plain test connects, and needs no async plugin for it."""
    pytester.makeconftest(WATCH)
    pytester.makepyfile(PLAIN)
    if option == "-p no:asyncio":
        pytester.makeini("[pytest]\nfilterwarnings = error")
    before = _open_files()

    pytester.runpytest(*option.split()).assert_outcomes(passed=1)

    assert _open_files() <= before


@pytest.mark.parametrize("scope", ["module", "session"])
def test_loop_that_outlives_the_test_keeps_nothing(pytester: pytest.Pytester, scope: str) -> None:
    """With one event loop for many tests, each test's endpoints are closed at its end."""
    pytester.makeconftest(WATCH)
    mark = f'@pytest.mark.asyncio(loop_scope="{scope}")'
    pytester.makepyfile(ASYNC.format(mark=mark) + f"\n{mark}\nasync def test_next():\n    pass\n")

    pytester.runpytest().assert_outcomes(passed=2)


def test_async_fixture_may_use_endpoints_until_its_end(pytester: pytest.Pytester) -> None:
    """A fixture around a connection is torn down while its endpoints still work."""
    pytester.makeconftest(WATCH)
    pytester.makepyfile(
        """
        import pytest_asyncio
        from pytest_iroh import echo

        @pytest_asyncio.fixture
        async def connection(endpoints):
            async with endpoints.connect(None, None) as connection:
                yield connection
                assert await echo(connection, b"bye") == b"bye"

        async def test_connection(connection):
            assert await echo(connection, b"hi") == b"hi"

        def test_plain_with_async_fixture(connection):
            assert connection.alpn
        """
    )

    pytester.runpytest().assert_outcomes(passed=2)


def test_loop_of_the_tests_own_is_covered(pytester: pytest.Pytester) -> None:
    """Endpoints of a loop that the test runs by itself are closed when that loop ends."""
    pytester.makeconftest(WATCH)
    pytester.makepyfile(
        """
        import asyncio

        def test_run(endpoints):
            asyncio.run(endpoints.bind())
        """
    )

    pytester.runpytest("-p", "no:asyncio", "-c", "/dev/null").assert_outcomes(passed=1)


def test_failing_test_closes_its_endpoints(pytester: pytest.Pytester) -> None:
    """Endpoints are closed after a failure, too, and only the failure is reported."""
    pytester.makeconftest(WATCH)
    pytester.makepyfile(
        """
        async def test_broken(endpoints):
            async with endpoints.connect(None, None) as connection:
                assert connection.alpn == "other"
        """
    )

    pytester.runpytest().assert_outcomes(failed=1)


def test_virtual_test_closes_its_endpoints(pytester: pytest.Pytester) -> None:
    """Under virtual time the endpoints are closed inside the virtual loop."""
    pytester.makeconftest(WATCH)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.virtual_time
        async def test_virtual(sim, endpoints):
            async with endpoints.connect(sim.host("laptop"), sim.host("server")) as connection:
                assert connection.path.direct
        """
    )

    pytester.runpytest().assert_outcomes(passed=1)
