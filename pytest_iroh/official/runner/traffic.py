"""What goes over connections: the echo server, one echo, a bulk echo, and the ticker."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .bindings import Connection, IrohError, plain_message

logger = logging.getLogger(__name__)

CHUNK = 1 << 16
"""Bytes per read: the bindings hand bytes over one at a time, so larger reads only block the loop longer."""

UNI_LIMIT = 1 << 24
"""Bytes of a unidirectional stream that are echoed; larger ones fail, so that no peer fills our memory."""

TICK = struct.Struct(">QQ")
"""A ticker message: its number and the microsecond (CLOCK_MONOTONIC) it was sent at."""

MAX_TICKS = 200_000
"""Ticks that one ticker sends before it ends: more than an hour at 20 ms."""


@dataclasses.dataclass(slots=True)
class Counters:
    """What the echo server has seen."""

    connections: int = 0
    bi_streams: int = 0
    uni_streams: int = 0
    datagrams: int = 0
    received: int = 0


def content(seed: int, size: int) -> bytes:
    """``size`` pseudo-random bytes; the parent makes the same from the same seed."""
    return hashlib.shake_256(str(seed).encode()).digest(size)


async def serve_echo(connection: Connection, counters: Counters) -> None:
    """Echo until the connection ends: a stream on itself, a one-way stream on another, datagrams."""
    counters.connections += 1
    loops = [
        asyncio.create_task(_repeat(lambda: _next_bi(connection, counters))),
        asyncio.create_task(_repeat(lambda: _next_uni(connection, counters))),
        asyncio.create_task(_repeat(lambda: _next_datagram(connection, counters))),
    ]
    try:
        await connection.closed()
    finally:
        for loop in loops:
            loop.cancel()


async def _repeat(accept_next: Callable[[], Awaitable[Awaitable[None]]]) -> None:
    """Take one thing after the other and handle each in a task of its own."""
    handlers: set[asyncio.Task[None]] = set()
    while True:
        try:
            handler = asyncio.ensure_future(_reported(await accept_next()))
        except IrohError:
            return  # The connection is closed; whoever awaits closed() has the reason.
        handlers.add(handler)
        handler.add_done_callback(handlers.discard)


async def _reported(work: Awaitable[None]) -> None:
    try:
        await work
    except IrohError as error:
        logger.warning("echo ended early: %s", plain_message(error))


async def _next_bi(connection: Connection, counters: Counters) -> Awaitable[None]:
    send, recv = await connection.accept_bi()
    counters.bi_streams += 1
    return _echo_stream(send, recv, counters)


async def _echo_stream(send: Any, recv: Any, counters: Counters) -> None:
    while chunk := await recv.read(CHUNK):
        counters.received += len(chunk)
        await send.write_all(chunk)
    await send.finish()


async def _next_uni(connection: Connection, counters: Counters) -> Awaitable[None]:
    recv = await connection.raw.accept_uni()
    counters.uni_streams += 1
    return _echo_uni(connection, recv, counters)


async def _echo_uni(connection: Connection, recv: Any, counters: Counters) -> None:
    data = await recv.read_to_end(UNI_LIMIT)
    counters.received += len(data)
    send = await connection.raw.open_uni()
    await send.write_all(data)
    await send.finish()


async def _next_datagram(connection: Connection, counters: Counters) -> Awaitable[None]:
    data = await connection.raw.read_datagram()
    counters.datagrams += 1
    counters.received += len(data)
    return _echo_datagram(connection, data)


async def _echo_datagram(connection: Connection, data: bytes) -> None:
    connection.raw.send_datagram(data)


async def echo(connection: Connection, data: bytes) -> dict[str, Any]:
    """Send over a new stream, read the echo to its end at the same time, and compare."""
    begun = time.monotonic()
    send, recv = await connection.open_bi()
    writer = asyncio.create_task(_write_all(send, data))
    try:
        received = await _read_all(recv, len(data))
        await writer
    finally:
        writer.cancel()
    return {
        "ok": received == data,
        "sent": len(data),
        "received": len(received),
        "sha256": hashlib.sha256(received).hexdigest(),
        "elapsed": time.monotonic() - begun,
    }


async def _write_all(send: Any, data: bytes) -> None:
    for start in range(0, len(data), CHUNK):
        await send.write_all(data[start : start + CHUNK])
    await send.finish()


async def _read_all(recv: Any, limit: int) -> bytes:
    """Read to the end, or to one byte past ``limit``: an echo that grows is wrong already."""
    received = bytearray()
    while len(received) <= limit and (chunk := await recv.read(CHUNK)):
        received += chunk
    return bytes(received)


async def echo_datagram(connection: Connection, data: bytes) -> dict[str, Any]:
    """Send one datagram and wait for the next one that comes back."""
    begun = time.monotonic()
    connection.raw.send_datagram(data)
    received = bytes(await connection.raw.read_datagram())
    return {"ok": received == data, "received": len(received), "elapsed": time.monotonic() - begun}


async def echo_uni(connection: Connection, data: bytes) -> dict[str, Any]:
    """Send over a new one-way stream and read the peer's next one to its end."""
    begun = time.monotonic()
    send = await connection.raw.open_uni()
    await _write_all(send, data)
    received = bytes(await (await connection.raw.accept_uni()).read_to_end(UNI_LIMIT))
    return {"ok": received == data, "received": len(received), "elapsed": time.monotonic() - begun}


class Ticker:
    """A small numbered message per interval over one stream, and when each echo came."""

    def __init__(self, connection: Connection, interval: float) -> None:
        self.sent: list[float] = []
        self.echoes: list[tuple[int, float]] = []
        self.error: str | None = None
        self._connection = connection
        self._interval = interval
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Open the stream and begin."""
        send, recv = await self._connection.open_bi()
        self._tasks = [
            asyncio.create_task(self._guarded(self._send(send))),
            asyncio.create_task(self._guarded(self._receive(recv))),
        ]

    def stop(self) -> None:
        """Send and listen no more."""
        for task in self._tasks:
            task.cancel()

    async def echo_of_later_than(self, event: float) -> float:
        """Wait for the echo of a message sent at or after ``event``; return when it came."""
        seen = 0
        while True:
            for number, at in self.echoes[seen:]:
                if self.sent[number] >= event:
                    return at
            seen = len(self.echoes)
            if self.error is not None:
                raise ValueError(self.error)
            self._news.clear()
            await self._news.wait()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (IrohError, ValueError) as error:
            self.error = self.error or plain_message(error)
            self._news.set()

    async def _send(self, send: Any) -> None:
        begun = time.monotonic()
        for number in range(MAX_TICKS):
            now = time.monotonic()
            self.sent.append(now)
            await send.write_all(TICK.pack(number, int(now * 1e6)))
            # By the plan and not by the last one, so that a late tick does not shift all that follow.
            await asyncio.sleep(max(0.0, begun + (number + 1) * self._interval - time.monotonic()))

    async def _receive(self, recv: Any) -> None:
        buffer = b""
        while chunk := bytes(await recv.read(CHUNK)):
            now = time.monotonic()
            buffer += chunk
            whole = len(buffer) - len(buffer) % TICK.size
            for number, sent in TICK.iter_unpack(buffer[:whole]):
                self._note(number, sent, now)
            buffer = buffer[whole:]
        raise ValueError("the peer ended the stream")

    def _note(self, number: int, sent: int, now: float) -> None:
        if number >= len(self.sent) or int(self.sent[number] * 1e6) != sent:
            raise ValueError(f"echo {number} carries bytes that were never sent")
        self.echoes.append((number, now))
        self._news.set()
