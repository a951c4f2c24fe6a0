"""Port prediction for a whole endpoint: one attempt at a time, and the extra sockets that come of it.

An extra socket has a number above 0. A path through it is a ``UdpPath`` whose ``via`` is that number, negative: so
replies leave by the socket on which something arrived, and a proven path stays bound to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from iroh_py.events import StaysRelayed
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.birthday import (
    Birthday,
    BirthdayAction,
    CloseSockets,
    OpenSockets,
    ProbePorts,
    public_v4,
)
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import OFFERED_CREDIT, UdpPath
from iroh_py.proto.surroundings import Surroundings

#: Peers whose attempts are remembered; the one that offered longest ago goes first.
MAX_PEERS = 64
#: Sockets kept for proven paths. More peers behind NATs of that sort stay relayed: file descriptors are few.
MAX_KEPT = 64
#: Through whichever socket a ping comes first, that one gets so long to prove its path before others are heard: two
#: paths at once would only make both sides choose between them. In seconds.
FIRST_COMES = 1.0
#: A path in doubt gets this long to recover before other ports are tried, in seconds.
DOUBT = 1.0
#: Another peer's attempt is going on: look again after so many seconds.
BUSY = 0.5
#: Kept sockets are looked at this often, and closed when their path was not used for so long, in seconds.
SWEEP_INTERVAL, UNUSED = 5.0, 15.0


class OpenSocket(NamedTuple):
    """Open an extra IPv4 socket under this number, which leaves by this interface (0: routing decides)."""

    number: int
    via: int


class CloseSocket(NamedTuple):
    """Close the extra socket with this number."""

    number: int


class Pings(NamedTuple):
    """Send one and the same ping to a node by all these paths."""

    node: NodeState
    paths: list[UdpPath]


class PortPrediction:
    """All attempts of one endpoint. The driver follows ``orders`` before it sends anything."""

    def __init__(self, shared: Surroundings) -> None:
        self.orders: deque[OpenSocket | CloseSocket] = deque()
        self._shared = shared
        self._peers: dict[NodeId, Birthday] = {}
        self._owners: dict[int, NodeId] = {}
        self._running: NodeId | None = None
        self._heard: tuple[int, float] | None = None
        self._numbers = 0
        self._sweep_at: float | None = None
        shared.extra_sockets = self._owners.keys()

    @property
    def sockets(self) -> int:
        """How many extra sockets there are."""
        return len(self._owners)

    # --- what happens ---

    def handle_offer(self, now: float, node: NodeState, addresses: list[Addr]) -> None:
        """A node told its addresses over the relay."""
        if not self._shared.config.port_prediction:
            return
        ours = {ip for ip, _ in public_v4(tuple(self._shared.own_addresses))}
        # Behind the same NAT as we are, it is to be met inside.
        useful = tuple(addr for addr in addresses if addr[0] not in ours)
        peer = self._peers.pop(node.node_id, None) or Birthday(now, self._shared.rng)
        while len(self._peers) >= MAX_PEERS:
            oldest = next(iter(self._peers))
            self._forget(now, oldest)
        self._peers[node.node_id] = peer
        peer.handle_offer(now, useful)

    def handle_network_change(self, now: float, nodes: Mapping[NodeId, NodeState]) -> None:
        """Our own network is another one."""
        if self._running is not None:
            self._end(now, nodes.get(self._running))
        for peer in self._peers.values():
            peer.handle_network_change(now)

    def hears(self, now: float, node: NodeState, path: UdpPath) -> bool:
        """Whether an authentic disco packet counts that arrived on this path's extra socket."""
        number = -path.via
        if self._owners.get(number) != node.node_id:
            return False
        if self._running == node.node_id:
            first, at = self._heard or (number, now)
            if number != first and now - at < FIRST_COMES:
                return False
            self._heard = (number, at if number == first else now)
        return True

    def handle_heard(self, now: float, node: NodeState, path: UdpPath) -> None:
        """A node was heard on an extra socket: its address was offered to us, so it may be asked a few times."""
        state = node.paths.get(path)
        if state is not None and not state.proven and state.since == now:
            state.credit = max(state.credit, OFFERED_CREDIT)

    def handle_timeout(self, now: float, nodes: Mapping[NodeId, NodeState], *, fresh: bool) -> list[Pings]:
        """Do what is due; ``fresh``: our own addresses are known, so the peer was told them."""
        out: list[Pings] = []
        for node_id, peer in list(self._peers.items()):
            if peer.due is None or peer.due > now:
                continue
            node = nodes.get(node_id)
            if node is None:
                self._forget(now, node_id)
            elif not _wanted(node):
                self._finish(now, peer, node)
            elif not fresh or not self._may_run(now, node):
                peer.postpone(now + BUSY)
            else:
                self._running = node_id
                for action in peer.handle_timeout(now, varies=self._shared.mapping_varies):
                    out += self._act(now, node, action)
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep(now, nodes)
        return out

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next."""
        times = [peer.due for peer in self._peers.values()]
        return min((t for t in (*times, self._sweep_at) if t is not None), default=None)

    @property
    def sockets_kept(self) -> int:
        """Extra sockets that are not of the running attempt."""
        return sum(owner != self._running for owner in self._owners.values())

    # --- acting ---

    def _may_run(self, now: float, node: NodeState) -> bool:
        if self._running == node.node_id:
            return True
        if self._running is not None or self.sockets_kept >= MAX_KEPT:
            return False
        return node.best is None or node.best.quiet_for(now) > DOUBT

    def _act(self, now: float, node: NodeState, action: BirthdayAction) -> list[Pings]:
        if isinstance(action, OpenSockets):
            numbers = [self._open(node, action.to[0][0]) for _ in range(action.sockets)]
            return [Pings(node, [UdpPath(addr, -number) for number in numbers for addr in action.to])]
        if isinstance(action, ProbePorts):
            via = self._way(action.ip)
            return [Pings(node, [UdpPath((action.ip, port), via) for port in action.ports])]
        if isinstance(action, CloseSockets):
            self._end(now, node)
        else:
            self._shared.events.append(StaysRelayed(now, node.node_id, action.why))
        return []

    def _finish(self, now: float, peer: Birthday, node: NodeState) -> None:
        """A direct path was found, or nobody wants one any more."""
        peer.stop(now)
        if self._running == node.node_id:
            self._end(now, node)

    def _open(self, node: NodeState, ip: str) -> int:
        self._numbers += 1
        self._owners[self._numbers] = node.node_id
        self.orders.append(OpenSocket(self._numbers, self._way(ip)))
        return self._numbers

    def _way(self, ip: str) -> int:
        """The interface for packets to an address: the kernel's choice, unless that is dead."""
        others = () if self._shared.route_usable(ip) else self._shared.vias(ip)
        return others[0] if others else 0

    def _end(self, now: float, node: NodeState | None) -> None:
        """End the running attempt; of its sockets only that of the path in use stays."""
        kept = 0 if node is None or node.best is None else _number(node.best.path)
        for number in [n for n, owner in self._owners.items() if owner == self._running and n != kept]:
            self._close(number, node)
        self._running = self._heard = None
        if self._owners:
            self._sweep_at = now + SWEEP_INTERVAL

    def _close(self, number: int, node: NodeState | None) -> None:
        del self._owners[number]
        self.orders.append(CloseSocket(number))
        if node is not None:
            for state in node.paths:
                if _number(state.path) == number:
                    node.paths.remove(state.path)

    def _forget(self, now: float, node_id: NodeId) -> None:
        del self._peers[node_id]
        if self._running == node_id:
            self._end(now, None)

    def _sweep(self, now: float, nodes: Mapping[NodeId, NodeState]) -> None:
        """Close kept sockets whose path nobody uses any more."""
        for number, owner in list(self._owners.items()):
            node = nodes.get(owner)
            if owner != self._running and (node is None or not _uses(now, node, number)):
                self._close(number, node)
        self._sweep_at = now + SWEEP_INTERVAL if self._owners else None


def _number(path: object) -> int:
    """The number of the extra socket that a path goes through; 0 for the main sockets."""
    return -path.via if isinstance(path, UdpPath) and path.via < 0 else 0


def _wanted(node: NodeState) -> bool:
    """Whether a connection lacks an undoubted direct path."""
    return (
        node.sessions > 0 and node.relay is not None and (node.best is None or node.suspect_since is not None)
    )


def _uses(now: float, node: NodeState, number: int) -> bool:
    if node.best is not None and _number(node.best.path) == number:
        return node.active(now)
    return any(_number(s.path) == number and s.quiet_for(now) < UNUSED for s in node.paths)
