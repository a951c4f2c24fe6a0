"""One client's connection after the HTTP upgrade: login, limits, liveness, and its outgoing queue.

Theory of operation. A session is an asyncio protocol that takes the transport over from the HTTP entry. The
subclasses know the frames of a generation: they call ``login`` with a proven identity, route packets through
the hub's table, and encode what other sessions deliver. Everything here is bounded by ``RelayLimits``, and
whatever goes wrong ends this session only. Packets are opaque: nothing on this path looks into them.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from iroh_py.errors import RelayError
from iroh_py.keys import NodeId
from iroh_py.proto.relay.token_bucket import TokenBucket
from iroh_py.relay.outbox import Outbox

if TYPE_CHECKING:
    from iroh_py.relay.clients import Entry
    from iroh_py.relay.hub import Hub

log = logging.getLogger("iroh_py.relay.server")

#: As the original: a ping after 15 s of silence plus 1 to 5 s, so that clients do not answer in step (7.4).
PING_INTERVAL = 15.0
PING_JITTER = (1.0, 5.0)
PONG_TIMEOUT = 5.0


class Session(asyncio.Protocol, ABC):
    """The part that all generations share. ``token`` is the bearer token of the HTTP request."""

    parkable = False

    def __init__(self, hub: Hub, transport: asyncio.Transport, token: str | None) -> None:
        limits = hub.limits
        self.hub = hub
        self.transport = transport
        self.node_id = b""
        self._token = token
        self._entry: Entry | None = None
        self._deciding = False
        self._early: list[bytes] = []
        self._out = Outbox(
            transport, hub.counters, packets=limits.queue_packets, max_bytes=limits.queue_bytes
        )
        self._bucket: TokenBucket | None = None
        if limits.client_rate is not None:
            self._bucket = TokenBucket(hub.loop.time(), limits.client_rate, limits.client_burst)
        self._last_received = hub.loop.time()
        self._closed = False
        self._dirty = False
        self._timer = hub.loop.call_later(limits.handshake_timeout, self._login_timed_out)
        self._stall_timer: asyncio.TimerHandle | None = None
        self._resume_timer: asyncio.TimerHandle | None = None

    # What a generation has to know.

    @abstractmethod
    def handle_bytes(self, data: bytes) -> None:
        """Bytes from the client. Raises RelayError when they break the protocol."""

    @abstractmethod
    def encode_ping(self, data: bytes) -> bytes:
        """A ping on the wire."""

    @abstractmethod
    def encode_denial(self) -> bytes:
        """What a client hears that may not use this relay."""

    def encode_welcome(self) -> bytes:
        """What a client hears that may."""
        return b""

    def encode_goodbye(self) -> bytes:
        """What a client hears before the connection is closed in good order."""
        return b""

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Feed the bytes, close on any broken rule, then write what they caused to all destinations."""
        hub = self.hub
        if self._closed:
            return
        if self._deciding:  # the transport is paused; this is what TLS had buffered already
            self._early.append(data)
            return
        now = hub.loop.time()
        self._last_received = now
        if self._bucket is not None:
            self._throttle(now, len(data))
        try:
            self.handle_bytes(data)
        except RelayError as error:
            self.fail(str(error))
        hub.flush()

    def eof_received(self) -> bool:
        """The client is done; so are we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: no timer, no place in any table is left."""
        self._closed = True
        for timer in (self._timer, self._stall_timer, self._resume_timer):
            if timer is not None:
                timer.cancel()
        self._leave()
        self.hub.leave(self.transport)

    def pause_writing(self) -> None:
        """The client reads slowly: keep its packets in the queue, and watch whether it reads at all."""
        self._out.paused = True
        self._watch_stall(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client reads again."""
        self._out.paused = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._out.flush()

    def _watch_stall(self, buffered: int) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        limit = self.hub.limits.write_timeout
        self._stall_timer = self.hub.loop.call_later(limit, self._check_stall, buffered)

    def _check_stall(self, buffered_before: int) -> None:
        buffered = self.transport.get_write_buffer_size()
        if self._out.paused and buffered >= buffered_before:
            self.hub.counters.write_timeouts += 1
            self.abort("takes no bytes")
        elif self._out.paused:  # slow, not stuck: some bytes went out
            self._watch_stall(buffered)

    def _throttle(self, now: float, size: int) -> None:
        assert self._bucket is not None
        wait = self._bucket.take(now, size)
        if wait > 0 and not self.transport.is_closing():
            self.hub.counters.rate_limited += 1
            self.transport.pause_reading()
            if self._resume_timer is not None:
                self._resume_timer.cancel()
            self._resume_timer = self.hub.loop.call_later(wait, self._resume_reading)

    def _resume_reading(self) -> None:
        self._last_received = self.hub.loop.time()  # its silence was our doing
        if not self.transport.is_closing() and not self._deciding:
            self.transport.resume_reading()

    # Login

    def login(self, node_id: NodeId) -> None:
        """The client proved who it is; ask the access policy, then let it in."""
        answer = self.hub.may_enter(node_id, self._token)
        if isinstance(answer, bool):
            self._finish_login(node_id, answer)
            return
        self._deciding = True
        self.transport.pause_reading()
        self.hub.spawn(self._decide(node_id, answer))

    async def _decide(self, node_id: NodeId, answer: Awaitable[bool]) -> None:
        try:
            allowed = await answer
        except Exception:
            # The policy is the user's code: whatever it raises must not end the server, and must not let
            # anyone in.
            log.exception("the access policy failed for %s", node_id.fmt_short())
            allowed = False
        if self._closed:
            return
        self._deciding = False
        self._finish_login(node_id, allowed)
        early, self._early = self._early, []
        if not self.transport.is_closing():
            self.transport.resume_reading()
        for data in early:
            self.data_received(data)
        self.hub.flush()

    def _finish_login(self, node_id: NodeId, allowed: bool) -> None:
        if self._closed:
            return
        if not allowed:
            self.hub.counters.login_failures += 1
            self._out.push_control(self.encode_denial())
            self.close("not authorized")
            return
        self._timer.cancel()
        self.node_id = node_id.raw
        self.hub.counters.logins += 1
        if welcome := self.encode_welcome():
            self.send_control(welcome)
        self._entry, replaced = self.hub.clients.add(self.node_id, self)
        self.hub.counters.replaced += replaced
        self._plan_ping()
        self.handle_login()
        log.debug("%s connected (%s)", node_id.fmt_short(), type(self).__name__)

    def handle_login(self) -> None:
        """The client is in: frames that waited for this may be handled now. May raise RelayError."""

    @property
    def logged_in(self) -> bool:
        """Whether packets from this client may be forwarded."""
        return self._entry is not None

    @property
    def deciding(self) -> bool:
        """Whether the access policy is still thinking; frames wait meanwhile."""
        return self._deciding

    def _login_timed_out(self) -> None:
        self.hub.counters.login_failures += 1
        self.abort("no login in time")

    # Liveness

    def _plan_ping(self) -> None:
        delay = PING_INTERVAL + self.hub.rng.uniform(*PING_JITTER)
        self._timer = self.hub.loop.call_at(
            self._last_received + delay, self._check_silence, self._last_received
        )

    def _check_silence(self, received_before: float) -> None:
        if self._last_received != received_before:
            self._plan_ping()
            return
        self.send_control(self.encode_ping(self.hub.rng.randbytes(8)))
        self._timer = self.hub.loop.call_later(PONG_TIMEOUT, self._check_pong, received_before)

    def _check_pong(self, received_before: float) -> None:
        # Anything that arrived counts: a pong may wait behind the packets of a slow uplink.
        if self._last_received != received_before:
            self._plan_ping()
            return
        self.hub.counters.ping_timeouts += 1
        self.abort("answers no ping")

    # Routing

    def find(self, destination: bytes) -> Session | None:
        """Where packets for a node go; None, and counted, when it is not connected."""
        hub = self.hub
        hub.counters.packets_in += 1
        target = hub.clients.entries.get(destination)
        if target is None:
            hub.counters.dropped_no_destination += 1
            return None
        own = self._entry
        assert own is not None
        if destination not in own.sent_to:
            hub.clients.note_sent(own, destination)
        return target.active

    @abstractmethod
    def deliver_v3(self, source: bytes, data: bytes) -> None:
        """Queue a generation 3 packet for this client."""

    @abstractmethod
    def deliver_v1(self, source: bytes, ecn: int, segment_size: int, data: bytes) -> None:
        """Queue a 1.x datagram frame for this client."""

    @abstractmethod
    def send_gone(self, node_id: bytes) -> None:
        """Tell this client that a node is gone."""

    def tell_active(self, active: bool) -> None:
        """Only 1.x clients are parked and told so."""

    # Writing

    def send_packet(self, frame: bytes) -> None:
        """Queue an encoded packet, dropped when the queue is full. The sender's ``hub.flush`` writes."""
        if self._out.push(frame):
            self.hub.counters.packets_out += 1
            self._mark_dirty()
        else:
            self.hub.counters.dropped_queue_full += 1

    def send_control(self, frame: bytes) -> None:
        """Queue an encoded control frame and write it, ahead of packets."""
        if self._out.push_control(frame):
            self._out.flush()

    def _mark_dirty(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.hub.mark_dirty(self)

    def flush(self) -> None:
        """Write what is queued."""
        self._dirty = False
        self._out.flush()

    # The end

    def fail(self, reason: str) -> None:
        """The client broke the protocol."""
        self.hub.counters.protocol_errors += 1
        if not self.logged_in:
            self.hub.counters.login_failures += 1
        self.close(reason)

    def close(self, reason: str) -> None:
        """Write what is queued, say goodbye, close."""
        if self._closed or self.transport.is_closing():
            return
        log.debug("closing %s: %s", self.node_id[:5].hex() or "a client before its login", reason)
        if goodbye := self.encode_goodbye():
            self._out.push_control(goodbye)
        self._out.flush()
        self._closed = True
        self._leave()
        self.transport.close()
        # A peer that does not read would keep the last bytes, and the connection, for ever.
        self._timer.cancel()
        self._timer = self.hub.loop.call_later(self.hub.limits.write_timeout, self.transport.abort)

    def abort(self, reason: str) -> None:
        """Drop the connection and what is queued for it."""
        log.debug("aborting %s: %s", self.node_id[:5].hex() or "a client before its login", reason)
        self._closed = True
        self._leave()
        self.transport.abort()

    def _leave(self) -> None:
        """Out of the routing table; whom this node talked to is told, if this was its last connection."""
        if self._entry is not None:
            self._entry = None
            for other in self.hub.clients.remove(self.node_id, self):
                other.send_gone(self.node_id)
