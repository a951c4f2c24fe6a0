"""What ``iroh-py listen`` does with connections: echo, a program per stream, or one pipe."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from iroh_py.cli.journal import Journal
from iroh_py.connection import Connection
from iroh_py.endpoint import Endpoint
from iroh_py.errors import IrohError
from iroh_py.streams import RecvStream, SendStream

#: Connections served at once; more are closed with code 1.
MAX_CONNECTIONS = 1024
#: Programs that run at once; further streams wait for their turn.
MAX_PROGRAMS = 64
#: Seconds for a program to end by itself after SIGTERM.
TERM_TIMEOUT = 2.0
_READ_SIZE = 64 * 1024

Service = Callable[[Connection], Coroutine[Any, Any, None]]
StreamService = Callable[[Connection, SendStream, RecvStream], Coroutine[Any, Any, None]]


async def serve(endpoint: Endpoint, service: Service) -> None:
    """Accept connections and serve each, until the endpoint is closed or this is cancelled."""
    live: dict[Connection, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        try:
            async for connection in endpoint.connections():
                if len(live) >= MAX_CONNECTIONS:
                    connection.close(1, f"{MAX_CONNECTIONS} connections are served already")
                    continue
                live[connection] = task = tasks.create_task(service(connection))
                task.add_done_callback(functools.partial(_forget, live, connection))
        finally:
            for connection in live:  # before their tasks end and reset streams, which would hide the reason
                connection.close(0, "the listener was stopped")


def _forget(live: dict[Connection, asyncio.Task[None]], connection: Connection, _: object) -> None:
    del live[connection]


async def _each_stream(connection: Connection, handle: StreamService) -> None:
    """Serve every stream that the peer opens until the connection is over."""
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                send, recv = await connection.accept_bi()
            except IrohError:  # over, for whatever reason: the journal says it
                return
            tasks.create_task(handle(connection, send, recv))


async def echo(connection: Connection) -> None:
    """Send back what arrives on streams and in datagrams."""
    datagrams = asyncio.create_task(_echo_datagrams(connection))
    try:
        await _each_stream(connection, _echo_stream)
    finally:
        datagrams.cancel()


async def _echo_stream(connection: Connection, send: SendStream, recv: RecvStream) -> None:
    with contextlib.suppress(IrohError):  # the stream ended, and its service with it
        async with send:
            async for part in recv:
                await send.write(part)


async def _echo_datagrams(connection: Connection) -> None:
    with contextlib.suppress(IrohError):
        while True:
            data = await connection.read_datagram()
            if len(data) <= connection.max_datagram_size:
                connection.send_datagram(data)


class Programs:
    """Runs a program for each stream: what the peer sends is its input, what it prints goes to the peer.

    Its environment tells the peer's node id as IROH_PY_NODE_ID.
    """

    def __init__(self, argv: Sequence[str], journal: Journal) -> None:
        self._argv = argv
        self._journal = journal
        self._slots = asyncio.Semaphore(MAX_PROGRAMS)

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection."""
        await _each_stream(connection, self._serve)

    async def _serve(self, connection: Connection, send: SendStream, recv: RecvStream) -> None:
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._argv,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env={**os.environ, "IROH_PY_NODE_ID": str(connection.node_id)},
                )
            except OSError as error:
                self._journal.say(f"{self._argv[0]} cannot be started: {error.strerror or error}", "red")
                send.reset(1)
                recv.stop(1)
                return
            try:
                await _join(process, send, recv)
            except IrohError:
                pass  # the stream or connection broke; the program ends below
            finally:
                await _end(process)
            if process.returncode:
                self._journal.say(
                    f"{connection.node_id.fmt_short()} {self._argv[0]} ended with status {process.returncode}",
                    "yellow",
                )


async def _join(process: asyncio.subprocess.Process, send: SendStream, recv: RecvStream) -> None:
    """Copy both ways until the program has ended its output. Raises what breaks the stream."""
    feeding = asyncio.create_task(_feed(process, recv))
    assert process.stdout is not None
    try:
        async with send:
            while part := await process.stdout.read(_READ_SIZE):
                await send.write(part)
        recv.stop()
        await send.drain()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def _feed(process: asyncio.subprocess.Process, recv: RecvStream) -> None:
    assert process.stdin is not None
    # It wants no more input, or the stream broke; what it prints tells the peer.
    with contextlib.suppress(IrohError, ConnectionError):
        async for part in recv:
            process.stdin.write(part)
            await process.stdin.drain()
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Wait for a program that has closed its output, and end one that has not."""
    for stop in (process.terminate, process.kill):
        try:
            async with asyncio.timeout(TERM_TIMEOUT):
                await process.wait()
                return
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment
                stop()
    await process.wait()
