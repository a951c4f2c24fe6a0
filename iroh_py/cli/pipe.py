"""One stream joined to standard input and output, both directions at once."""

from __future__ import annotations

import asyncio
import contextlib

from iroh_py.cli.stdio import Input, Output
from iroh_py.connection import Connection
from iroh_py.errors import PeerClosedError, StreamStoppedError
from iroh_py.streams import RecvStream, SendStream

#: Seconds between two looks whether the peer still wants our input, once its own output has ended.
_LOOK_INTERVAL = 0.5
#: Seconds for the side that dialled to close the connection after both directions ended.
_CLOSE_TIMEOUT = 5.0


async def pipe(send: SendStream, recv: RecvStream, source: Input, sink: Output) -> None:
    """Copy both ways until both sides have ended what they send.

    Raises StreamResetError, ConnectionLostError, BrokenPipeError (nobody reads our output), OSError.
    """
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_download(recv, sink, ended))
        tasks.create_task(_upload(send, source, ended))


async def _download(recv: RecvStream, sink: Output, ended: asyncio.Event) -> None:
    try:
        async for part in recv:
            await sink.write(part)
    except BrokenPipeError:
        recv.stop()
        raise
    ended.set()


async def _upload(send: SendStream, source: Input, ended: asyncio.Event) -> None:
    with contextlib.suppress(StreamStoppedError):  # the peer has enough: that is an end, too
        while data := await _next(send, source, ended):
            await send.write(data)
        send.finish()
        try:
            await send.drain()
        except PeerClosedError as error:
            if error.code != 0 or not ended.is_set():
                raise  # else the peer has read everything and was faster with its close than with its answer


async def _next(send: SendStream, source: Input, ended: asyncio.Event) -> bytes:
    """The next input; somebody may sit at a keyboard while the peer has gone. Raises as ``write`` does."""
    reading = asyncio.create_task(source.read())
    ending = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
        while not reading.done():
            await asyncio.wait((reading,), timeout=_LOOK_INTERVAL)
            await send.write(b"")
        return reading.result()
    finally:
        ending.cancel()
        reading.cancel()


async def wait_for_close(connection: Connection) -> None:
    """Let the side that dialled close: it does so when it has everything."""
    with contextlib.suppress(TimeoutError):  # it has everything all the same: it said so
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await connection.wait_closed()
