"""Nodes of the same local network find each other by multicast, without any server (PROTOCOL 9.6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from iroh_py.discovery import local_messages as messages
from iroh_py.discovery.base import DiscoveryCounters, DiscoveryService, Found, Site
from iroh_py.discovery.local_swarm import LocalSwarm, Send
from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.io.multicast import MulticastSocket
from iroh_py.keys import NodeId
from iroh_py.network import Addr, Family, NetworkState, Receiver
from iroh_py.proto.node_info import NodeInfo

PROVENANCE = "local.swarm.discovery"
#: The port and the groups of multicast DNS (RFC 6762).
PORT = 5353
GROUPS = {Family.V4: "224.0.0.251", Family.V6: "ff02::fb"}
#: Seconds for which somebody who asked for a node gets what is heard of it.
LISTEN_FOR = 10.0
#: News of one node that wait for the one who asked; the newest replaces what waits.
_NEWS = 1


@runtime_checkable
class MulticastNetwork(Protocol):
    """A network whose hosts hear each other's multicast."""

    def open_multicast(self, family: Family, group: str, port: int, receiver: Receiver) -> MulticastSocket:
        """A socket for a group. Raises OSError."""
        ...


class LocalDiscovery:
    """Announces us on the local networks we are in, and hears who else is there.

    Works on the system's network and in lab hosts; anybody on those networks can announce anything, so what
    is heard is only a place to try. ``announce=False`` only listens.
    """

    def __init__(self, *, announce: bool = True) -> None:
        self.announces = announce

    async def start(self, site: Site) -> LocalService:
        """Begin to work for an endpoint.

        Raises LocalProtocolError in a network without multicast (a simulated one), OSError without sockets.
        """
        if not isinstance(site.network, MulticastNetwork):
            raise LocalProtocolError(
                f"LocalDiscovery needs multicast, which {site.network.name} ({type(site.network).__name__}) "
                "does not have; use it on the system's network or in a lab host"
            )
        return LocalService(site, site.network, announce=self.announces)


class LocalService(DiscoveryService):
    """Local discovery at work for one endpoint. Needs a running event loop."""

    provenance = PROVENANCE

    def __init__(self, site: Site, network: MulticastNetwork, *, announce: bool) -> None:
        self.counters = DiscoveryCounters()
        self._site = site
        self._announces = announce
        self._announcement: bytes | None = None
        self._swarm = LocalSwarm(site.network.time(), site.secret_key.node_id, site.rng)
        self._listeners: dict[asyncio.Queue[NodeInfo], NodeId] = {}
        #: The families in which somebody asked since our last answer.
        self._asked_in: set[Family] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sockets = _open(network, self)
        self._act()

    # --- Discovery ---

    def publish(self, info: NodeInfo) -> None:
        """Announce this from now on, and right now."""
        public = self._announces and info.direct_addresses
        self._announcement = messages.encode_response(info) if public else None
        self._swarm.announce_soon(self._now())
        self._act()

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        """Yield the newest announcement of a node, and newer ones for ten seconds."""
        self.counters.asked += 1
        news: asyncio.Queue[NodeInfo] = asyncio.Queue(_NEWS)
        known = self._swarm.find(node_id)
        if known is not None:
            news.put_nowait(known)
        self._listeners[news] = node_id
        self._swarm.ask_soon(self._now())
        self._act()
        try:
            end = self._loop.time() + LISTEN_FOR
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        info = await news.get()
                except TimeoutError:
                    return
                self.counters.found += 1
                yield Found(info, self.provenance)
        finally:
            del self._listeners[news]

    def handle_network_change(self, state: NetworkState) -> None:
        """Join on interfaces that came, and ask at once who is there."""
        usable = {i.index for i in state.interfaces if i.usable and not i.loopback}
        for socket in self._sockets.values():
            for index in socket.joined - usable:
                socket.leave(index)
            for index in usable - socket.joined:
                socket.join(index)
        self._swarm.ask_soon(self._now())
        self._act()

    async def close(self) -> None:
        """Leave the groups and be silent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for socket in self._sockets.values():
            socket.close()

    # --- the network ---

    def receive(self, family: Family, batch: list[tuple[bytes, Addr, int]]) -> None:
        """Datagrams of the group's port arrived."""
        now = self._now()
        for data, _source, _arrival in batch:
            if not messages.is_ours(data):
                continue
            try:
                peers = messages.decode(data)
            except DiscoveryError:
                self.counters.malformed += 1
                continue
            if peers is None:
                self._asked_in.add(family)
                self._swarm.handle_query(now)
            else:
                self._tell(self._swarm.handle_response(now, peers))
        self._act()

    def _tell(self, news: list[NodeInfo]) -> None:
        for info in news:
            self._site.heard(Found(info, self.provenance))
            for queue, wanted in self._listeners.items():
                if wanted == info.node_id:
                    if queue.full():
                        queue.get_nowait()
                    queue.put_nowait(info)

    # --- time ---

    def _now(self) -> float:
        return self._site.network.time()

    def _act(self) -> None:
        """Send what is due and arm the timer."""
        if self._closed:
            return
        now = self._now()
        for what in self._swarm.handle_timeout(now):
            if what is Send.QUERY:
                self._ask()
            else:
                self._answer()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, self._swarm.next_timeout() - now), self._act)

    def _ask(self) -> None:
        # IPv4 is preferred for our own questions (9.6); where it does not work, IPv6 is taken.
        used = self._send(messages.encode_query(), list(Family))
        if used is not None:
            self._asked_in.add(used)

    def _answer(self) -> None:
        families, self._asked_in = self._asked_in or {Family.V4}, set()
        data = self._announcement
        if data is None:
            return
        self.counters.published += 1
        for family in families:
            other = Family.V6 if family is Family.V4 else Family.V4
            self._send(data, [family, other])

    def _send(self, data: bytes, families: list[Family]) -> Family | None:
        """Send by all interfaces in the first family that works, and return it."""
        for family in families:
            socket = self._sockets.get(family)
            if socket is not None and sum(socket.send(data, index) for index in socket.joined):
                return family
        return None


def _open(network: MulticastNetwork, service: LocalService) -> dict[Family, MulticastSocket]:
    """The sockets of both families, IPv4 first. Raises OSError if neither can be had."""
    sockets: dict[Family, MulticastSocket] = {}
    problem: OSError | None = None
    for family, group in GROUPS.items():

        def receive(batch: list[tuple[bytes, Addr, int]], family: Family = family) -> None:
            service.receive(family, batch)

        try:
            sockets[family] = network.open_multicast(family, group, PORT, receive)
        except OSError as error:
            problem = error  # one family is enough
    if not sockets and problem is not None:
        raise problem
    return sockets
