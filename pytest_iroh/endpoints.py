"""``endpoints``: binds endpoints in hosts, connects them, and closes everything in reverse."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from iroh_py import Connection, Endpoint, EndpointConfig, NodeAddr, SecretKey

from pytest_iroh.echo import ECHO_ALPN, serve_echo
from pytest_iroh.sync import Portal, SyncConnection
from pytest_iroh.timeline import Recorder


class Endpoints:
    """A factory of endpoints for one test. What it made is closed by ``aclose`` (or ``close``), newest first."""

    def __init__(self, recorder: Recorder | None = None, config: EndpointConfig | None = None) -> None:
        self.recorder = recorder
        self.config = config
        self._made: list[tuple[Endpoint, asyncio.AbstractEventLoop]] = []
        self._services: list[asyncio.Task[None]] = []
        self._portal: Portal | None = None

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
        """An endpoint in a host (the system's network if None); further options go to ``Endpoint.bind``."""
        endpoint = await Endpoint.bind(
            network=host, alpns=tuple(alpns), secret_key=secret_key, config=config or self.config, **options
        )
        self._made.append((endpoint, asyncio.get_running_loop()))
        if self.recorder is not None:
            self.recorder.watch_endpoint(endpoint, name or getattr(host, "name", "endpoint"))
        return endpoint

    async def bind_echo(self, host: Any = None, **options: Any) -> Endpoint:
        """An endpoint in a host that accepts connections and echoes what they send."""
        endpoint = await self.bind(host, **options)
        self._services.append(asyncio.create_task(serve_echo(endpoint)))
        return endpoint

    def connect(self, client: Any, server: Any, **options: Any) -> Link:
        """A connection between two hosts (or endpoints) whose server side echoes.

        Use it with ``async with`` in async tests, with ``with`` in plain ones. ``options`` are those of ``bind``.
        """
        return Link(self, client, server, options)

    def portal(self) -> Portal:
        """The event loop of plain tests, made at first use."""
        if self._portal is None:
            self._portal = Portal()
        return self._portal

    async def aclose(self) -> None:
        """Close the endpoints of the running loop, newest first."""
        loop = asyncio.get_running_loop()
        mine = [endpoint for endpoint, owner in reversed(self._made) if owner is loop]
        self._made = [pair for pair in self._made if pair[1] is not loop]
        for endpoint in mine:
            await endpoint.close()
        services = [task for task in self._services if task.get_loop() is loop]
        self._services = [task for task in self._services if task not in services]
        for task in services:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(2.0):
                    await task

    def close(self) -> None:
        """Close everything that is left, from plain code: the portal's endpoints, and those of loops that stopped."""
        if self._portal is not None:
            self._portal.run(self.aclose())
            self._portal.close()
            self._portal = None
        loops = {loop for _, loop in self._made}
        for loop in loops:
            if not loop.is_closed() and not loop.is_running():
                loop.run_until_complete(self.aclose_in(loop))

    async def aclose_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the endpoints of a loop that this coroutine runs in."""
        await self.aclose()


class Link:
    """A connection to be: entering it binds what is missing and dials."""

    def __init__(self, endpoints: Endpoints, client: Any, server: Any, options: dict[str, Any]) -> None:
        self._endpoints = endpoints
        self._client = client
        self._server = server
        self._options = options
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        make = self._endpoints
        server = self._server
        if not isinstance(server, Endpoint):
            server = await make.bind_echo(server, **self._options)
        client = self._client
        if not isinstance(client, Endpoint):
            client = await make.bind(client, **self._options)
        if server.config.relays:
            await server.online()
            await client.online()
        self._connection = await client.connect(self._target(server), ECHO_ALPN)
        return self._connection

    def _target(self, server: Endpoint) -> NodeAddr:
        return server.node_addr

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
