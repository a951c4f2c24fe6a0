"""``iroh-py connect --ping``: small messages over one stream, and the way that they take."""

from __future__ import annotations

import asyncio
import struct
import time

from iroh_py.cli.journal import describe_path
from iroh_py.cli.ping_display import Display, make_display
from iroh_py.cli.pinging import Pinging
from iroh_py.connection import Connection
from iroh_py.streams import RecvStream, SendStream

#: A message is its number.
_MESSAGE = struct.Struct("!Q")


async def ping(connection: Connection, pinging: Pinging, *, interval: float, count: int | None) -> None:
    """Ping until ``count`` answers came (None: until cancelled). Raises what ends the connection."""
    send, recv = connection.open_bi()
    display = make_display(connection.node_id, pinging)
    with display:
        display.path_changed(_path(connection))
        others = [
            asyncio.create_task(_send(send, pinging, interval, count, display)),
            asyncio.create_task(_watch(connection, display)),
        ]
        try:
            await _receive(connection, recv, pinging, count, display)
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)  # why they failed, receiving tells as well
            display.over()
    send.finish()
    connection.close()


async def _send(
    send: SendStream, pinging: Pinging, interval: float, count: int | None, display: Display
) -> None:
    due = time.monotonic()
    while count is None or pinging.sent < count:
        silence = pinging.silence(time.monotonic())
        if silence >= interval:
            display.silent(silence)
        if not pinging.full:
            await send.write(_MESSAGE.pack(pinging.handle_sent(time.monotonic())))
        due = max(due + interval, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
    while True:  # everything is sent; the silence goes on
        await asyncio.sleep(interval)
        silence = pinging.silence(time.monotonic())
        if silence >= interval:
            display.silent(silence)


async def _receive(
    connection: Connection, recv: RecvStream, pinging: Pinging, count: int | None, display: Display
) -> None:
    while count is None or pinging.answered < count:
        (number,) = _MESSAGE.unpack(await recv.read_exact(_MESSAGE.size))
        seconds = pinging.handle_answer(time.monotonic(), number)
        if seconds is not None:
            display.answered(number, seconds, _path(connection))


async def _watch(connection: Connection, display: Display) -> None:
    async for _ in connection.watch_path():
        display.path_changed(_path(connection))


def _path(connection: Connection) -> str:
    path = connection.path
    return describe_path(path.text, path.relayed)
