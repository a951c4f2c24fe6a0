"""Discovery at work in an endpoint: publishes our addresses, asks where others are when that is needed.

Theory of operation. Our node address is watched, and each change is published, the first one at once. A
dialled node of which nothing is known is asked for before the dial; the dial begins with the first answer.
From then on one rule covers everything: a node with connections (a dial is one) that can be reached neither
directly nor through its relay is asked for, at a bounded rate, and what is found goes to the node map, which
tries it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from iroh_py.addr import NodeAddr, addr_order
from iroh_py.discovery.base import Discovery, DiscoveryService, Found, Site
from iroh_py.discovery.combined import CombinedDiscovery
from iroh_py.discovery.reask import LOOK_INTERVAL, AskAgain, is_troubled
from iroh_py.errors import ClosedError, DiscoveryError, LocalProtocolError, NoAddressError
from iroh_py.events import ConnectionOpened, Event, NetworkChanged, NodeDiscovered, PathChanged, PathSuspected
from iroh_py.io.driver import Driver
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.node_info import NodeInfo
from iroh_py.proto.node_state import NodeState
from iroh_py.watch import Watchable

#: Seconds between two publications: a few per second while addresses come and go.
PUBLISH_INTERVAL = 0.3
#: Direct addresses taken from one answer. As many as from a CallMeMaybe: all of them are pinged.
MAX_LEARNT = 40
#: A node heard from within this time (PROTOCOL 9.1), in seconds, is not asked for when it is dialled.
HEARD_LATELY = 10.0


class EndpointDiscovery:
    """The discovery services of one endpoint. Made by :meth:`start`."""

    def __init__(self, driver: Driver, addresses: Watchable[NodeAddr]) -> None:
        self._driver = driver
        self._addresses = addresses
        self._service = DiscoveryService()
        self._again = AskAgain()
        self._trouble = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: dict[NodeId, asyncio.Task[None]] = {}
        #: Questions of dials that are under way; each dial ends its own.
        self._dials: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, driver: Driver, addresses: Watchable[NodeAddr]) -> EndpointDiscovery:
        """Start the services of the endpoint's config.

        Raises LocalProtocolError for something that is no discovery, and what a service raises.
        """
        self = cls(driver, addresses)
        core = driver.core
        parts = _discoveries(core.config.discovery)
        NodeInfo(core.secret_key.node_id, user_data=core.config.user_data)  # too long: say it now
        site = Site(driver.network, core.secret_key, core.shared.rng, self._heard)
        self._service = await CombinedDiscovery(*parts).start(site)
        self._service.handle_network_change(driver.state)
        self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._watch_nodes())]
        return self

    async def close(self) -> None:
        """End all questions, then the services."""
        tasks = [*self._tasks, *self._asking.values(), *self._dials]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._service.close()

    # --- publishing ---

    async def _publish(self) -> None:
        user_data = self._driver.core.config.user_data
        async for addr in self._addresses:
            if not addr.is_empty:
                self._service.publish(
                    NodeInfo(addr.node_id, addr.relay_url, addr.direct_addresses, user_data)
                )
            await asyncio.sleep(PUBLISH_INTERVAL)

    # --- dialling ---

    @contextlib.asynccontextmanager
    async def dialling(self, addr: NodeAddr) -> AsyncIterator[None]:
        """Ask for a node while it is dialled; the block begins when there is something to dial.

        Raises NoAddressError if nobody knows anything.
        """
        node = self._driver.core.magic.add_node_addr(self._driver.now(), addr)
        asking: asyncio.Task[None] | None = None
        try:
            if not self.is_reachable(node):
                found = asyncio.Event()
                asking = self._ask_for_dial(node.node_id, found)
                await self._first(node.node_id, asking, found)
            elif addr.is_empty and not _heard_lately(self._driver.now(), node):
                # The addresses are remembered from some other time: try them, and ask meanwhile.
                asking = self._ask_for_dial(node.node_id, asyncio.Event())
            self._trouble.set()
            yield
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)

    def _ask_for_dial(self, node_id: NodeId, found: asyncio.Event) -> asyncio.Task[None]:
        task = asyncio.create_task(self._ask(node_id, found))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return task

    async def _first(self, node_id: NodeId, asking: asyncio.Task[None], found: asyncio.Event) -> None:
        waiting = asyncio.create_task(found.wait())
        try:
            await asyncio.wait((asking, waiting), return_when=asyncio.FIRST_COMPLETED)
            if found.is_set():
                return
            if asking.cancelled():
                raise ClosedError("this endpoint was closed")
            why = asking.exception()
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        detail = f": {why}" if why is not None else ": all were asked, and nothing they know can be dialled"
        raise NoAddressError(f"discovery found no address of {node_id.fmt_short()}{detail}") from why

    def knows(self, node_id: NodeId) -> bool:
        """Whether anything is known of a node that a dial could try."""
        node = self._driver.core.magic.nodes.get(node_id)
        return node is not None and self.is_reachable(node)

    def is_reachable(self, node: NodeState) -> bool:
        """Whether anything is known that a dial could try."""
        return len(node.paths) > 0 or (node.relay is not None and self._driver.relays is not None)

    # --- asking ---

    async def _ask(self, node_id: NodeId, found: asyncio.Event) -> None:
        """Ask all services and learn what they say; sets ``found`` when a dial has something to try."""
        async with contextlib.aclosing(self._service.resolve(node_id)) as results:
            async for result in results:
                if self.learn(result):
                    found.set()

    def learn(self, found: Found) -> bool:
        """Enter what was found into the node map; whether the node can be tried now."""
        now = self._driver.now()
        core = self._driver.core
        addresses = _dialable(found.info.direct_addresses)
        if found.info.relay_url is None and not addresses:
            return False
        core.events.append(
            NodeDiscovered(now, found.info.node_id, addresses, found.info.relay_url, found.provenance)
        )
        node = core.magic.add_node_addr(now, NodeAddr(found.info.node_id, found.info.relay_url, addresses))
        self._driver.pump_soon()
        return self.is_reachable(node)

    def _heard(self, found: Found) -> None:
        """A service heard of a node unasked: of use if we talk to it; else strangers would fill the map."""
        node = self._driver.core.magic.nodes.get(found.info.node_id)
        if node is not None and node.sessions:
            self.learn(found)

    # --- asking again ---

    def handle_event(self, event: Event) -> None:
        """Something happened in the endpoint: look whether a node is in trouble."""
        if isinstance(event, NetworkChanged):
            self._again.hasten(event.time)
            self._service.handle_network_change(self._driver.state)
        if isinstance(event, NetworkChanged | PathSuspected | PathChanged | ConnectionOpened):
            self._trouble.set()

    async def _watch_nodes(self) -> None:
        """Look at the nodes while one is in trouble; sleep while none is."""
        nodes = self._driver.core.magic.nodes
        while True:
            await self._trouble.wait()
            for node_id in self._again.due(self._driver.now(), nodes.values()):
                self._ask_again(node_id)
            for node_id in [one for one in self._asking if not self._again.is_searched(one)]:
                self._asking.pop(node_id).cancel()
            if any(is_troubled(node) for node in nodes.values()):
                await asyncio.sleep(LOOK_INTERVAL)
            else:
                self._trouble.clear()

    def _ask_again(self, node_id: NodeId) -> None:
        previous = self._asking.pop(node_id, None)
        if previous is not None:
            previous.cancel()
        self._asking[node_id] = asyncio.create_task(self._ask_quietly(node_id))

    async def _ask_quietly(self, node_id: NodeId) -> None:
        try:
            await self._ask(node_id, asyncio.Event())
        except DiscoveryError:
            return  # the services count it, and the next question comes by itself


def _discoveries(configured: Sequence[object]) -> list[Discovery]:
    parts: list[Discovery] = []
    for part in configured:
        if not isinstance(part, Discovery):
            raise LocalProtocolError(
                f"{part!r} in config.discovery is no Discovery: it has no method start(site)"
            )
        parts.append(part)
    return parts


def _dialable(addresses: frozenset[Addr]) -> tuple[Addr, ...]:
    """The addresses that can be sent to: no port 0, no group, no link-local IPv6 without its scope."""
    good = [addr for addr in addresses if addr[1] and not _is_unfit(addr[0])]
    return tuple(sorted(good, key=addr_order)[:MAX_LEARNT])


def _is_unfit(ip: str) -> bool:
    if ":" in ip:
        return ip == "::" or ip.startswith(("ff", "fe8", "fe9", "fea", "feb"))
    first = int(ip.partition(".")[0])
    return first == 0 or first >= 224


def _heard_lately(now: float, node: NodeState) -> bool:
    states = [*node.paths, *([] if node.relay is None else [node.relay])]
    return any(alive is not None and now - alive < HEARD_LATELY for alive in (s.last_alive() for s in states))
