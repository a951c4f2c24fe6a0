"""Two endpoints' QUIC tables joined by a link under virtual time; seconds and bytes, nothing waits."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TypeVar

from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto.quic import (
    Closed,
    Event,
    HandshakeDone,
    QuicConfig,
    Session,
    SessionTable,
    StreamData,
    TlsAuth,
)

ALPN = "test/1"
CONFIG = QuicConfig(alpns=(ALPN,))
CLIENT_KEY, SERVER_KEY = SecretKey(bytes(31) + b"\x01"), SecretKey(bytes(31) + b"\x02")

#: Seconds of data that a link with a rate buffers; what comes on top is lost.
QUEUE = 0.05

T = TypeVar("T")


@dataclass
class Side:
    """One endpoint: its table, the session under test, and everything that the session reported."""

    table: SessionTable
    session: Session | None = None
    events: list[Event] = field(default_factory=list)
    received: dict[int, bytearray] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    reading: bool = True
    news: int = 0
    sent: int = 0
    last_data_at: float = 0.0

    @property
    def quic(self) -> Session:
        """The session, once there is one."""
        assert self.session is not None
        return self.session

    @property
    def closed(self) -> Closed | None:
        """The last event, if it was the end."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, Closed) else None

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind, without stream data."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """A client that dials a server. ``delay`` is one way; ``drop(datagram, to_server)`` loses datagrams."""

    def __init__(
        self,
        *,
        client: QuicConfig = CONFIG,
        server: QuicConfig = CONFIG,
        auth: TlsAuth = TlsAuth.RAW_PUBLIC_KEY,
        node_id: NodeId = SERVER_KEY.node_id,
        alpn: str = ALPN,
        delay: float = 0.02,
        bytes_per_second: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.delay = delay
        self.rate = bytes_per_second
        self.up = True
        self.drop: Callable[[bytes, bool], bool] = lambda datagram, to_server: False
        self.server = Side(SessionTable(SERVER_KEY, server))
        self.client = Side(SessionTable(CLIENT_KEY, client))
        self.client.session = self.client.table.dial(self.now, node_id, alpn, auth)
        self._wire: list[tuple[float, int, bool, bytes]] = []
        self._order = itertools.count()
        self._free_at = {True: 0.0, False: 0.0}
        self.pump()

    @classmethod
    def connected(cls, **options: object) -> Self:
        """A pair whose handshake is done on both sides."""
        pair = cls(**options)  # type: ignore[arg-type]
        pair.run(lambda: bool(pair.client.of(HandshakeDone) and pair.server.of(HandshakeDone)), within=5)
        return pair

    def pump(self) -> None:
        """Send what is due and collect events on both sides."""
        for side, to_server in ((self.client, True), (self.server, False)):
            if side.session is not None:
                for datagram in side.session.transmit(self.now):
                    side.sent += 1
                    self._send(datagram, to_server)
                self._collect(side)

    def step(self) -> None:
        """Jump to the next thing that happens: an arrival or a timer."""
        at = self._next()
        assert at is not None, "nothing will ever happen again"
        self.now = max(self.now, at)
        arrived: dict[bool, list[bytes]] = {True: [], False: []}
        while self._wire and self._wire[0][0] <= self.now:
            _, _, to_server, datagram = heapq.heappop(self._wire)
            arrived[to_server].append(datagram)
        self._deliver(self.server, arrived[True])
        self._deliver(self.client, arrived[False])
        for side in (self.client, self.server):
            due = side.session.next_timeout() if side.session else None
            if side.session is not None and due is not None and due <= self.now:
                side.session.handle_timeout(self.now)
        self.pump()

    def run(self, until: Callable[[], bool], within: float) -> float:
        """Step until the condition holds; the virtual seconds it took. Fails after ``within``."""
        start = self.now
        self.pump()
        while not until():
            at = self._next()
            assert at is not None, "nothing will ever happen again"
            assert at <= start + within, f"not within {within} s"
            self.step()
        return self.now - start

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self.now + seconds
        self.pump()
        while True:
            at = self._next()
            if at is None or at > end:
                break
            self.step()
        self.now = end
        self.pump()

    def black_out(self, seconds: float) -> None:
        """Everything is lost for this long, also what is on the way."""
        self._wire.clear()
        self.up = False
        self.advance(seconds)
        self.up = True

    def _next(self) -> float | None:
        times = [side.session.next_timeout() for side in (self.client, self.server) if side.session]
        if self._wire:
            times.append(self._wire[0][0])
        known = [at for at in times if at is not None]
        return min(known) if known else None

    def _send(self, datagram: bytes, to_server: bool) -> None:
        if not self.up or self.drop(datagram, to_server):
            return
        at = self.now
        if self.rate:
            at = max(at, self._free_at[to_server]) + len(datagram) / self.rate
            if at > self.now + QUEUE:
                return
            self._free_at[to_server] = at
        heapq.heappush(self._wire, (at + self.delay, next(self._order), to_server, datagram))

    def _deliver(self, side: Side, datagrams: list[bytes]) -> None:
        """Hand datagrams over as the endpoint does: short headers with one destination id together."""
        for is_run, group in itertools.groupby(datagrams, _destination):
            batch = list(group)
            session = side.table.find(batch[0])
            if is_run and session is not None:
                side.news += session.receive_many(self.now, batch)
                continue
            for datagram in batch:
                session, fresh = side.table.receive(self.now, datagram, accept=side is self.server)
                if session is not None and side.session is None:
                    side.session = session
                side.news += len(datagram) if fresh else 0

    def _collect(self, side: Side) -> None:
        while (event := side.quic.poll_event()) is not None:
            if isinstance(event, StreamData):
                side.received.setdefault(event.stream_id, bytearray()).extend(event.data)
                side.last_data_at = self.now
                if event.fin:
                    side.finished.add(event.stream_id)
                if side.reading:
                    side.quic.consume(event.stream_id, len(event.data))
            else:
                side.events.append(event)


def _destination(datagram: bytes) -> bytes:
    """The destination id of a datagram with a short header; empty for any other."""
    return datagram[1:9] if datagram[0] & 0xC0 == 0x40 else b""
