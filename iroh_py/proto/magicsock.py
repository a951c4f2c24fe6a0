"""Disco and the node map: who is where, told and learnt with sealed messages.

``MagicSock`` opens disco packets, hands them to the node they are from, and turns the actions that come back into
packets to send (``transmits``) and notes for QUIC (``notes``). It owns no socket and no clock.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from iroh_py.addr import NodeAddr
from iroh_py.errors import DiscoError
from iroh_py.events import AddressesChanged, CallMeMaybeReceived, CallMeMaybeSent, NetworkChanged
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Addr, NetworkState
from iroh_py.proto import disco
from iroh_py.proto.actions import Action, Kick, OfferAddresses, SendDisco, SetMtu
from iroh_py.proto.netstate import NetworkChange
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import Path, RelayPath, UdpPath
from iroh_py.proto.port_prediction import Pings, PortPrediction
from iroh_py.proto.surroundings import Surroundings

#: Nodes without a connection that are remembered (PROTOCOL 3.1 has 30; ours may be dialled by many).
MAX_IDLE_NODES = 256
#: Nodes in all. A stranger can become one by a single ping, so the number needs an end.
MAX_NODES = 4096
#: Addresses from which an authentic ping came lately; only from there a QUIC handshake is accepted.
MAX_KNOWN_SOURCES = 4096
KNOWN_SOURCE_SECONDS = 60.0
#: Addresses taken from one CallMeMaybe, so that nobody can make us ping a crowd (upstream's tests use 32 + a few).
MAX_OFFERED = 40


class Transmit(NamedTuple):
    """Datagrams for one path; ``node_id`` is who a relay shall hand them to, ``ecn`` goes into IP headers."""

    path: Path
    node_id: NodeId
    payloads: list[bytes]
    ecn: int = 0


class QuicNote(NamedTuple):
    """Something that QUIC connections with a node have to know."""

    node: NodeState
    action: Kick | SetMtu


class MagicSock:
    """The node map of one endpoint, and its disco."""

    def __init__(self, secret_key: SecretKey, shared: Surroundings) -> None:
        self.secret_key = secret_key
        self.shared = shared
        self.nodes: dict[NodeId, NodeState] = {}
        self.prediction = PortPrediction(shared)
        self.transmits: deque[Transmit] = deque()
        self.notes: deque[QuicNote] = deque()
        self.dropped = 0
        self.own_addresses: tuple[Addr, ...] = ()
        #: Whether our own addresses are known to be those of the network we are in now.
        self.addresses_fresh = False
        self._offers_waiting: dict[NodeId, None] = {}
        self._sources: dict[Path, float] = {}
        self._box_keys: dict[NodeId, bytes] = {}

    # --- what happens ---

    def handle_disco(self, now: float, packet: bytes, path: Path) -> None:
        """A disco packet arrived; what does not open or parse is counted and dropped."""
        try:
            sender = disco.parse_sender(packet)
            if sender == self.secret_key.node_id:
                return
            key = self._box_key(sender)
            message = disco.decode(disco.open(key, packet))
        except DiscoError:
            self.dropped += 1
            return
        node = self.nodes.get(sender)
        extra = isinstance(path, UdpPath) and path.via < 0
        if extra and (node is None or not self.prediction.hears(now, node, path)):  # type: ignore[arg-type]
            self.dropped += 1
            return
        if isinstance(message, disco.Ping):
            if message.node_id != sender:
                self.dropped += 1
                return
            self._note_source(now, path)
            node = node or self.node(now, sender)
            self._act(now, node, node.handle_ping(now, path, message, len(packet)))
            if extra:
                self.prediction.handle_heard(now, node, path)  # type: ignore[arg-type]
        elif node is None:
            self.dropped += 1
        elif isinstance(message, disco.Pong):
            self._act(now, node, node.handle_pong(now, path, message))
        elif isinstance(path, RelayPath):
            self._handle_call_me_maybe(now, node, message)
        else:
            self.dropped += (
                1  # accepted over a relay only: else an address list could be replayed from anywhere
            )

    def _handle_call_me_maybe(self, now: float, node: NodeState, message: disco.CallMeMaybe) -> None:
        offered = [a for a in message.addresses if not _unroutable(a)][:MAX_OFFERED]
        self.shared.events.append(CallMeMaybeReceived(now, node.node_id, tuple(offered)))
        self._act(now, node, node.handle_call_me_maybe(now, offered))
        self.prediction.handle_offer(now, node, offered)

    def handle_payload(self, now: float, node: NodeState, path: Path, size: int, *, fresh: bool) -> None:
        """Authentic QUIC bytes arrived from a node."""
        actions = node.handle_payload(now, path, size, fresh=fresh)
        if actions:
            self._act(now, node, actions)

    def handle_network_change(self, now: float, state: NetworkState, change: NetworkChange) -> None:
        """Our own network changed; everybody we talk to hears from us at once."""
        self.shared.network = state
        self.shared.events.append(NetworkChanged(now, change.major, change.reasons))
        if not change.major:
            return
        if self.shared.config.relays:
            self.addresses_fresh = False  # until netcheck has looked from the new network
        self.prediction.handle_network_change(now, self.nodes)
        for node in list(self.nodes.values()):
            self._act(now, node, node.handle_network_change(now))

    def handle_own_addresses(self, now: float, addresses: tuple[Addr, ...]) -> None:
        """Our own direct addresses were determined in the network we are in now."""
        self.addresses_fresh = True
        changed = set(addresses) != set(self.own_addresses)
        self.own_addresses = addresses
        self.shared.own_addresses = frozenset(addresses)
        waiting, self._offers_waiting = self._offers_waiting, {}
        if changed:
            self.shared.events.append(AddressesChanged(now, addresses))
            waiting.update(
                (n.node_id, None) for n in self.nodes.values() if n.relay is not None and n.active(now)
            )
        for node_id in waiting:
            node = self.nodes.get(node_id)
            if node is not None:
                self._offer(now, node)

    def handle_timeout(self, now: float) -> None:
        """Do what is due for every node."""
        for node in list(self.nodes.values()):
            due = node.next_timeout()
            if due is not None and due <= now:
                self._act(now, node, node.handle_timeout(now))
        due = self.prediction.next_timeout()
        if due is not None and due <= now:
            for pings in self.prediction.handle_timeout(now, self.nodes, fresh=self.addresses_fresh):
                self._predict(pings)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next."""
        times = [n.next_timeout() for n in self.nodes.values()]
        times.append(self.prediction.next_timeout())
        return min((t for t in times if t is not None), default=None)

    # --- what the application wants ---

    def node(self, now: float, node_id: NodeId) -> NodeState:
        """The state of a node, made if it is new."""
        node = self.nodes.get(node_id)
        if node is None:
            self._make_room(now)
            node = self.nodes[node_id] = NodeState(now, node_id, self.shared)
        return node

    def add_node_addr(self, now: float, addr: NodeAddr) -> NodeState:
        """Learn from the user, a ticket or discovery where a node is; new knowledge is tried at once if needed."""
        node = self.node(now, addr.node_id)
        new = node.add_addresses(now, list(addr.ordered_addresses), addr.relay_url, told=True)
        if new and node.sessions and not node.steady:
            node.seek_path(now, "new addresses")
        return node

    def seek_path(self, now: float, node: NodeState, why: str) -> None:
        """Look for a path to a node now."""
        node.seek_path(now, why)
        self._act(now, node, node.handle_timeout(now))

    def knows_source(self, now: float, path: Path) -> bool:
        """Whether an authentic ping came from there lately."""
        return self._sources.get(path, 0.0) > now

    # --- acting ---

    def _act(self, now: float, node: NodeState, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendDisco):
                self._send(node, action.path, action.message)
            elif isinstance(action, OfferAddresses):
                self._offer(now, node)
            else:
                self.notes.append(QuicNote(node, action))

    def _offer(self, now: float, node: NodeState) -> None:
        """Send our addresses over the node's relay, or remember to do it once they are known to be fresh."""
        if node.relay is None:
            return
        if not self.addresses_fresh:
            if len(self._offers_waiting) < MAX_NODES:
                self._offers_waiting[node.node_id] = None
            return
        assert isinstance(node.relay.path, RelayPath)
        here = _is_loopback(node.relay.path.url.host)
        offered = tuple(a for a in self.own_addresses if here or not _is_loopback(a[0]))[:MAX_OFFERED]
        if not offered:
            return
        self.shared.events.append(CallMeMaybeSent(now, node.node_id, offered))
        self._send(node, node.relay.path, disco.CallMeMaybe(offered))

    def _predict(self, pings: Pings) -> None:
        """Send one ping many ways. Its pong need not be known: who hears it pings back, and that settles the path."""
        packet = self._seal(pings.node, disco.Ping(self.shared.tx_id(), self.secret_key.node_id, 0))
        self.transmits.extend(Transmit(path, pings.node.node_id, [packet]) for path in pings.paths)

    def _send(self, node: NodeState, path: Path, message: disco.Message) -> None:
        self.transmits.append(Transmit(path, node.node_id, [self._seal(node, message)]))

    def _seal(self, node: NodeState, message: disco.Message) -> bytes:
        nonce = self.shared.rng.randbytes(24)
        return disco.seal(self._box_key(node.node_id), self.secret_key.node_id, nonce, disco.encode(message))

    def _box_key(self, node_id: NodeId) -> bytes:
        """The shared disco key with a node; cached, since it costs a scalar multiplication."""
        key = self._box_keys.get(node_id)
        if key is None:
            if len(self._box_keys) >= MAX_NODES:
                del self._box_keys[next(iter(self._box_keys))]
            key = self._box_keys[node_id] = self.secret_key.box_key(node_id)
        return key

    # --- bounds ---

    def _note_source(self, now: float, path: Path) -> None:
        self._sources.pop(path, None)
        while len(self._sources) >= MAX_KNOWN_SOURCES:
            del self._sources[next(iter(self._sources))]
        self._sources[path] = now + KNOWN_SOURCE_SECONDS

    def _make_room(self, now: float) -> None:
        """Forget the nodes that were idle longest when there are too many."""
        idle = sorted((n for n in self.nodes.values() if n.sessions == 0), key=lambda n: n.last_used)
        excess = max(len(idle) - MAX_IDLE_NODES + 1, len(self.nodes) - MAX_NODES + 1)
        for node in idle[: max(0, excess)]:
            if not node.active(now) or len(idle) > MAX_IDLE_NODES:
                del self.nodes[node.node_id]


def _unroutable(addr: Addr) -> bool:
    """Whether an offered address cannot be meant for us: link-local IPv6 has no scope here, port 0 is none."""
    ip, port = addr
    return port == 0 or ip.lower().startswith(("fe8", "fe9", "fea", "feb"))


def _is_loopback(host: str) -> bool:
    """Whether an address is this machine's own: no use to a peer that is met at a relay elsewhere."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


__all__ = ["MagicSock", "QuicNote", "Transmit", "UdpPath"]
