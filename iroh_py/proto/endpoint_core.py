"""The whole endpoint as one machine without IO: datagrams and changes in, datagrams and events out.

It joins the node map (``magicsock.py``, which decides where payload goes) with QUIC (``proto/quic``, which decides
what payload is). A driver feeds the ``handle_*`` methods, calls ``flush``, and then drains ``transmits``,
``session_events`` and ``events`` and arms one timer from ``next_timeout``.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

from iroh_py.addr import NodeAddr, RelayUrl
from iroh_py.config import EndpointConfig
from iroh_py.errors import LocalProtocolError, NoAddressError, SelfConnectError
from iroh_py.events import ConnectionClosed, ConnectionOpened, Event
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Addr, NetworkState
from iroh_py.proto.actions import SetMtu
from iroh_py.proto.demux import Kind, classify
from iroh_py.proto.magicsock import MagicSock, Transmit
from iroh_py.proto.netstate import NetworkChange
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import Path, RelayPath, UdpPath
from iroh_py.proto.quic import Closed, HandshakeDone, QuicConfig, Session, SessionTable, TlsAuth
from iroh_py.proto.quic import Event as QuicEvent
from iroh_py.proto.surroundings import Surroundings

#: A QUIC short header starts with these two bits, and our connection id of 8 bytes follows (RFC 9000 17.3.1).
FORM_MASK, SHORT_HEADER, SHORT_HEADER_SIZE = 0xC0, 0x40, 9
_TLS = {"raw-public-key": TlsAuth.RAW_PUBLIC_KEY, "x509": TlsAuth.X509}


class SessionEntry:
    """A QUIC session and the node it belongs to; until the handshake tells, only the way it came."""

    __slots__ = ("dialled", "node", "reply", "reply_node", "session")

    def __init__(
        self, session: Session, node: NodeState | None, reply: Path | None, *, dialled: bool
    ) -> None:
        self.session = session
        self.node = node
        self.reply = reply
        self.reply_node: NodeId | None = None
        self.dialled = dialled


class EndpointCore:
    """One endpoint, sans-IO. Every method that takes ``now`` wants seconds of one monotonic clock."""

    def __init__(
        self, secret_key: SecretKey, config: EndpointConfig, alpns: tuple[str, ...], rng: random.Random
    ) -> None:
        self.secret_key = secret_key
        self.config = config
        self.shared = Surroundings(secret_key.node_id, config, rng)
        self.magic = MagicSock(secret_key, self.shared)
        self.quic_config = QuicConfig(
            alpns=alpns,
            idle_timeout=config.idle_timeout,
            stream_window=config.stream_window,
            connection_window=config.connection_window,
            secrets_log_file=config.key_log,
            quic_logger=config.qlog,
        )
        self.table = SessionTable(secret_key, self.quic_config)
        self.entries: dict[Session, SessionEntry] = {}
        self.session_events: deque[tuple[Session, QuicEvent]] = deque()
        self.accepting = bool(alpns)
        self.dropped = 0
        self._by_node: dict[NodeId, list[SessionEntry]] = {}
        self._dirty: dict[SessionEntry, None] = {}

    @property
    def events(self) -> deque[Event]:
        """What happened, for watchers; the driver drains it."""
        return self.shared.events

    @property
    def transmits(self) -> deque[Transmit]:
        """Datagrams to send, in order; the driver drains it."""
        return self.magic.transmits

    # --- what happens ---

    def handle_datagrams(
        self, now: float, batch: Iterable[tuple[bytes, Addr, int]], ecn: int = 0
    ) -> list[tuple[bytes, Addr]]:
        """UDP datagrams with one ECN codepoint arrived; STUN messages are returned, since they belong to netcheck."""
        stun: list[tuple[bytes, Addr]] = []
        source: Addr = ("", 0)
        index, path = -1, UdpPath(source)
        run: list[bytes] = []
        cid = b""
        for data, addr, arrival in batch:
            if run:
                if arrival == index and addr == source and _continues(data, cid):
                    run.append(data)
                    continue
                self._handle_run(now, run, path, None, ecn)
                run = []
            kind = classify(data)
            if kind is Kind.STUN:
                stun.append((data, addr))
                continue
            if addr != source or arrival != index:
                source, index = addr, arrival
                path = UdpPath(addr, self.shared.via_of(addr[0], arrival))
            if kind is Kind.DISCO:
                self.magic.handle_disco(now, data, path)
            elif _is_short(data):
                run, cid = [data], data[1:SHORT_HEADER_SIZE]
            else:
                self._handle_quic(now, data, path, None, ecn)
        if run:
            self._handle_run(now, run, path, None, ecn)
        return stun

    def _handle_run(
        self, now: float, run: list[bytes], path: Path, relayed_from: NodeId | None, ecn: int = 0
    ) -> None:
        """QUIC datagrams with short headers and one destination id came over one path."""
        session = self.table.find(run[0])
        if session is None:
            self.dropped += len(run)
            return
        self._handle_received(now, session, path, relayed_from, session.receive_many(now, run, ecn))

    def handle_relay_datagrams(
        self, now: float, url: RelayUrl, node_id: NodeId, datagrams: list[bytes]
    ) -> None:
        """A relay handed over datagrams that it says are from a node."""
        path = RelayPath(url)
        run: list[bytes] = []
        for data in datagrams:
            if run and _continues(data, run[0][1:SHORT_HEADER_SIZE]):
                run.append(data)
                continue
            if run:
                self._handle_run(now, run, path, node_id)
                run = []
            if classify(data) is Kind.DISCO:
                # The relay authenticated the sender; a packet of somebody else in its name is a replay.
                if data[6:38] == node_id.raw:
                    self.magic.handle_disco(now, data, path)
                else:
                    self.dropped += 1
            elif _is_short(data):
                run = [data]
            else:
                self._handle_quic(now, data, path, node_id)
        if run:
            self._handle_run(now, run, path, node_id)

    def _handle_quic(
        self, now: float, data: bytes, path: Path, relayed_from: NodeId | None, ecn: int = 0
    ) -> None:
        accept = self.accepting and (relayed_from is not None or self.magic.knows_source(now, path))
        session, fresh = self.table.receive(now, data, accept, ecn)
        if session is None:
            self.dropped += 1
            return
        self._handle_received(now, session, path, relayed_from, len(data) if fresh else 0)

    def _handle_received(
        self, now: float, session: Session, path: Path, relayed_from: NodeId | None, news: int
    ) -> None:
        """A session got something; ``news`` bytes of it are newer than all before, so its peer is alive there."""
        entry = self.entries.get(session)
        if entry is None:
            entry = self.entries[session] = SessionEntry(session, None, path, dialled=False)
        self._dirty[entry] = None
        node = entry.node
        if node is None:
            entry.reply, entry.reply_node = path, relayed_from
        elif news and (relayed_from is None or relayed_from == node.node_id):
            self.magic.handle_payload(now, node, path, news, fresh=True)
            if node.relay is not None:
                node.note_unanswered(session.unanswered_since)

    def handle_network_change(self, now: float, state: NetworkState, change: NetworkChange) -> None:
        """Our own network is another one."""
        self.magic.handle_network_change(now, state, change)

    def handle_relay_connected(self, now: float, url: RelayUrl) -> None:
        """A relay can be used (again): what waits for it goes out at once."""
        path = RelayPath(url)
        for node in list(self.magic.nodes.values()):
            if node.relay is None or node.relay.path != path or not node.active(now):
                continue
            node.announce(now)
            if not node.steady:
                self.magic.seek_path(now, node, "the relay is back")
                for entry in self._by_node.get(node.node_id, ()):
                    entry.session.path_changed(now, reset=False)
                    self._dirty[entry] = None

    def handle_relay_lost(self, now: float, url: RelayUrl) -> None:
        """A relay cannot be used for now."""
        path = RelayPath(url)
        for node in self.magic.nodes.values():
            if node.relay is not None and node.relay.path == path:
                node.handle_relay_lost(now)

    def handle_timeout(self, now: float) -> None:
        """Do everything that is due."""
        self.magic.handle_timeout(now)
        for entry in list(self.entries.values()):
            due = entry.session.next_timeout()
            if due is not None and due <= now:
                entry.session.handle_timeout(now)
                self._dirty[entry] = None

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next; None if nothing is pending."""
        times = [self.magic.next_timeout()]
        times += [session.next_timeout() for session in self.entries]
        return min((t for t in times if t is not None), default=None)

    # --- what the application wants ---

    def dial(self, now: float, addr: NodeAddr, alpn: str) -> Session:
        """Begin a connection; raises SelfConnectError or NoAddressError."""
        if addr.node_id == self.secret_key.node_id:
            raise SelfConnectError("a node cannot connect to itself: this is our own node id")
        node = self.magic.add_node_addr(now, addr)
        if node.relay is None and not len(node.paths):
            raise NoAddressError(
                f"no address is known for {addr.node_id.fmt_short()}: give a ticket, or a NodeAddr with direct "
                f"addresses or a relay, or configure a discovery service"
            )
        session = self.table.dial(now, addr.node_id, alpn, _TLS[self.config.tls_auth])
        entry = self.entries[session] = SessionEntry(session, None, None, dialled=True)
        self._attach(entry, node)
        if not node.steady:
            self.magic.seek_path(now, node, "dialling")
        return session

    def touch(self, session: Session) -> None:
        """The application used a session: what it has to send goes out with the next flush."""
        entry = self.entries.get(session)
        if entry is None:
            raise LocalProtocolError("this connection is no longer part of the endpoint")
        self._dirty[entry] = None

    def node_of(self, session: Session) -> NodeState | None:
        """The node behind a session."""
        entry = self.entries.get(session)
        return None if entry is None else entry.node

    # --- output ---

    def flush(self, now: float) -> None:
        """Turn everything that became due or possible into transmits and events."""
        # A session's events can make new work (a handshake attaches a node, which pings): two or three turns settle it.
        while self.magic.notes or self._dirty:
            while self.magic.notes:
                note = self.magic.notes.popleft()
                for entry in self._by_node.get(note.node.node_id, ()):
                    self._dirty[entry] = None
                    if isinstance(note.action, SetMtu):
                        entry.session.set_mtu(note.action.size)
                    else:
                        entry.session.path_changed(now, reset=note.action.reset)
            dirty, self._dirty = self._dirty, {}
            for entry in dirty:
                self._drain(now, entry)

    def _drain(self, now: float, entry: SessionEntry) -> None:
        session = entry.session
        while (event := session.poll_event()) is not None:
            self._handle_event(now, entry, event)
        node = entry.node
        sole = node.current_path if node is not None and node.steady else None
        # Relays take no marks, and neither do the sockets of port prediction (a negative ``via``).
        session.use_path(sole if isinstance(sole, UdpPath) and sole.via >= 0 else None)
        datagrams = session.transmit(now)
        if datagrams:
            self._route(now, entry, datagrams)
        while (event := session.poll_event()) is not None:
            self._handle_event(now, entry, event)
        if session.drained:
            self.entries.pop(session, None)
            self.table.remove(session)

    def _route(self, now: float, entry: SessionEntry, datagrams: list[bytes]) -> None:
        node = entry.node
        if node is None:
            if entry.reply is not None:
                to = entry.reply_node or self.secret_key.node_id
                self.transmits.append(Transmit(entry.reply, to, datagrams))
            return
        for path, unproven in node.targets(now):
            allowed = datagrams if unproven is None else unproven.pays(datagrams)
            if allowed:
                self.transmits.append(Transmit(path, node.node_id, allowed, entry.session.sent_ecn))
        wants_answer = entry.session.has_unacked or any(
            other.session.has_unacked for other in self._by_node.get(node.node_id, ()) if other is not entry
        )
        node.handle_sent(now, wants_answer=wants_answer)

    def _handle_event(self, now: float, entry: SessionEntry, event: QuicEvent) -> None:
        self.session_events.append((entry.session, event))
        if isinstance(event, HandshakeDone):
            if entry.node is None:
                self._attach(entry, self.magic.node(now, event.node_id))
                if entry.reply is not None and entry.node is not None:
                    self.magic.handle_payload(now, entry.node, entry.reply, 0, fresh=True)
            self.events.append(ConnectionOpened(now, event.node_id, event.alpn, entry.dialled))
        elif isinstance(event, Closed):
            self._detach(now, entry, event)

    def _attach(self, entry: SessionEntry, node: NodeState) -> None:
        entry.node = node
        node.sessions += 1
        entry.session.set_mtu(node.mtu)
        self._by_node.setdefault(node.node_id, []).append(entry)

    def _detach(self, now: float, entry: SessionEntry, event: Closed) -> None:
        """The connection is over; the session stays until it is drained, to answer late packets with its close."""
        datagrams = entry.session.transmit(now)
        if datagrams:
            self._route(now, entry, datagrams)
        node, entry.node = entry.node, None
        if node is None:
            return
        if node.current_path is not None:
            entry.reply, entry.reply_node = node.current_path, node.node_id
        node.sessions -= 1
        siblings = self._by_node[node.node_id]
        siblings.remove(entry)
        if not siblings:
            del self._by_node[node.node_id]
        reason = "by this side" if event.error is None else str(event.error)
        self.events.append(ConnectionClosed(now, node.node_id, reason))


def _is_short(data: bytes) -> bool:
    """Whether a datagram has a QUIC short header and something behind it."""
    return len(data) > SHORT_HEADER_SIZE and data[0] & FORM_MASK == SHORT_HEADER


def _continues(data: bytes, cid: bytes) -> bool:
    """Whether a datagram has a short header with this destination id."""
    return data[1:SHORT_HEADER_SIZE] == cid and data[0] & FORM_MASK == SHORT_HEADER
