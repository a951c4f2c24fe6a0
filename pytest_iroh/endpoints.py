"""``endpoints``: binds endpoints in hosts, connects them, and closes everything in reverse.

An endpoint must be closed inside the event loop it was bound in, while that loop still runs. We do not own
the loop: pytest-asyncio, anyio or ``asyncio.run`` make and end it. All of them finalize the loop's
asynchronous generators before they close it (``loop.shutdown_asyncgens``), so each loop gets one of ours that
waits for exactly that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import Any

from iroh_py import Connection, Endpoint, EndpointConfig, SecretKey
from pytest_iroh.echoing import ECHO_ALPN, serve_echo
from pytest_iroh.qlog import EndpointLogs
from pytest_iroh.sync import Portal, SyncConnection
from pytest_iroh.timeline import Recorder

#: Seconds for an echo service to end after its endpoint was closed: it only has to notice.
SERVICE_TIMEOUT = 2.0
#: Seconds for closing the endpoints of a loop that runs in another thread.
CLOSE_TIMEOUT = 10.0


class Endpoints:
    """A factory of endpoints for one test; what it made is closed newest first, in its own loop.

    ``config``: of every endpoint that is given none. ``seed``: makes keys and choices of the endpoints
    repeatable, for tests under virtual time. ``logs``: where endpoints write their TLS secrets and qlog.
    """

    def __init__(
        self,
        recorder: Recorder | None = None,
        config: EndpointConfig | None = None,
        seed: int | None = None,
        logs: EndpointLogs | None = None,
    ) -> None:
        self.recorder = recorder
        self.config = config
        self._logs = logs
        self._rng = None if seed is None else random.Random(seed)
        self._made: dict[asyncio.AbstractEventLoop, _Bound] = {}
        self._errors: list[Exception] = []
        self._portal: Portal | None = None

    def __repr__(self) -> str:
        count = sum(len(bound.endpoints) for bound in self._made.values())
        return f"<Endpoints: {count} open>"

    async def bind(
        self,
        host: Any = None,
        *,
        alpns: Iterable[str] = (ECHO_ALPN,),
        name: str | None = None,
        secret_key: SecretKey | None = None,
        config: EndpointConfig | None = None,
        **options: Any,
    ) -> Endpoint:
        """An endpoint in a host (the system's network if None); further options go to ``Endpoint.bind``.

        Raises BindError.
        """
        if self._rng is not None:
            secret_key = secret_key or SecretKey(self._rng.randbytes(32))
            options.setdefault("rng", random.Random(self._rng.getrandbits(64)))
        bound = await self._bound_here()
        who = name or str(getattr(host, "name", "endpoint"))
        config = config or self.config or EndpointConfig()
        if self._logs is not None:
            config = self._logs.attach(config, who)
        endpoint = await Endpoint.bind(
            network=host, alpns=tuple(alpns), secret_key=secret_key, config=config, **options
        )
        bound.endpoints.append(endpoint)
        if self.recorder is not None:
            self.recorder.watch_endpoint(endpoint, who)
        return endpoint

    async def bind_echo(self, host: Any = None, **options: Any) -> Endpoint:
        """An endpoint in a host that accepts connections and echoes what they send; otherwise as ``bind``."""
        endpoint = await self.bind(host, **options)
        bound = await self._bound_here()
        bound.services.append(asyncio.create_task(serve_echo(endpoint)))
        return endpoint

    def connect(self, client: Any, server: Any, **options: Any) -> Link:
        """A connection between two hosts (or endpoints) whose server side echoes.

        Use it with ``async with`` in async tests, with ``with`` in plain ones. ``options`` are those of
        ``bind``.
        """
        return Link(self, client, server, options)

    def portal(self) -> Portal:
        """The event loop of plain tests, made at first use."""
        if self._portal is None:
            self._portal = Portal()
        return self._portal

    async def aclose(self) -> None:
        """Close the endpoints of the running loop, newest first. Errors are raised by ``close``."""
        loop = asyncio.get_running_loop()
        bound = self._made.get(loop)
        if bound is not None:
            self._errors += await bound.close()
            # Not before: where this is cancelled, the end of the loop closes those that are left.
            self._made.pop(loop, None)
            await bound.guard.aclose()

    def close(self) -> None:
        """Close whatever is still open, from plain code.

        Raises what went wrong at closing, as ExceptionGroup.
        """
        if self._portal is not None:
            self._portal.run(self.aclose())
            self._portal.close()
            self._portal = None
        for loop in list(self._made):
            self._close_in(loop)
        errors, self._errors = self._errors, []
        if errors:
            raise ExceptionGroup("endpoints did not close well", errors)

    def _close_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(self.aclose(), loop).result(CLOSE_TIMEOUT)
        elif not loop.is_closed():
            loop.run_until_complete(self.aclose())
        else:
            left = self._made.pop(loop).endpoints
            self._errors.append(
                RuntimeError(
                    f"the event loop of {len(left)} endpoints was closed without ending its asynchronous "
                    "generators, so their sockets leak; run the test with asyncio.Runner or pytest-asyncio"
                )
            )

    async def _bound_here(self) -> _Bound:
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            guard = self._guard()
            self._made[loop] = _Bound(guard)
            await anext(guard)
        return self._made[loop]

    async def _guard(self) -> AsyncGenerator[None]:
        """Ends when the running loop does, and closes the loop's endpoints just before."""
        bound = self._made[asyncio.get_running_loop()]
        try:
            yield
        finally:
            if self._made.pop(asyncio.get_running_loop(), None) is not None:
                self._errors += await bound.close()


class _Bound:
    """What was made in one event loop."""

    def __init__(self, guard: AsyncGenerator[None]) -> None:
        self.guard = guard
        self.endpoints: list[Endpoint] = []
        self.services: list[asyncio.Task[None]] = []

    async def close(self) -> list[Exception]:
        """Close everything, newest first; returns what went wrong."""
        errors: list[Exception] = []
        while self.endpoints:
            try:
                await self.endpoints.pop().close()
            except Exception as error:
                errors.append(error)  # the others must be closed, too
        while self.services:
            errors += await _end(self.services.pop())
        return errors


async def _end(service: asyncio.Task[None]) -> list[Exception]:
    """Wait for an echo service whose endpoint is closed; returns why it failed, if it did."""
    done, late = await asyncio.wait([service], timeout=SERVICE_TIMEOUT)
    for task in late:
        task.cancel()
    failures = [task.exception() for task in done if not task.cancelled()]
    return [failure for failure in failures if isinstance(failure, Exception)]


class Link:
    """A connection to be: entering it binds what is missing and dials."""

    def __init__(self, endpoints: Endpoints, client: Any, server: Any, options: dict[str, Any]) -> None:
        self._endpoints = endpoints
        self._client = client
        self._server = server
        self._options = options
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        make, client, server = self._endpoints, self._client, self._server
        if not isinstance(server, Endpoint):
            server = await make.bind_echo(server, **self._options)
        if not isinstance(client, Endpoint):
            client = await make.bind(client, **self._options)
        if server.config.relays:
            await server.online()
            await client.online()
        self._connection = await client.connect(server.node_addr, ECHO_ALPN)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> SyncConnection:
        portal = self._endpoints.portal()
        return SyncConnection(portal, portal.run(self.__aenter__()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._endpoints.portal().run(self.__aexit__(kind, error, traceback))
