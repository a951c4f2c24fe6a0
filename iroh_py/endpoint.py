"""An endpoint: the place in the network from which connections are made and accepted."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from iroh_py.addr import NodeAddr, NodeTicket
from iroh_py.config import EndpointConfig
from iroh_py.connection import Connection
from iroh_py.errors import (
    ClosedError,
    ConnectError,
    ConnectTimeoutError,
    IrohError,
    LocalProtocolError,
    NoAddressError,
    TicketError,
)
from iroh_py.events import AddressesChanged, Event
from iroh_py.io.driver import Driver
from iroh_py.io.system import as_network
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Addr
from iroh_py.proto.endpoint_core import EndpointCore
from iroh_py.watch import Watchable

if TYPE_CHECKING:
    from iroh_py.discovery.endpoint import EndpointDiscovery

#: Connections accepted by QUIC and not yet by the application; more are closed with code 1.
MAX_BACKLOG = 256

Target = NodeAddr | NodeTicket | NodeId | str
EventCallback = Callable[[Event], None]


class Endpoint:
    """One node in the network. Make it with :meth:`bind`; it is an async context manager."""

    def __init__(self, core: EndpointCore, network: object) -> None:
        self._core = core
        self._callbacks: list[EventCallback] = []
        self._incoming: asyncio.Queue[Connection | None] = asyncio.Queue()
        self._addresses: Watchable[NodeAddr] = Watchable(NodeAddr(core.secret_key.node_id))
        self._driver = Driver(
            core, as_network(network), on_incoming=self._on_incoming, on_event=self._on_event
        )
        self._discovery: EndpointDiscovery | None = None
        self._closed = False

    @classmethod
    async def bind(
        cls,
        *,
        secret_key: SecretKey | None = None,
        alpns: Iterable[str] = (),
        network: object = None,
        bind: Iterable[Addr] = (("0.0.0.0", 0), ("::", 0)),
        config: EndpointConfig | None = None,
        rng: random.Random | None = None,
    ) -> Endpoint:
        """Open an endpoint.

        ``secret_key``: who we are (a fresh key if None). ``alpns``: the application protocols we accept; none means
        that we only dial. ``network``: the system's network (None), a lab host, or a simulated host. ``bind``: local
        addresses and ports. ``rng``: the source of randomness (the system's if None; a seeded one in simulations).
        Raises BindError.
        """
        core = EndpointCore(
            secret_key or SecretKey.generate(),
            config or EndpointConfig(),
            tuple(alpns),
            rng or random.SystemRandom(),
        )
        endpoint = cls(core, network)
        endpoint._driver.start(list(bind))
        try:
            await endpoint._start_services()
        except BaseException:
            await endpoint.close()
            raise
        endpoint._set_addr()
        return endpoint

    async def _start_services(self) -> None:
        """Relays, netcheck and discovery, if they are configured."""
        if self._core.config.relays:
            from iroh_py.io.relays import Relays

            self._driver.relays = Relays(self._driver, on_change=self._set_addr)
            self._driver.relays.start()
        if self._core.config.discovery:
            from iroh_py.discovery.endpoint import EndpointDiscovery

            self._discovery = await EndpointDiscovery.start(self._driver, self._addresses)

    # --- who and where ---

    @property
    def node_id(self) -> NodeId:
        """Our node id: the name by which others dial us."""
        return self._core.secret_key.node_id

    @property
    def secret_key(self) -> SecretKey:
        """The key behind our node id."""
        return self._core.secret_key

    @property
    def config(self) -> EndpointConfig:
        """The options this endpoint was bound with."""
        return self._core.config

    @property
    def bound_addrs(self) -> tuple[Addr, ...]:
        """The local addresses and ports of the UDP sockets."""
        return self._driver.sockets.local_addrs

    @property
    def node_addr(self) -> NodeAddr:
        """Where we can be reached now: home relay and direct addresses."""
        return self._addresses.value

    @property
    def ticket(self) -> str:
        """Our node address as text that can be handed to somebody."""
        return str(NodeTicket(self.node_addr))

    def watch_node_addr(self) -> Watchable[NodeAddr]:
        """Our node address as a watchable value."""
        return self._addresses

    async def online(self, timeout: float | None = 10.0) -> NodeAddr:
        """Wait until the home relay is connected; without relays, until there is a direct address."""

        def reachable(addr: NodeAddr) -> bool:
            return addr.relay_url is not None if self._core.config.relays else bool(addr.direct_addresses)

        async with asyncio.timeout(timeout):
            return await self._addresses.wait_until(reachable)

    # --- connections ---

    async def connect(self, target: Target, alpn: str, *, timeout: float | None = None) -> Connection:
        """Dial a node by node address, ticket, or node id (with discovery), and wait for the handshake.

        ``timeout``: seconds, by default ``config.connect_timeout``. Raises SelfConnectError, NoAddressError,
        ConnectTimeoutError, IdentityMismatchError, AlpnMismatchError, TicketError, ClosedError.
        """
        self._raise_if_closed()
        seconds = self._core.config.connect_timeout if timeout is None else timeout
        addr = parse_target(target)
        try:
            async with asyncio.timeout(seconds):
                return await self._dial(addr, alpn)
        except TimeoutError as error:
            if isinstance(error, IrohError):
                raise
            if self._discovery is not None and not self._discovery.knows(addr.node_id):
                raise NoAddressError(
                    f"discovery found no address of {addr.node_id.fmt_short()} within {seconds:g} s"
                ) from None
            raise ConnectTimeoutError(self._why_no_answer(addr, seconds)) from None

    async def _dial(self, addr: NodeAddr, alpn: str) -> Connection:
        if self._discovery is None or addr.node_id == self.node_id:
            return await self._dial_known(addr, alpn)
        async with self._discovery.dialling(addr):
            return await self._dial_known(addr, alpn)

    async def _dial_known(self, addr: NodeAddr, alpn: str) -> Connection:
        session = self._core.dial(self._driver.now(), addr, alpn)
        connection = self._driver.connection(session)
        self._driver.pump_soon()
        try:
            await connection._ready.wait()
        except asyncio.CancelledError:
            connection.close(0, "dialling was given up")
            raise
        error = connection.close_reason
        if error is None:
            return connection
        raise error if isinstance(error, ConnectError | ClosedError) else ConnectError(str(error)) from error

    def _why_no_answer(self, addr: NodeAddr, seconds: float) -> str:
        tried = ", ".join(f"{ip}:{port}" for ip, port in addr.ordered_addresses[:4]) or "no direct address"
        relay = f" and relay {addr.relay_url}" if addr.relay_url else ""
        return f"{addr.node_id.fmt_short()} did not answer within {seconds:g} s (tried {tried}{relay})"

    async def accept(self) -> Connection:
        """Wait for the next connection from another node. Raises ClosedError once the endpoint is closed."""
        if not self._core.accepting:
            raise LocalProtocolError(
                "this endpoint accepts nothing: give bind() the alpns that it shall speak"
            )
        connection = await self._incoming.get()
        if connection is None:
            self._incoming.put_nowait(None)
            raise ClosedError("this endpoint was closed")
        return connection

    async def connections(self) -> AsyncIterator[Connection]:
        """Accept connections until the endpoint is closed."""
        while True:
            try:
                yield await self.accept()
            except ClosedError:
                return

    def add_node_addr(self, addr: NodeAddr) -> None:
        """Tell where a node can be reached; a connection that looks for a path tries it at once."""
        self._raise_if_closed()
        self._core.magic.add_node_addr(self._driver.now(), addr)
        self._driver.pump_soon()

    # --- the network ---

    def network_change(self) -> None:
        """Look at the network now; for systems whose monitor cannot be trusted."""
        self._raise_if_closed()
        self._driver.refresh_network()

    def on_event(self, callback: EventCallback) -> Callable[[], None]:
        """Have every event reported to a callback; returns what ends that."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._callbacks.remove(callback)

        return unsubscribe

    # --- the end ---

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close all connections and tell their peers, then release sockets and tasks. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            for connection in self._driver.connections:
                connection.close(code, reason)
            if self._discovery is not None:
                await self._discovery.close()
            if self._driver.relays is not None:
                self._driver._pump()
                await self._driver.relays.close()
        finally:  # also where the wait is cancelled: sockets must not outlive the endpoint
            try:
                self._driver.close()
            finally:
                self._addresses.close()
                self._incoming.put_nowait(None)

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._driver.connections)} connections"
        return f"<Endpoint {self.node_id.fmt_short()} on {self._driver.network.name} {state}>"

    # --- from the driver ---

    def _on_incoming(self, connection: Connection) -> None:
        if self._incoming.qsize() >= MAX_BACKLOG:
            connection.close(1, "too many connections wait to be accepted")
        else:
            self._incoming.put_nowait(connection)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, AddressesChanged):
            self._set_addr()
        if self._discovery is not None:
            self._discovery.handle_event(event)
        for callback in list(self._callbacks):
            callback(event)

    def _set_addr(self) -> None:
        relays = self._driver.relays
        self._addresses.set(
            NodeAddr(
                self.node_id,
                relay_url=None if relays is None else relays.home,
                direct_addresses=self._core.magic.own_addresses,
            )
        )

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise ClosedError("this endpoint was closed")


def parse_target(target: Target) -> NodeAddr:
    """What connect() was given, as a NodeAddr. Raises TicketError for a text that is neither ticket nor node id."""
    if isinstance(target, NodeAddr):
        return target
    if isinstance(target, NodeTicket):
        return target.addr
    if isinstance(target, NodeId):
        return NodeAddr(target)
    if isinstance(target, str):
        if target[:4].lower() == "node" and len(target) > 64:
            return NodeTicket.parse(target).addr
        with contextlib.suppress(TicketError):
            return NodeAddr(NodeId.parse(target))
        return NodeTicket.parse(target).addr
    raise LocalProtocolError(
        f"connect() wants a NodeAddr, NodeTicket, NodeId or text, not {type(target).__name__}"
    )
