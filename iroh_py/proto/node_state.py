"""One remote node: its paths, which of them carries payload, and how doubt about that is settled.

Theory of operation
-------------------
A node has *paths* (``paths.py``). One proven path is *best* and carries payload. Three things raise doubt:

* **we moved**: our network changed (``handle_network_change``);
* **silence**: data that wants an answer was sent, or a heartbeat ping, and nothing came back;
* **the peer moved**: something authentic arrived on another path (``contest.py``).

Doubt never waits: rounds of pings go to all paths in a dense rhythm (``pings.ProbeRhythm``), payload meanwhile goes to
best *and* to the other plausible way (the address just heard from, within three times the bytes it sent; the relay).
A pong to a ping that was sent after the doubt arose settles it: ``_settle`` adopts the path, and QUIC is kicked, so
that data flows one round trip after a way exists. A packet alone never moves a path: whoever replays a packet from
another address cannot answer our ping.

Handlers take ``now`` first and return actions; they never wait, send or draw time.
"""

from __future__ import annotations

from iroh_py.addr import RelayUrl
from iroh_py.events import (
    AnswerLate,
    HolePunched,
    PathProven,
    PathSuspected,
    PeerMoved,
)
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.actions import Action, Kick, OfferAddresses, SendDisco, SetMtu
from iroh_py.proto.announcement import Announcement
from iroh_py.proto.contest import Contest, Sign, Verdict, quiet
from iroh_py.proto.disco import Ping, Pong
from iroh_py.proto.offers import Offers
from iroh_py.proto.path_table import PathTable
from iroh_py.proto.paths import (
    BASE_MTU,
    OFFERED_CREDIT,
    TRUST,
    Path,
    PathState,
    RelayPath,
    UdpPath,
    better_path,
)
from iroh_py.proto.pings import (
    CALM_AFTER,
    PING_OVERHEAD,
    PONG_SIZE,
    OpenPing,
    SeenPings,
)
from iroh_py.proto.probing import MOVED, Probing
from iroh_py.proto.silence import Silence
from iroh_py.proto.surroundings import Surroundings

#: A node without connections still counts as active for this long after its last payload (PROTOCOL 3.1), in seconds.
SESSION_ACTIVE = 45.0
#: A path that works but is slower than this is compared with the others now and then (PROTOCOL 3.1), in seconds.
GOOD_ENOUGH_LATENCY = 0.005
UPGRADE_INTERVAL = 60.0
#: With a relay to fall back on, a direct path that stays silent under doubt this long is given up, in seconds.
GIVE_UP = 5.0
#: So many kicks in a row without an answer, and large packets are suspected not to get through.
MAX_FRUITLESS_KICKS = 2
#: Why a path is doubted whose answers stay away.
SILENCE = "silence"


class NodeState:
    """The state of one remote node. Times are seconds on the endpoint's clock."""

    def __init__(self, now: float, node_id: NodeId, shared: Surroundings) -> None:
        self.node_id = node_id
        self.shared = shared
        self.paths = PathTable()
        self.best: PathState | None = None
        self.relay: PathState | None = None
        #: Number of QUIC connections with this node; while there is one, a path is kept.
        self.sessions = 0
        self.last_used = now
        #: When the newest doubt arose (a pong has to answer a later ping), and since when there was no end of doubt.
        self.suspect_since: float | None = None
        self._doubted_since: float | None = None
        self._suspect_why = ""
        self._contest = Contest(now, higher_id=shared.node_id.raw > node_id.raw)
        self._silence = Silence(lambda: (self.latency, self.relay is not None))
        self._heartbeat_at: float | None = None
        self._offers = Offers(now)
        self._probing = Probing(node_id, shared, self.paths)
        self._rhythm = self._probing.rhythm
        self._seen = SeenPings()
        self._announcement = Announcement(node_id, shared)

    # --- what others ask ---

    @property
    def steady(self) -> bool:
        """Whether payload has one undoubted direct path: the common case, kept cheap."""
        return self.best is not None and self.suspect_since is None and self._contest.contender is None

    def active(self, now: float) -> bool:
        """Whether a path to this node is worth keeping."""
        return self.sessions > 0 or now - self.last_used <= SESSION_ACTIVE

    @property
    def current_path(self) -> Path | None:
        """Where payload goes first: the best direct path, else the relay, else None."""
        best, relay = self.best, self.relay
        if best is not None and (self.suspect_since is None or relay is None):
            return best.path
        if relay is not None and self.shared.relay_connected(relay.path.url):  # type: ignore[union-attr]
            return relay.path
        return best.path if best is not None else (relay.path if relay is not None else None)

    @property
    def latency(self) -> float | None:
        """Round-trip seconds of the best direct path, as pings measure it."""
        return None if self.best is None else self.best.latency

    @property
    def mtu(self) -> int:
        """Bytes of UDP payload that every path used now carries."""
        return self.best.mtu if self.best is not None and self.steady else BASE_MTU

    def targets(self, now: float) -> list[tuple[Path, PathState | None]]:
        """The paths that payload goes to now: one normally, two or three under doubt, none if none is known.

        Beside a path stands its state if it is unproven: then each datagram has to be paid from its credit.
        """
        self.last_used = now
        best = self.best
        if best is not None and self.suspect_since is None and self._contest.contender is None:
            return [(best.path, None)]
        out: dict[Path, PathState | None] = {}
        if best is not None:
            out = dict.fromkeys(self._ways(best.path))
        contender = self._contest.contender
        if contender is not None:
            out.setdefault(contender.path, None if contender.proven else contender)
        if self.relay is not None:
            out[self.relay.path] = None
        if best is None and contender is None:
            out.update((s.path, None if s.proven else s) for s in self.paths.likely(2))
        return list(out.items())

    def _ways(self, path: Path) -> list[Path]:
        """A path to a proven address, or the same address by other interfaces if its own cannot carry packets."""
        if isinstance(path, UdpPath) and not path.via and not self.shared.route_usable(path.addr[0]):
            return [UdpPath(path.addr, via) for via in self.shared.vias(path.addr[0])[:2]] or [path]
        return [path]

    # --- what happens ---

    def add_addresses(self, now: float, addresses: list[Addr], relay: RelayUrl | None, *, told: bool) -> bool:
        """Learn where the node may be; return whether anything was new."""
        new = False
        for addr in addresses:
            if addr not in self.shared.own_addresses and self.shared.has_family(addr[0]):
                new = self.paths.add(now, UdpPath(addr), told=told, keep=self.best) or new
        if relay is not None and (self.relay is None or self.relay.path.url != relay):  # type: ignore[union-attr]
            self.relay = PathState(RelayPath(relay), now, told=True)
            self.announce(now)
            new = True
        return new

    def seek_path(self, now: float, why: str) -> None:
        """Start rounds of pings, because somebody wants to talk to this node."""
        self.last_used = now
        self._rhythm.start(now, why)

    def handle_network_change(self, now: float) -> list[Action]:
        """Our own network is another one: question everything and say at once where we are."""
        gone = [
            s
            for s in self.paths
            if isinstance(s.path, UdpPath) and s.path.via and not self._has_interface(s.path)
        ]
        for state in gone:
            self.paths.remove(state.path)
            if state is self.best:
                self.best = None
        if not self.active(now):
            return []
        self._suspect(now, MOVED)
        self._contest.end()
        self._offers.forget_sent()
        for state in self.paths:
            state.forget_mtu()
        actions = self._round(now)
        self._silence.begin_anew(now)
        return [*actions, SetMtu(BASE_MTU), Kick(reset=False)]

    def handle_ping(self, now: float, path: Path, ping: Ping, size: int) -> list[Action]:
        """An authentic ping arrived: answer it, and look whether the node moved."""
        if not self._seen.is_new(ping.tx_id):
            return []
        state, new = self._heard(now, path, size)
        if state is None:
            return []
        observed = path.addr if isinstance(path, UdpPath) else path.url
        actions: list[Action] = [SendDisco(path, Pong(ping.tx_id, observed))]
        state.charge(PONG_SIZE)
        if isinstance(path, RelayPath):
            return actions
        if state is self.best:
            if self.suspect_since is not None:
                actions += self._probing.ping(now, state)
            if self._silence.overdue(now):
                actions += self._kick(now, reset=False)
        elif new or self._challengeable(now, state, Sign.PING):
            actions += self._challenge(now, state, Sign.PING)
        return actions

    def handle_pong(self, now: float, path: Path, pong: Pong) -> list[Action]:
        """An authentic pong arrived: the path of its ping works, unless it came back another way."""
        ping = self._probing.answer(now, pong.tx_id)
        if ping is None:
            return []
        latency = now - ping.at
        if isinstance(ping.path, RelayPath):
            if self.relay is not None and self.relay.path == ping.path:
                self.relay.handle_pong(now, latency)
            return []
        if not isinstance(path, UdpPath) or path.addr != ping.path.addr:
            return []  # the answer does not vouch for the address that was asked (PROTOCOL 14, trap 23)
        state = self.paths.get(ping.path)
        if state is None:
            return []
        if not state.proven or self.suspect_since is not None:
            self._tell(PathProven(now, self.node_id, str(state.path), latency))
        state.handle_pong(now, latency)
        actions: list[Action] = []
        if ping.size > state.mtu:
            state.mtu = ping.size
            if state is self.best:
                actions.append(SetMtu(state.mtu))
        return actions + self._settle(now, state, ping)

    def handle_call_me_maybe(self, now: float, addresses: list[Addr]) -> list[Action]:
        """The node says, over its relay, where it can be tried; both sides' pings open the NATs between them."""
        self.add_addresses(now, addresses, None, told=False)
        if not self._offers.accept(now):
            return []
        for addr in addresses:
            state = self.paths.get(UdpPath(addr))
            if state is not None:
                state.credit = max(state.credit, OFFERED_CREDIT)
        best = self.best
        news = self._offers.is_news(addresses)
        told = news or best is None or not best.trusted(now)
        if told and best is not None and isinstance(best.path, UdpPath) and best.path.addr not in addresses:
            self._suspect(now, "the peer listed other addresses")
        if news or not self._rhythm.running:
            self._rhythm.start(now, "call-me-maybe")
        actions = self._round(now)
        sent = any(isinstance(action, OfferAddresses) for action in actions)
        if not self.steady and not sent and self._offers.may_reply(now):
            actions.append(OfferAddresses())
        return actions

    def handle_payload(self, now: float, path: Path, size: int, *, fresh: bool) -> list[Action]:
        """Authentic QUIC bytes arrived on a path; ``fresh`` ones are newer than all before (no replay)."""
        state = self.best
        if state is not None and path == state.path:
            state.handle_received(now, size)
        else:
            state = self.paths.get(path) if isinstance(path, UdpPath) else self.relay
            if state is None and not fresh:
                return []
            state, _ = self._heard(now, path, size)
            if state is None:
                return []
        state.last_payload = now
        self._silence.handle_payload(now)
        best = self.best
        if state is best:
            # With a relay beside, it vouches for one direction only: what it acknowledges may have gone by the relay.
            if self.suspect_since is not None and self._suspect_why == SILENCE and self.relay is None:
                self._clear_doubt(now)
            return []
        if not fresh:
            return []
        if isinstance(path, RelayPath):
            if best is not None and self.suspect_since is None and quiet(now, best):
                # What is newest came over the relay: the peer does not get through to us directly.
                self._suspect(now, "the peer uses the relay")
                return self._kick(now, reset=False)  # what is in flight by the direct path is lost
            return []
        return (
            self._challenge(now, state, Sign.PAYLOAD) if self._challengeable(now, state, Sign.PAYLOAD) else []
        )

    def handle_sent(self, now: float, *, wants_answer: bool) -> None:
        """Payload went out; if it wants an answer, silence from now on means something."""
        self.last_used = now
        if self._heartbeat_at is None:
            self._heartbeat_at = now + self.shared.config.heartbeat_interval
        self._silence.handle_sent(now, wants_answer=wants_answer)
        if not wants_answer:
            return
        if self._rhythm.running and self._pressing(now):
            self._rhythm.hasten(now)
        elif self.best is None:
            self._rhythm.start(now, "no path known")

    def handle_relay_lost(self, now: float) -> None:
        """Our relay broke. If answers stay away as well, a NAT forgot us: the path in use is no better."""
        if self._undoubted and self._silence.confirms(now):
            self._suspect(now, SILENCE)
        self.announce(now)

    def note_unanswered(self, since: float | None) -> None:
        """When the oldest data was sent that the node has not acknowledged; None: it has all."""
        self._silence.unanswered = since

    def handle_timeout(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        self._probing.expire(now)
        if _is_due(now, self._verdict_at()):
            actions += self._decide(now)
        actions += self._judge_silence(now)
        if self._given_up(now):
            self._adopt_none(now)
        if _is_due(now, self._heartbeat_at):
            actions += self._heartbeat(now)
        if _is_due(now, self._rhythm.due):
            actions += self._round(now)
        return actions

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called next."""
        times = (
            self._check_at(),
            self._silence_deadline(),
            self._verdict_at(),
            self._heartbeat_at,
            self._rhythm.due,
            self._probing.next_expiry(),
        )
        return min((t for t in times if t is not None), default=None)

    # --- doubt ---

    @property
    def _undoubted(self) -> bool:
        """Whether a path is in use that silence could put into question."""
        return self.best is not None and self.suspect_since is None and self.sessions > 0

    def _silence_deadline(self) -> float | None:
        """When the absence of an answer becomes a reason for doubt."""
        return self._silence.deadline() if self._undoubted else None

    def _check_at(self) -> float | None:
        """When to find out whether the relay still works, before payload needs it."""
        return self._silence.check_at() if self._undoubted else None

    def _judge_silence(self, now: float) -> list[Action]:
        """Answers are late: ask the relay, then doubt the path."""
        check, deadline = self._check_at(), self._silence_deadline()
        due = min((t for t in (check, deadline) if t is not None), default=None)
        if due is None or now < due or self._silence.excuses(now, due):
            return []
        actions = self._check_relay(now) if _is_due(now, check) else []
        if _is_due(now, deadline):
            self._suspect(now, SILENCE)
        return actions

    def _check_relay(self, now: float) -> list[Action]:
        """A ping through the relay: if its connection is dead, writing to it shows that."""
        assert self.relay is not None
        assert self.best is not None
        self._silence.handle_check(now)
        self._tell(AnswerLate(now, self.node_id, str(self.best.path)))
        return self._probing.ping(now, self.relay)

    def _suspect(self, now: float, why: str) -> None:
        """Doubt the path in use and look for all others."""
        if self.best is not None and (self.suspect_since is None or why != self._suspect_why):
            self._tell(PathSuspected(now, self.node_id, str(self.best.path), why))
        self.suspect_since = now
        if self._doubted_since is None:
            self._doubted_since = now
        self._suspect_why = why
        self._silence.pong_due = None
        self._rhythm.start(now, why)
        self.announce(now)

    def _clear_doubt(self, now: float) -> None:
        """The path in use works."""
        self.suspect_since = self._doubted_since = None
        self._contest.end()
        self._rhythm.stop()
        self.announce(now)

    def _challenge(self, now: float, state: PathState, sign: Sign) -> list[Action]:
        """The node was heard on another path: it may have moved. Ask both paths, and use both until one answers."""
        contest = self._contest
        begins = contest.begin(now, state, sign)
        if begins:
            self._tell(PeerMoved(now, self.node_id, str(state.path), sign.value))
            self._rhythm.start(now, "the peer was heard elsewhere")
        actions: list[Action] = []
        # A small packet's credit does not cover a ping and an answer: the answer comes first, once.
        poor = begins and sign is Sign.PAYLOAD and not state.proven and state.credit < 3 * PING_OVERHEAD
        if not poor and (state.last_ping is None or now - state.last_ping >= max(state.latency or 0.0, 0.02)):
            actions += self._probing.ping(now, state)
            if self.best is not None:
                actions += self._probing.ping(now, self.best)
        # Payload comes by another way because the peer moved: what is in flight by the old one is lost.
        moved = sign is Sign.PAYLOAD and self.best is not None and not contest.kicked
        # What the last kick wanted to send there was more than the credit of an unproven address; now it is covered.
        covered = 0 < state.withheld <= state.credit
        if moved or covered or self._silence.overdue(now):
            contest.kicked = True
            state.withheld = 0
            actions += self._kick(now, reset=False)
        return actions

    def _challengeable(self, now: float, state: PathState, sign: Sign) -> bool:
        """Whether a sign of life on another path puts the one in use into question."""
        if self.best is None or self.suspect_since is not None or not state.proven:
            return True
        return self._contest.may_begin(now, sign)

    def _verdict_at(self) -> float | None:
        return None if self.suspect_since is not None else self._contest.verdict_at(self.best)

    def _decide(self, now: float) -> list[Action]:
        """The contest is over, or goes on because neither path answered."""
        best, contender = self.best, self._contest.contender
        assert best is not None
        assert contender is not None
        verdict = self._contest.decide(now, best)
        if verdict is Verdict.MOVE:
            return self._adopt(now, contender)
        if verdict is Verdict.STAY:
            self._clear_doubt(now)
        elif self._silence.quiet(best.quiet_for(now)):
            self._suspect(now, SILENCE)
        return []

    def _settle(self, now: float, state: PathState, ping: OpenPing) -> list[Action]:
        """A path answered a ping: decide whether payload goes there."""
        best = self.best
        after_doubt = self.suspect_since is None or ping.at >= self.suspect_since
        if best is None:
            return self._adopt(now, state)
        if state is best:
            self._silence.pong_due = None
            if not after_doubt:
                return []
            if self._contest.contender is not None and self.suspect_since is None:
                return []  # it lives, which the verdict will take into account
            doubted = self.suspect_since is not None
            self._clear_doubt(now)
            actions = [SetMtu(state.mtu), *self._probing.probe_mtu(now, state)] if doubted else []
            if self._silence.overdue(now) or (doubted and self._silence.awaiting is not None):
                actions += self._kick(now, reset=False)
            return actions
        if self.suspect_since is not None:
            return self._adopt(now, state) if after_doubt else []
        if self._contest.contender is state:
            return self._decide(now) if _is_due(now, self._verdict_at()) else []
        in_use = best.last_payload is not None and now - best.last_payload < 1.0
        given = in_use and self.shared.node_id.raw > self.node_id.raw  # the peer decides while it sends there
        better = better_path(state, best)
        if not best.trusted(now) or (better and not given):
            return self._adopt(now, state)
        if better:
            self._probing.last_round = (
                None  # the peer may see it otherwise: look again with the next heartbeat
            )
        return []

    def _adopt(self, now: float, state: PathState) -> list[Action]:
        """Make a proven path the one in use."""
        before = self.best
        self.best = state
        slower = (
            before is not None
            and before.latency is not None
            and state.latency is not None
            and state.latency > 2 * before.latency + 0.01
        )
        self._clear_doubt(now)
        self._silence.pong_due = None
        if before is None:
            self._tell(HolePunched(now, self.node_id, str(state.path)))
        return [*self._kick(now, reset=slower), SetMtu(state.mtu), *self._probing.probe_mtu(now, state)]

    def _adopt_none(self, now: float) -> None:
        """Give the direct path up: payload goes over the relay only, and the search goes on."""
        self.best = None
        self.suspect_since = self._doubted_since = None
        self.announce(now)

    def _given_up(self, now: float) -> bool:
        return (
            self.best is not None
            and self._doubted_since is not None
            and self.relay is not None
            and now - self._doubted_since > GIVE_UP
            and self.best.quiet_for(now) > GIVE_UP
        )

    def _kick(self, now: float, *, reset: bool) -> list[Action]:
        """Let QUIC go on at once. Kicks that bring no answer mean that large packets do not get through."""
        fruitless = self._silence.handle_kick(now) > MAX_FRUITLESS_KICKS
        best = self.best
        if best is not None and fruitless and best.mtu > BASE_MTU and best.trusted(now):
            best.handle_mtu_failure(now)
            return [SetMtu(BASE_MTU), Kick(reset)]
        return [Kick(reset)]

    # --- pings ---

    def _round(self, now: float) -> list[Action]:
        """Ping every path that may work, and offer our own addresses over the relay."""
        actions = self._probing.round(now, best=self.best, relay=self.relay)
        if self.relay is not None and self._offers.may_send(now):
            self._offers.handle_sent(now)
            actions.append(OfferAddresses())
        if self._wants_path(now):
            self._rhythm.advance(now, urgent=self._pressing(now))
        else:
            self._rhythm.stop()
        return actions

    def _pressing(self, now: float) -> bool:
        """Whether data waits for a path; not for long if the relay carries it and punching has failed so far."""
        relay = self.relay
        carried = relay is not None and relay.quiet_for(now) < TRUST and self._rhythm.age(now) > CALM_AFTER
        return self._silence.awaiting is not None and not carried

    def _wants_path(self, now: float) -> bool:
        """Whether rounds of pings shall go on."""
        return self.active(now) and (
            self.best is None or self.suspect_since is not None or self._contest.contender is not None
        )

    def _heartbeat(self, now: float) -> list[Action]:
        """Keep the path in use alive and notice when it is not; compare paths now and then."""
        if not self.active(now):
            self._heartbeat_at = None
            self._rhythm.stop()
            return []
        self._heartbeat_at = now + self.shared.config.heartbeat_interval
        best = self.best
        if best is None or self.suspect_since is not None:
            if not self._rhythm.running:
                self._rhythm.start(now, "no path known")
            return []
        actions = self._probing.ping(now, best)
        self._silence.handle_heartbeat(now)
        actions += self._probing.probe_mtu(now, best)
        slow = best.latency is not None and best.latency > GOOD_ENOUGH_LATENCY
        if slow and (self._probing.last_round is None or now - self._probing.last_round >= UPGRADE_INTERVAL):
            self._rhythm.start(now, "is there a better path?")
            actions += self._round(now)
        self.paths.prune(now, keep=best)
        return actions

    # --- small things ---

    def _heard(self, now: float, path: Path, size: int) -> tuple[PathState | None, bool]:
        """The state of the path that something authentic arrived on, made if it is new; None if there is no room."""
        new = False
        if isinstance(path, RelayPath):
            if self.relay is None or self.relay.path != path:
                self.relay = PathState(path, now, told=True)
                self.announce(now)
                new = True
            state: PathState | None = self.relay
        else:
            new = self.paths.add(now, path, told=False, keep=self.best)
            state = self.paths.get(path)
        if state is not None:
            state.handle_received(now, size)
        if self._heartbeat_at is None:
            self._heartbeat_at = now + self.shared.config.heartbeat_interval
        return state, new

    def _has_interface(self, path: UdpPath) -> bool:
        return self.shared.interface_usable(path.via)

    def announce(self, now: float) -> None:
        """Tell watchers when payload's first path is another one than before."""
        self._announcement.tell(now, self.current_path, self.latency)

    def _tell(self, event: object) -> None:
        self.shared.events.append(event)  # type: ignore[arg-type]


def _is_due(now: float, at: float | None) -> bool:
    return at is not None and now >= at
