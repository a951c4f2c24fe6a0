"""A relay with STUN in the simulated network, and a scene of endpoints that know it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from heal_kit import ALPN, Scene, serve

from iroh_py import Endpoint, EndpointConfig, RelayUrl, SecretKey
from iroh_py.events import Event
from iroh_py.network import Addr, Family, UdpSocket
from iroh_py.relay import RelayConfig, RelayServer
from iroh_py.relay.stun import answer_stun
from iroh_py.testing import SimHost, SimListener, SimNet

PORT = 3340
STUN_PORT = 3478


class Relay:
    """A relay server with STUN on a simulated host; it can be killed and started again."""

    def __init__(self, net: SimNet, name: str, ip: str) -> None:
        self.host = net.host(name, ip)
        self.url = RelayUrl.parse(f"http://{ip}:{PORT}/")
        self.server = RelayServer(
            RelayConfig(bind=(), stun_bind=(), public_url=self.url), rng=random.Random(1)
        )
        #: Seconds by which STUN answers are late; None: no answers.
        self.stun_delay: float | None = 0.0
        self.stun_requests = 0
        self.connections = 0
        self._listener: SimListener | None = None
        self._socket: UdpSocket | None = None

    async def start(self) -> Relay:
        """Serve."""
        await self.server.start()
        self._listener = self.host.listen_tcp(PORT, self._accept)
        self._socket = self.host.open_udp(Family.V4, "0.0.0.0", STUN_PORT, self._stun)
        return self

    async def kill(self) -> None:
        """Stop as a killed process does."""
        if self._listener is None or self._socket is None:
            return
        self._listener.close(abort=True)
        self._socket.close()
        self._listener = self._socket = None
        await self.server.close(graceful=False)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.server.accept(reader, writer)

    def _stun(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            self.stun_requests += 1
            if self.stun_delay is not None:
                answer = answer_stun(data, source)
                asyncio.get_running_loop().call_later(self.stun_delay, self._answer, answer, source)

    def _answer(self, data: bytes, to: Addr) -> None:
        if self._socket is not None:
            self._socket.send([data], to)


@contextlib.asynccontextmanager
async def endpoint(
    host: SimHost, *relays: Relay, seed: int = 1, alpns: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[tuple[Endpoint, list[Event]]]:
    """An endpoint that knows these relays, and its events."""
    rng = random.Random(seed)
    config = EndpointConfig(relays=tuple(r.url for r in relays), **options)
    secret_key = SecretKey(rng.randbytes(32))
    bound = await Endpoint.bind(network=host, secret_key=secret_key, config=config, rng=rng, alpns=alpns)
    events: list[Event] = []
    bound.on_event(events.append)
    try:
        yield bound, events
    finally:
        await bound.close()


@contextlib.asynccontextmanager
async def relayed_scene(
    client: SimHost, server: SimHost, *relays: Relay, seed: int = 0, settle: float = 3.0, **options: Any
) -> AsyncIterator[Scene]:
    """Two endpoints with relays, connected by node id and relay, given some time to punch through."""
    async with (
        endpoint(client, *relays, seed=seed + 1, **options) as (one, first),
        endpoint(server, *relays, seed=seed + 2, alpns=(ALPN,), **options) as (two, second),
    ):
        events: list[tuple[str, Event]] = []
        events += [("client", e) for e in first] + [("server", e) for e in second]
        one.on_event(lambda e: events.append(("client", e)))
        two.on_event(lambda e: events.append(("server", e)))
        service = asyncio.create_task(serve(two))
        try:
            await one.online()
            await two.online()
            connection = await one.connect(two.node_addr, ALPN)
            await asyncio.sleep(settle)
            yield Scene(one, two, connection, events)
        finally:
            service.cancel()
            await asyncio.gather(service, return_exceptions=True)
