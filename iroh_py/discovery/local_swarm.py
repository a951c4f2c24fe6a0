"""When to ask and when to answer on a local network, and who is there: swarm-discovery's rhythm, sans IO.

Theory of operation (PROTOCOL 9.6). Rounds of some 0.7 s: somebody asks, then everybody who is not yet
answered for enough draws a short random time and answers, unless enough others did. So a crowd costs about as
much traffic as two nodes. Beyond the original: changed addresses of a known peer replace the old ones (trap
20), and a change of our own is announced at once.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Iterable

from iroh_py.keys import NodeId
from iroh_py.proto.node_info import NodeInfo

#: Seconds between questions, and answers wanted per question: the "interactive" cadence.
TAU = 0.7
PHI = 2.5
CUTOFF = math.ceil(TAU * PHI)
#: Answers are drawn from so many seconds per node and wanted answer.
ANSWER_SPREAD = 0.1
#: Steps of the fairness delay, in seconds, and how many there are at most.
FAIRNESS_STEP = 0.1
MAX_FAIRNESS_STEPS = 10
#: How often silent peers are looked for, and how many expected answers a peer may miss.
EXPIRY_INTERVAL = TAU * 1.2346
MISSED_ANSWERS = 3.0
#: Peers remembered; on a larger network those heard last are.
MAX_PEERS = 1024
#: Announcements and questions out of turn: not more often than this, in seconds.
URGENT_PAUSE = 0.1


class Send(enum.Enum):
    """What to send now."""

    QUERY = enum.auto()
    RESPONSE = enum.auto()


class LocalSwarm:
    """The rhythm and the memory of one node on a local network. ``now`` is seconds of one monotonic clock."""

    def __init__(self, now: float, node_id: NodeId, rng: random.Random) -> None:
        self._node_id = node_id
        self._rng = rng
        self._peers: dict[NodeId, tuple[float, NodeInfo]] = {}
        self._fairness = 0.0
        self._answering = False
        self._answers = 0
        self._urgent: dict[Send, float] = {}
        self._last_urgent = {Send.QUERY: now - URGENT_PAUSE, Send.RESPONSE: now - URGENT_PAUSE}
        self._due = now
        self._expire_at = now + EXPIRY_INTERVAL
        self._begin_round(now)

    # --- who is there ---

    @property
    def peers(self) -> Iterable[NodeInfo]:
        """Everybody heard lately."""
        return [info for _, info in self._peers.values()]

    def find(self, node_id: NodeId) -> NodeInfo | None:
        """The newest announcement of a peer that was heard lately."""
        entry = self._peers.get(node_id)
        return None if entry is None else entry[1]

    @property
    def size(self) -> int:
        """Nodes on this network, ourselves included."""
        return len(self._peers) + 1

    # --- what happens ---

    def handle_query(self, now: float) -> None:
        """Somebody asked: the round's question need not be ours."""
        if not self._answering:
            self._begin_answer(now)

    def handle_response(self, now: float, infos: Iterable[NodeInfo]) -> list[NodeInfo]:
        """Somebody announced itself; returns those of which this is news."""
        news = []
        for info in infos:
            if info.node_id == self._node_id:
                continue
            self._answers += 1
            before = self._peers.pop(info.node_id, None)
            if before is None and len(self._peers) >= MAX_PEERS:
                del self._peers[next(iter(self._peers))]
            self._peers[info.node_id] = (now, info)
            if before is None or before[1] != info:
                news.append(info)
        return news

    def ask_soon(self, now: float) -> None:
        """Somebody here wants to know: ask out of turn."""
        self._hurry(now, Send.QUERY)

    def announce_soon(self, now: float) -> None:
        """Our own addresses are others now: say it out of turn."""
        self._hurry(now, Send.RESPONSE)

    def handle_timeout(self, now: float) -> list[Send]:
        """Do what is due; returns what to send."""
        if now >= self._expire_at:
            self._expire(now)
        out = [what for what, at in self._urgent.items() if at <= now]
        for what in out:
            del self._urgent[what]
            self._last_urgent[what] = now
        if Send.QUERY in out and not self._answering:
            self._begin_answer(now)
        if now >= self._due:
            out += [what for what in self._turn(now) if what not in out]
        return out

    def next_timeout(self) -> float:
        """When ``handle_timeout`` wants to be called next."""
        return min(self._due, self._expire_at, *self._urgent.values())

    # --- rounds ---

    def _turn(self, now: float) -> list[Send]:
        if not self._answering:
            self._begin_answer(now)
            return [Send.QUERY]
        answer = self._answers < CUTOFF
        if answer:
            self._fairness = FAIRNESS_STEP * min(self.size / CUTOFF, MAX_FAIRNESS_STEPS)
        else:
            self._fairness = max(0.0, self._fairness - FAIRNESS_STEP)
        self._begin_round(now)
        return [Send.RESPONSE] if answer else []

    def _begin_round(self, now: float) -> None:
        self._answering = False
        self._due = now + TAU + self._rng.uniform(0.0, TAU * self.size / 10)

    def _begin_answer(self, now: float) -> None:
        self._answering = True
        self._answers = 0
        self._due = now + self._rng.uniform(0.0, ANSWER_SPREAD * self.size / CUTOFF) + self._fairness

    def _expire(self, now: float) -> None:
        """Forget peers that are silent for longer than chance explains."""
        self._expire_at = now + EXPIRY_INTERVAL
        expected = min(CUTOFF, self.size) / TAU / self.size
        for node_id, (heard, _) in list(self._peers.items()):
            if now - heard > MISSED_ANSWERS / expected:
                del self._peers[node_id]

    def _hurry(self, now: float, what: Send) -> None:
        self._urgent.setdefault(what, max(now, self._last_urgent[what] + URGENT_PAUSE))
