"""The peer of most tests: a service that sends back whatever arrives, on streams and in datagrams."""

from __future__ import annotations

import asyncio
import contextlib

from iroh_py import Connection, Endpoint, IrohError, RecvStream, SendStream
from pytest_iroh.timeline import scaled

#: The application protocol of our test services.
ECHO_ALPN = "iroh-py/echo/0"


async def serve_echo(endpoint: Endpoint) -> None:
    """Accept connections and echo their streams and datagrams until the endpoint is closed."""
    async with asyncio.TaskGroup() as tasks:
        async for connection in endpoint.connections():
            tasks.create_task(_serve(connection))


async def _serve(connection: Connection) -> None:
    with contextlib.suppress(IrohError):  # the end of a connection ends its service
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_datagrams(connection))
            tasks.create_task(_uni(connection))
            while True:
                try:
                    send, recv = await connection.accept_bi()
                except IrohError:
                    return
                tasks.create_task(_echo(send, recv))


async def _echo(send: SendStream, recv: RecvStream) -> None:
    with contextlib.suppress(IrohError):
        async with send:
            while part := await recv.read(256 * 1024):
                await send.write(part)


async def _uni(connection: Connection) -> None:
    """What comes on a one-way stream goes back on another one-way stream."""
    with contextlib.suppress(IrohError):
        while True:
            recv = await connection.accept_uni()
            async with connection.open_uni() as send:
                while part := await recv.read(256 * 1024):
                    await send.write(part)


async def _datagrams(connection: Connection) -> None:
    with contextlib.suppress(IrohError):
        while True:
            data = await connection.read_datagram()
            if len(data) <= connection.max_datagram_size:
                connection.send_datagram(data)


async def echo(connection: Connection, data: bytes, timeout: float = 10.0) -> bytes:
    """Send bytes over a new stream and return what comes back.

    ``timeout``: seconds, times the option ``--netns-timeout-scale``. Raises TimeoutError, ConnectionLostError.
    """
    async with asyncio.timeout(scaled(timeout)):
        send, recv = connection.open_bi()

        async def push() -> None:
            async with send:
                await send.write(data)

        pushing = asyncio.create_task(push())
        try:
            answer = await recv.read_to_end(max(len(data), 1) + 1)
            await pushing
        finally:
            pushing.cancel()
    return answer
