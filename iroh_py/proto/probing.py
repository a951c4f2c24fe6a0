"""Pings to one node: which of its paths are asked, how large, and which of them went unanswered. Sans-IO."""

from __future__ import annotations

from iroh_py.events import PingsSent
from iroh_py.keys import NodeId
from iroh_py.proto.actions import Action, SendDisco
from iroh_py.proto.disco import Ping
from iroh_py.proto.path_table import PathTable
from iroh_py.proto.paths import PathState
from iroh_py.proto.pings import PING_OVERHEAD, OpenPing, OpenPings, ProbeRhythm
from iroh_py.proto.surroundings import Surroundings

#: Why we ping after our own network changed. The peer may send three times what it got to an address it has not proven
#: (RFC 9000 section 8.1): a plain ping pays for its pong and its ping, one of so many bytes pays for a full packet of
#: data as well, a round trip earlier. Only while the news is fresh, in seconds.
MOVED = "our network changed"
MOVED_PING = 480
MOVED_SECONDS = 0.2
#: Paths named in the event of a round; a node with more has mostly stale ones.
_MAX_TOLD = 8


class Probing:
    """The pings of one node's paths; ``rhythm`` says when the next round of them is due."""

    __slots__ = ("_node_id", "_open", "_paths", "_shared", "last_round", "rhythm")

    def __init__(self, node_id: NodeId, shared: Surroundings, paths: PathTable) -> None:
        self._node_id = node_id
        self._shared = shared
        self._paths = paths
        self._open = OpenPings()
        self.rhythm = ProbeRhythm()
        #: When all paths were asked last; None: that is due.
        self.last_round: float | None = None

    def ping(self, now: float, state: PathState, size: int = 0) -> list[Action]:
        """One ping on one path, padded so that its datagram has ``size`` bytes if that is more."""
        if not state.told and not state.allows(max(size, PING_OVERHEAD)):
            if size <= PING_OVERHEAD or not state.allows(PING_OVERHEAD):
                return []
            size = PING_OVERHEAD
        padding = max(0, size - PING_OVERHEAD)
        ping = Ping(self._shared.tx_id(), self._shared.node_id, padding)
        state.last_ping = now
        self._open.add(ping.tx_id, OpenPing(state.path, now, PING_OVERHEAD + padding))
        return [SendDisco(state.path, ping)]

    def probe_mtu(self, now: float, state: PathState) -> list[Action]:
        """Try whether the path carries the largest packets we would like to send (a ping's surplus is ignored)."""
        wanted = self._shared.config.max_mtu
        return self.ping(now, state, wanted) if state.probes_mtu(now, wanted) else []

    def round(self, now: float, *, best: PathState | None, relay: PathState | None) -> list[Action]:
        """Ping every path that may work, and first of all the relay. Whether another round follows is not said."""
        rhythm = self.rhythm
        first = rhythm.is_first_round
        actions: list[Action] = []
        if relay is not None and first:
            actions += self.ping(now, relay)
        asked = self._paths.candidates(now, self._shared, keep=best)
        size = MOVED_PING if rhythm.why == MOVED and rhythm.age(now) < MOVED_SECONDS else 0
        for state in asked:
            actions += self.ping(now, state, size)
        self.last_round = now
        if asked and first:
            told = tuple(str(state.path) for state in asked[:_MAX_TOLD])
            self._shared.events.append(PingsSent(now, self._node_id, told, rhythm.why))
        return actions

    def answer(self, now: float, tx_id: bytes) -> OpenPing | None:
        """The ping that a pong answers, if it is open and not too old; it is closed by this."""
        return self._open.answer(now, tx_id)

    def expire(self, now: float) -> None:
        """Count the pings that nobody answered in time against their paths."""
        for lost in self._open.expire(now):
            state = self._paths.get(lost.path)
            if state is not None:
                state.pings_lost += 1

    def next_expiry(self) -> float | None:
        """When the oldest open ping expires."""
        return self._open.next_expiry()
