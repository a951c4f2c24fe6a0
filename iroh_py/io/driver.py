"""The driver of one endpoint: feeds the core, drains it in one fixed order, and arms one timer.

Only three things move the core: the network, a timer, the application. Each ends in ``_pump``: flush the core, send
its datagrams, hand events to connections and watchers, arm the timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from iroh_py.addr import RelayUrl
from iroh_py.connection import Connection
from iroh_py.events import Event, SocketRebound
from iroh_py.io.clock import ClockWatch
from iroh_py.keys import NodeId
from iroh_py.network import Addr, Family, Network, NetworkState, NetworkWatch
from iroh_py.proto import netstate, quic
from iroh_py.proto.endpoint_core import EndpointCore
from iroh_py.proto.paths import RelayPath, UdpPath

if TYPE_CHECKING:
    from iroh_py.io.relays import Relays

log = logging.getLogger("iroh_py.endpoint")


class Driver:
    """Owns the sockets, the network monitor and the timer of one endpoint."""

    def __init__(
        self,
        core: EndpointCore,
        network: Network,
        *,
        on_incoming: Callable[[Connection], None],
        on_event: Callable[[Event], None],
    ) -> None:
        from iroh_py.io.sockets import SocketSet

        self.core = core
        self.network = network
        self.sockets = SocketSet(network, self._on_datagrams, self._on_rebind, self._on_datagrams)
        self.relays: Relays | None = None
        self.closed = False
        self._on_incoming = on_incoming
        self._on_event = on_event
        self._connections: dict[quic.Session, Connection] = {}
        self._writers: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._soon: asyncio.Handle | None = None
        self._watch: NetworkWatch | None = None
        self._clock: ClockWatch | None = None
        self._state = NetworkState()

    # --- life ---

    def start(self, bind: list[Addr]) -> None:
        """Open the sockets and begin to watch the network. Raises BindError."""
        try:
            self.sockets.open(bind)
            self._watch = self.network.watch(self._on_network)
        except BaseException:
            self.sockets.close()
            raise
        self.core.shared.has_family = lambda ip: Family.of(ip) in self.sockets
        self._clock = ClockWatch(self._on_time_jump, time=self.network.time, boottime=self.network.boottime)
        self._state = self._watch.state
        self.core.shared.network = self._state
        self.refresh_addresses()
        self.pump_soon()

    def close(self) -> None:
        """Send what is pending, then release everything."""
        if self.closed:
            return
        try:
            self._pump()
        finally:  # whatever the network, or a callback, says to that
            self._release()

    def _release(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._soon is not None:
            self._soon.cancel()
        if self._clock is not None:
            self._clock.close()
        if self._watch is not None:
            self._watch.close()
        self.sockets.close()

    def now(self) -> float:
        """Seconds on the network's monotonic clock."""
        return self.network.time()

    @property
    def state(self) -> NetworkState:
        """The newest snapshot of our network."""
        return self._state

    def refresh_network(self) -> None:
        """Look at links, addresses and routes now."""
        if self._watch is not None:
            self._watch.refresh()

    # --- the network moves the core ---

    def _on_datagrams(self, batch: list[tuple[bytes, Addr, int]], ecn: int = 0) -> None:
        if self.closed:
            return
        now = self.now()
        for data, source in self.core.handle_datagrams(now, batch, ecn):
            if self.relays is not None:
                self.relays.handle_stun(now, data, source)
        self._pump()

    def on_relay_datagrams(self, url: RelayUrl, node_id: NodeId, datagrams: list[bytes]) -> None:
        """A relay client received datagrams of a node."""
        if not self.closed:
            self.core.handle_relay_datagrams(self.now(), url, node_id, datagrams)
            self._pump()

    def _on_network(self, state: NetworkState) -> None:
        if self.closed:
            return
        change = netstate.diff(self._state, state)
        self._state = state
        if not change:
            self.core.shared.network = state
            return
        self._handle_change(change)

    def _on_time_jump(self, missed: float) -> None:
        """The machine slept, or this process was stopped: the NATs may have forgotten us, so it counts as a move."""
        if not self.closed:
            self.refresh_network()
            self._handle_change(
                netstate.NetworkChange(major=True, reasons=(f"{missed:.0f} s were missed (suspend?)",))
            )

    def _handle_change(self, change: netstate.NetworkChange) -> None:
        state = self._state
        now = self.now()
        self.sockets.heal(state)
        if not self.core.config.relays:
            self._set_own_addresses(now)
        self.core.handle_network_change(now, state, change)
        if self.relays is not None:
            self.relays.handle_network_change(state, major=change.major)
        self._pump()

    def refresh_addresses(self) -> None:
        """Determine our own direct addresses from the interfaces alone (with relays, netcheck does it better)."""
        if not self.core.config.relays:
            self._set_own_addresses(self.now())

    def local_direct_addresses(self) -> tuple[Addr, ...]:
        """Our addresses as the interfaces tell them, with the ports of our sockets."""
        found = list(self.core.config.extra_addresses)
        local = netstate.local_addresses(self._state)
        for ip, port in self.sockets.local_addrs:
            family = Family.of(ip)
            if ip in ("0.0.0.0", "::"):
                found += [(other, port) for other in local if Family.of(other) is family]
            else:
                found.append((ip, port))
        return tuple(dict.fromkeys(found))

    def _set_own_addresses(self, now: float) -> None:
        self.core.magic.handle_own_addresses(now, self.local_direct_addresses())

    def _on_rebind(self, family: Family, local: str, why: str) -> None:
        self.core.events.append(SocketRebound(self.now(), local, why))

    # --- the timer moves the core ---

    def _on_timer(self) -> None:
        self._timer = None
        if not self.closed:
            self.core.handle_timeout(self.now())
            self._pump()

    # --- the application moves the core ---

    def touch(self, session: quic.Session) -> None:
        """The application used a session: send what it has, after the current callback."""
        if not self.closed and session in self.core.entries:
            self.core.touch(session)
            self.pump_soon()

    def pump_soon(self) -> None:
        """Pump once after the callbacks that are ready now."""
        if self._soon is None and not self.closed:
            self._soon = self._loop.call_soon(self._pump)

    def watch_writers(self, connection: Connection) -> None:
        """A connection has a writer that waits for room."""
        self._writers.add(connection)

    def connection(self, session: quic.Session) -> Connection:
        """The handle of a session, made if it is new."""
        connection = self._connections.get(session)
        if connection is None:
            config = self.core.config
            connection = self._connections[session] = Connection(
                self, session, send_buffer=config.send_buffer, datagram_queue=config.datagram_queue
            )
        return connection

    @property
    def connections(self) -> list[Connection]:
        """The connections that are not over."""
        return list(self._connections.values())

    # --- the pump ---

    def _pump(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self.closed:
            return
        now = self.now()
        core = self.core
        core.flush(now)
        self._send_all()
        while core.session_events:
            self._dispatch(*core.session_events.popleft())
        if self._writers:
            self._writers = {c for c in self._writers if c._wake_writers()}
        if core.events:
            self._publish()
        self._arm(now)

    def _send_all(self) -> None:
        transmits, send, orders = self.core.transmits, self.sockets.send, self.core.magic.prediction.orders
        while orders:
            self.sockets.follow(orders.popleft())
        while transmits:
            path, node_id, payloads, ecn = transmits.popleft()
            if type(path) is UdpPath:
                send(payloads, path.addr, path.via, ecn)
            elif isinstance(path, RelayPath) and self.relays is not None:
                self.relays.send(path.url, node_id, payloads)

    def _dispatch(self, session: quic.Session, event: quic.Event) -> None:
        connection = self._connections.get(session)
        if connection is None:
            if isinstance(event, quic.Closed):
                return  # a client that never finished its handshake: nobody ever saw it
            connection = self.connection(session)
        connection._handle_event(event)
        if isinstance(event, quic.HandshakeDone):
            connection._set_path()
            if not connection.dialled:
                self._on_incoming(connection)
        elif isinstance(event, quic.Closed):
            del self._connections[session]
            self._writers.discard(connection)
            connection._wake_writers()

    def _publish(self) -> None:
        events = self.core.events
        while events:
            event = events.popleft()
            log.debug("%s %s", event.kind, event.text)
            self._on_event(event)
            if self.relays is not None:
                self.relays.handle_event(event)
        for connection in self._connections.values():
            connection._set_path()

    def _arm(self, now: float) -> None:
        due = self.core.next_timeout()
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if abs(due - self._timer_due) < 1e-4:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(0.0, due - now), self._on_timer)
