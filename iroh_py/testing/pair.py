"""Two connected endpoints and an echo between them: what most simulated tests begin with."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from iroh_py.addr import NodeAddr
from iroh_py.config import EndpointConfig
from iroh_py.connection import Connection
from iroh_py.endpoint import Endpoint
from iroh_py.errors import ConnectionLostError, StreamError
from iroh_py.keys import SecretKey
from iroh_py.streams import RecvStream, SendStream
from iroh_py.testing.host import SimHost

#: The application protocol of a pair.
ALPN = "iroh-py-test/echo"

#: Streams that the echoing side serves at once.
_STREAMS = 64


@dataclass(slots=True)
class Pair:
    """A connection seen from both ends. Made by :func:`connect_pair`.

    ``connection`` is the dialling side's, ``accepted`` the other one; that side echoes every bidirectional
    stream.
    """

    dialler: Endpoint
    listener: Endpoint
    connection: Connection
    accepted: Connection
    _stream: tuple[SendStream, RecvStream] | None = None

    async def echo(self, data: bytes = b"ping") -> float:
        """Send data, wait until the same data come back, and return the seconds that it took.

        One stream carries all echoes, so nothing may be lost on the way: a difference is an AssertionError.
        Raises ConnectionLostError.
        """
        if self._stream is None:
            self._stream = self.connection.open_bi()
        send, recv = self._stream
        loop = asyncio.get_running_loop()
        start = loop.time()
        await send.write(data)
        back = await recv.read_exact(len(data))
        assert back == data, f"sent {data!r}, got {back!r} back"
        return loop.time() - start


@contextlib.asynccontextmanager
async def connect_pair(
    dialler: SimHost,
    listener: SimHost,
    *,
    config: EndpointConfig | None = None,
    listener_config: EndpointConfig | None = None,
    at: NodeAddr | None = None,
) -> AsyncIterator[Pair]:
    """Bind an endpoint on each host, connect them, and close both in the end.

    Keys and all randomness of the endpoints come from the network's seed. ``listener_config`` is ``config``
    by default. ``at`` is where to dial; by default what the listener knows of itself, once it is online.
    Raises ConnectError, BindError, TimeoutError.
    """
    async with contextlib.AsyncExitStack() as stack:
        there = await stack.enter_async_context(await _bind(listener, listener_config or config))
        here = await stack.enter_async_context(await _bind(dialler, config))
        accepting = asyncio.create_task(there.accept())
        stack.callback(accepting.cancel)
        connection = await here.connect(at or await there.online(), ALPN)
        accepted = await accepting
        serving = asyncio.create_task(_serve(accepted))
        stack.push_async_callback(_end, serving)
        yield Pair(here, there, connection, accepted)


async def _bind(host: SimHost, config: EndpointConfig | None) -> Endpoint:
    rng = random.Random(host.net.rng.getrandbits(64))
    return await Endpoint.bind(
        secret_key=SecretKey(rng.randbytes(32)), alpns=(ALPN,), network=host, config=config, rng=rng
    )


async def _serve(connection: Connection) -> None:
    slots = asyncio.Semaphore(_STREAMS)
    try:
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                stream = await connection.accept_bi()
                group.create_task(_echo(*stream)).add_done_callback(lambda _: slots.release())
    except* ConnectionLostError:
        pass  # The test sees the loss at its own end.


async def _echo(send: SendStream, recv: RecvStream) -> None:
    try:
        while data := await recv.read():
            await send.write(data)
        send.finish()
    except StreamError:
        return  # The dialling side gave this stream up.


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
