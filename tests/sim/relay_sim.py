"""A simulated network with real relay servers in it, and relay clients that record what happens to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from iroh_py.io.relay_client import RelayClient
from iroh_py.io.relay_clients import RelayClients
from iroh_py.keys import NodeId, SecretKey
from iroh_py.relay import RelayConfig, RelayServer
from iroh_py.relay_url import RelayUrl
from iroh_py.testing import SimHost, SimListener, SimNet

PORT = 3340
#: Alice to the relay, by default links of 5 ms: hers, her router's and the relay's.
RTT = 0.03


class SimRelay:
    """A relay server on a simulated host, which can be killed and started again."""

    def __init__(self, host: SimHost, url: RelayUrl) -> None:
        self.host = host
        self.url = url
        self.server = RelayServer(RelayConfig(bind=(), stun_bind=(), public_url=url), rng=random.Random(1))
        self._listener: SimListener | None = None

    async def start(self) -> None:
        """Serve."""
        await self.server.start()
        self._listener = self.host.listen_tcp(PORT, self.server.accept)

    async def kill(self) -> None:
        """Stop as a killed process does."""
        assert self._listener is not None
        self._listener.close(abort=True)
        await self.server.close(graceful=False)

    def nodes(self) -> int:
        """Nodes that are logged in."""
        return self.server.stats().nodes


class Node:
    """A relay client (or several, with ``clients``) and everything it told us."""

    def __init__(self, host: SimHost, number: int) -> None:
        self.host = host
        self.secret = SecretKey(bytes([number]) * 32)
        self.id: NodeId = self.secret.node_id
        self.received: list[bytes] = []
        self.states: list[tuple[float, bool, str]] = []
        self._rng = random.Random(number)
        self._news = asyncio.Event()

    def client(self, url: RelayUrl, **options: Any) -> RelayClient:
        """A client of one relay."""
        return RelayClient(
            self.host,
            self.secret,
            url,
            on_datagrams=self._datagrams,
            on_state=self._state,
            rng=self._rng,
            **{"is_home": True} | options,
        )

    def clients(self, **options: Any) -> RelayClients:
        """Clients of many relays."""
        return RelayClients(
            self.host,
            self.secret,
            on_datagrams=self._datagrams,
            on_state=self._state,
            rng=self._rng,
            **options,
        )

    def ips(self) -> set[str]:
        """Addresses that this host has now."""
        return {a.ip for i in self.host.state.interfaces if i.usable for a in i.addresses}

    async def until(self, condition: Callable[[], bool], within: float) -> float:
        """Wait for news that make something true; how many virtual seconds it took."""
        started = self.host.time()
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()
        return self.host.time() - started

    def _datagrams(self, url: RelayUrl, node_id: NodeId, datagrams: list[bytes]) -> None:
        self.received += datagrams
        self._news.set()

    def _state(self, url: RelayUrl, connected: bool, detail: str) -> None:
        self.states.append((self.host.time(), connected, detail))
        self._news.set()


async def sending(
    client: RelayClient | RelayClients, to: NodeId, *, every: float = 0.05, url: RelayUrl | None = None
) -> None:
    """Send numbered datagrams for ever; cancel it."""
    number = 0
    while True:
        payload = [b"%d" % number]
        if isinstance(client, RelayClients):
            assert url is not None
            client.send(url, to, payload)
        else:
            client.send(to, payload)
        number += 1
        await asyncio.sleep(every)


async def world(net: SimNet) -> tuple[SimRelay, Node, Node]:
    """A relay, alice behind Wi-Fi and mobile, bob on the Internet."""
    relay_host = net.host("relay", "198.51.100.1")
    wifi, mobile = net.nat("wifi"), net.nat("mobile")
    alice = net.host("alice", interfaces={"wlan0": wifi, "wwan0": mobile})
    relay = SimRelay(relay_host, RelayUrl.parse(f"http://198.51.100.1:{PORT}"))
    await relay.start()
    return relay, Node(alice, 1), Node(net.host("bob", "198.51.100.2"), 2)
