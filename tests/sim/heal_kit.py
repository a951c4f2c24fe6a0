"""Two endpoints in a simulated network, a pulse between them, and the time until it beats again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from iroh_py import Connection, Endpoint, EndpointConfig, IrohError, RecvStream, SecretKey, SendStream
from iroh_py.events import Event
from iroh_py.testing import SimHost

ALPN = "sim/echo"
BEAT = 0.02


async def serve(endpoint: Endpoint) -> None:
    """Echo every stream of every connection."""

    async def echo(send: SendStream, recv: RecvStream) -> None:
        with contextlib.suppress(IrohError):
            while part := await recv.read():
                await send.write(part)
            send.finish()

    async def streams(tasks: asyncio.TaskGroup, connection: Connection) -> None:
        with contextlib.suppress(IrohError):
            while True:
                tasks.create_task(echo(*await connection.accept_bi()))

    async with asyncio.TaskGroup() as tasks:
        async for connection in endpoint.connections():
            tasks.create_task(streams(tasks, connection))


@dataclass
class Scene:
    """A client, a server that echoes, their connection, and everything that happened."""

    client: Endpoint
    server: Endpoint
    connection: Connection
    events: list[tuple[str, Event]] = field(default_factory=list)
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    #: When bytes came back, and when bytes reached the server.
    answers: list[float] = field(default_factory=list)

    async def beat(self) -> None:
        """Send numbered messages, every 20 ms, until cancelled."""
        send, recv = self.connection.open_bi()
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while part := await recv.read():
                self.received += part
                self.answers.append(loop.time())

        reader = asyncio.create_task(read())
        try:
            for number in range(1_000_000):
                message = number.to_bytes(8, "big") * 4
                self.sent += message
                await send.write(message)
                await asyncio.sleep(BEAT)
        finally:
            reader.cancel()

    async def first_answer(self, after: float, within: float) -> float:
        """Seconds from ``after`` to the first byte that came later. Raises TimeoutError with the story."""
        loop = asyncio.get_running_loop()
        while not self.answers or self.answers[-1] <= after:
            if loop.time() - after > within:
                raise TimeoutError(f"nothing for {within} s\n{self.story(after - 0.5)}")
            await asyncio.sleep(0.001)
        return next(t for t in self.answers if t > after) - after

    async def check_bytes(self, pulse: asyncio.Task[None], wait: float = 5.0) -> None:
        """Stop the pulse; every byte must have come back, in order."""
        deadline = asyncio.get_running_loop().time() + wait
        expected = bytes(self.sent)
        while len(self.received) < len(expected) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pulse.cancel()
        assert bytes(self.received[: len(expected)]) == expected

    def story(self, since: float) -> str:
        """The events of both sides as text."""
        return "\n".join(
            f"{e.time:9.3f} {who:7} {e.kind}: {e.text}" for who, e in self.events if e.time >= since
        )


@contextlib.asynccontextmanager
async def scene(client: SimHost, server: SimHost, seed: int = 0, **options: object) -> AsyncIterator[Scene]:
    """Bind both, connect, and close in reverse."""
    rng = random.Random(seed)
    config = EndpointConfig(**options)  # type: ignore[arg-type]
    one = await Endpoint.bind(network=client, secret_key=SecretKey(rng.randbytes(32)), config=config, rng=rng)
    two = await Endpoint.bind(
        network=server, alpns=[ALPN], secret_key=SecretKey(rng.randbytes(32)), config=config, rng=rng
    )
    events: list[tuple[str, Event]] = []
    one.on_event(lambda e: events.append(("client", e)))
    two.on_event(lambda e: events.append(("server", e)))
    service = asyncio.create_task(serve(two))
    try:
        connection = await one.connect(two.node_addr, ALPN)
        yield Scene(one, two, connection, events)
    finally:
        await one.close()
        await two.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
