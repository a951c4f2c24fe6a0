"""A contest between the path in use and another one on which the peer was just heard.

The peer may have moved, or it may only have two uplinks. Both paths are asked; the one in use gets a round trip and a
quarter to answer; then there is a verdict. ``NodeState`` sends the pings and acts on the verdict.
"""

from __future__ import annotations

import enum

from iroh_py.proto.paths import PathState

#: A contest over a ping that the path in use has just won is not repeated for this long: a peer with two uplinks pings
#: from both. One over payload is repeated soon, then ever less often, up to the same pause: it may be a move after all.
PAUSE = 1.0
FIRST_PAUSE = 0.05
#: After so many quiet seconds the pauses begin anew.
FORGIVE = 3.0
#: A peer whose payload came by the path in use this shortly before it came by another one has changed its mind.
CHANGE_OF_MIND = 3.0
#: Beyond a round trip and a quarter, what the path in use gets to answer: scheduling noise, in seconds.
MARGIN = 0.005
#: Silence that the network's own jitter explains, in seconds.
JITTER = 0.03


class Sign(enum.Enum):
    """What was heard: payload tells where the peer sends; a ping, only where it could (it pings from everywhere)."""

    PING = "ping"
    PAYLOAD = "payload"


class Verdict(enum.Enum):
    """How a contest ended."""

    STAY = "the path in use was heard"
    MOVE = "the contender answered, or the peer wants it"
    OPEN = "neither answered yet"


def quiet(now: float, state: PathState) -> bool:
    """Whether a path has been silent for longer than jitter explains."""
    return state.quiet_for(now) > max(2 * (state.latency or 0.0), JITTER)


class Contest:
    """At most one contest at a time. ``higher_id``: whether our node id is above the peer's."""

    __slots__ = ("_followed", "_higher_id", "_sign", "_stays", "_won", "contender", "kicked", "since")

    def __init__(self, now: float, *, higher_id: bool) -> None:
        self.contender: PathState | None = None
        self.since = now
        #: Whether QUIC was kicked for this contest.
        self.kicked = False
        self._sign = Sign.PING
        self._won = dict.fromkeys(Sign, now - 2 * FORGIVE)
        #: Contests over payload that the path in use won in a row.
        self._stays = 0
        self._followed = now - 2 * CHANGE_OF_MIND
        self._higher_id = higher_id

    def begin(self, now: float, state: PathState, sign: Sign) -> bool:
        """Make a path the contender, unless a better one is; return whether it is a new one."""
        if self.contender is state or not self._gives_way(now, sign):
            return False
        self.contender, self._sign = state, sign
        self.since, self.kicked = now, False
        return True

    def _gives_way(self, now: float, sign: Sign) -> bool:
        if self.contender is None or quiet(now, self.contender):
            return True
        return sign is Sign.PAYLOAD and self._sign is Sign.PING

    def end(self) -> None:
        """No contest any more."""
        self.contender = None

    def may_begin(self, now: float, sign: Sign) -> bool:
        """Whether a proven path may be a contender again: not right after the path in use won."""
        pause = PAUSE if sign is Sign.PING else min(PAUSE, FIRST_PAUSE * 2**self._stays)
        return now - self._won[sign] > pause

    def _note_stay(self, now: float) -> None:
        if self._sign is Sign.PAYLOAD:
            fresh = now - self._won[Sign.PAYLOAD] > FORGIVE
            self._stays = 0 if fresh else min(self._stays + 1, 8)
        self._won[self._sign] = now

    def verdict_at(self, best: PathState | None) -> float | None:
        """When the contest is decided; None if there is none."""
        if self.contender is None or best is None:
            return None
        return self.since + 1.25 * (best.latency or 0.0) + MARGIN

    def decide(self, now: float, best: PathState) -> Verdict:
        """The time has come: the path in use stays if it was heard, else a contender that answered wins."""
        contender = self.contender
        assert contender is not None
        if best.quiet_for(now) <= now - self.since:
            if self._follows(now, contender, best):
                return Verdict.MOVE
            self._note_stay(now)
            return Verdict.STAY
        if contender.proven and contender.last_pong is not None and contender.last_pong >= self.since:
            return Verdict.MOVE
        self.since = now  # the pings of the next rounds are judged anew
        return Verdict.OPEN

    def _follows(self, now: float, contender: PathState, best: PathState) -> bool:
        """Whether we give way although the path in use works: the peer sends by the contender.

        If it sent by the path in use until now, it changed its mind (another default route, a cheaper uplink), and we
        go along. If it never did, both sides prefer different paths, and one has to decide, or they would question
        each other for ever: the higher node id follows. Two changes of mind at once end in the second case.
        """
        if not contender.proven or (contender.last_payload or 0.0) < self.since:
            return False
        if (best.last_payload or 0.0) >= self.since:
            return False
        if (
            best.last_payload is not None
            and self.since - best.last_payload < CHANGE_OF_MIND < now - self._followed
        ):
            self._followed = now
            return True
        return self._higher_id
