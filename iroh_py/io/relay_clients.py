"""All relays that a node is connected to, and which of them a datagram takes (PROTOCOL.md 7.7, 7.8)."""

from __future__ import annotations

import asyncio
import random
import ssl as ssl_module
from collections.abc import Iterable

from iroh_py.io.relay_client import OnAnswer, OnDatagrams, OnState, RelayClient
from iroh_py.io.relay_dial import WaysTo, kernel_only
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Network
from iroh_py.proto.relay.upgrade import Generation
from iroh_py.relay_url import RelayUrl

#: Relays at the same time. Peers name their relays, so a stranger decides whom we dial; this bounds it.
MAX_RELAYS = 16
#: Nodes of which we remember the relay that they were last heard through.
_MAX_ROUTES = 1024


class RelayClients:
    """Relays on demand: one home relay that stays, others while datagrams go there, at most 16.

    Callbacks and options are those of RelayClient. At the cap the relay that was idle longest makes room;
    when all others are in use too, that is still better than refusing the newest peer.
    """

    def __init__(
        self,
        network: Network,
        secret_key: SecretKey,
        *,
        on_datagrams: OnDatagrams,
        on_state: OnState,
        on_answer: OnAnswer = lambda url: None,
        ssl_context: ssl_module.SSLContext | None = None,
        token: str | None = None,
        generation: Generation = Generation.V3_NATIVE,
        rng: random.Random | None = None,
        ways: WaysTo = kernel_only,
        max_relays: int = MAX_RELAYS,
    ) -> None:
        self._network = network
        self._secret_key = secret_key
        self._on_datagrams = on_datagrams
        self._on_state = on_state
        self._on_answer = on_answer
        self._ssl_context = ssl_context
        self._token = token
        self._generation = generation
        self._rng = rng
        self._ways = ways
        self._max_relays = max_relays
        self._clients: dict[RelayUrl, RelayClient] = {}
        self._routes: dict[NodeId, RelayUrl] = {}
        self._home: RelayUrl | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def home(self) -> RelayUrl | None:
        """The home relay's URL."""
        return self._home

    def client(self, url: RelayUrl) -> RelayClient | None:
        """The client of this relay, if there is one."""
        return self._clients.get(url)

    def connected(self, url: RelayUrl) -> bool:
        """Whether this relay is connected now."""
        client = self._clients.get(url)
        return client is not None and client.connected

    @property
    def clients(self) -> tuple[RelayClient, ...]:
        """Every client that there is."""
        return tuple(self._clients.values())

    def send(self, url: RelayUrl, node_id: NodeId, datagrams: list[bytes]) -> None:
        """Send datagrams to a node that is said to be at this relay.

        While that relay is not connected, a copy goes through another connected relay that the node was last
        heard through: a datagram twice costs less than one too late.
        """
        if self._closed:
            return
        client = self._clients.get(url)
        other = self._other_route(url, node_id)
        if client is None and other is not None:
            other.send(node_id, datagrams)
            return
        if client is None:
            client = self._open(url)
        elif not client.connected and other is not None:
            other.send(node_id, datagrams)
        client.send(node_id, datagrams)

    def set_home(self, url: RelayUrl | None) -> None:
        """Connect to this relay and stay; the old home relay is closed when it was idle for a minute."""
        if self._closed or url == self._home:
            return
        old = self._clients.get(self._home) if self._home is not None else None
        self._home = url
        if old is not None:
            old.set_home(False)
        if url is not None:
            client = self._clients.get(url) or self._open(url)
            client.set_home(True)

    def network_changed(self, local_ips: Iterable[str]) -> None:
        """Tell every relay connection."""
        ips = set(local_ips)
        for client in self._clients.values():
            client.network_changed(ips)

    def warm(self, url: RelayUrl) -> None:
        """Connect to a relay because somebody may look for us there; it is left again like any other."""
        if not self._closed:
            (self._clients.get(url) or self._open(url)).start()

    def check(self) -> None:
        """Ask every relay whether its connection still works."""
        for client in self._clients.values():
            client.check()

    async def close(self) -> None:
        """Drop all connections."""
        self._closed = True
        clients = list(self._clients.values())
        self._clients.clear()
        await asyncio.gather(*self._closing, *(client.close() for client in clients))

    def _other_route(self, url: RelayUrl, node_id: NodeId) -> RelayClient | None:
        heard = self._routes.get(node_id)
        if heard is None or heard == url:
            return None
        client = self._clients.get(heard)
        return client if client is not None and client.connected else None

    def _open(self, url: RelayUrl) -> RelayClient:
        self._make_room()
        client = RelayClient(
            self._network,
            self._secret_key,
            url,
            on_datagrams=self._received,
            on_state=self._on_state,
            on_gone=self._gone,
            on_answer=self._on_answer,
            ssl_context=self._ssl_context,
            token=self._token,
            generation=self._generation,
            rng=self._rng,
            ways=self._ways,
        )
        self._clients[url] = client
        return client

    def _make_room(self) -> None:
        for url in [url for url, client in self._clients.items() if not client.running]:
            self._drop(url)
        while len(self._clients) >= self._max_relays:
            others = [client for client in self._clients.values() if not client.is_home]
            if not others:
                return
            self._drop(min(others, key=lambda client: client.last_used).url)

    def _drop(self, url: RelayUrl) -> None:
        client = self._clients.pop(url)
        connected = client.connected
        task = asyncio.create_task(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        if connected:
            self._on_state(url, False, "closed in favour of another relay")

    def _received(self, url: RelayUrl, node_id: NodeId, datagrams: list[bytes]) -> None:
        if self._routes.get(node_id) != url:
            self._routes.pop(node_id, None)
            if len(self._routes) >= _MAX_ROUTES:
                del self._routes[next(iter(self._routes))]
            self._routes[node_id] = url
        self._on_datagrams(url, node_id, datagrams)

    def _gone(self, url: RelayUrl, node_id: NodeId) -> None:
        if self._routes.get(node_id) == url:
            del self._routes[node_id]
