"""A connection with one node: streams, datagrams, and the path that carries them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iroh_py.errors import ClosedError, IrohError, LocalProtocolError
from iroh_py.keys import NodeId
from iroh_py.proto import quic
from iroh_py.proto.paths import RelayPath, UdpPath
from iroh_py.streams import RecvStream, SendStream
from iroh_py.watch import Watchable

if TYPE_CHECKING:
    from iroh_py.io.driver import Driver

#: Bytes read by the application after which the peer is told of its new credit without waiting for another packet.
CREDIT_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class ConnectionPath:
    """The way that payload takes now.

    ``text`` is the peer's address, or the relay; ``local`` our address on the way there, if it is known; ``latency``
    the round-trip time in seconds as pings measure it, if it is known.
    """

    text: str
    relayed: bool
    latency: float | None = field(default=None, compare=False)
    local: str = ""

    @property
    def direct(self) -> bool:
        """Whether payload goes straight to the peer."""
        return bool(self.text) and not self.relayed

    def __str__(self) -> str:
        way = self.text or "none"
        return f"{self.local} -> {way}" if self.local else way


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """Numbers of a connection: seconds and bytes."""

    rtt: float | None
    bytes_in_flight: int
    congestion_window: int
    mtu: int
    #: Whether the path carries ECN marks: off (no single direct path), testing, capable or failed.
    ecn: str = "off"


class Connection:
    """A connection with one node, named by its node id and not by any address. It heals by itself."""

    def __init__(
        self, driver: Driver, session: quic.Session, *, send_buffer: int, datagram_queue: int
    ) -> None:
        self._driver = driver
        self._session = session
        self._send_buffer = send_buffer
        self._error: IrohError | None = None
        self._over = asyncio.Event()
        self._ready = asyncio.Event()
        self._send: dict[int, SendStream] = {}
        self._recv: dict[int, RecvStream] = {}
        self._bi: asyncio.Queue[tuple[SendStream, RecvStream] | None] = asyncio.Queue()
        self._uni: asyncio.Queue[RecvStream | None] = asyncio.Queue()
        self._datagrams: deque[bytes] = deque(maxlen=datagram_queue)
        self._datagram_waiter: asyncio.Future[None] | None = None
        self._blocked: set[SendStream] = set()
        self._path: Watchable[ConnectionPath] = Watchable(ConnectionPath("", False))
        self._unreported = 0
        self.datagrams_dropped = 0

    # --- who and how ---

    @property
    def node_id(self) -> NodeId:
        """The peer's proven node id."""
        node_id = self._session.node_id
        if node_id is None:
            raise LocalProtocolError("the handshake is not finished: the peer has not proven who it is")
        return node_id

    @property
    def alpn(self) -> str:
        """The application protocol of this connection."""
        return self._session.alpn or ""

    @property
    def dialled(self) -> bool:
        """Whether this side opened the connection."""
        return self._session.is_client

    @property
    def path(self) -> ConnectionPath:
        """The way that payload takes now."""
        return self._path.value

    def watch_path(self) -> Watchable[ConnectionPath]:
        """The path as a watchable value: iterate it for changes, or wait until it satisfies something."""
        return self._path

    @property
    def rtt(self) -> float | None:
        """QUIC's smoothed round-trip time in seconds; None before the first sample."""
        return self._session.rtt

    def stats(self) -> ConnectionStats:
        """A snapshot of the connection's numbers."""
        session, node = self._session, self._driver.core.node_of(self._session)
        return ConnectionStats(
            session.rtt,
            session.bytes_in_flight,
            session.congestion_window,
            1200 if node is None else node.mtu,
            session.ecn.value,
        )

    # --- streams ---

    def open_bi(self) -> tuple[SendStream, RecvStream]:
        """Open a stream in both directions; the peer learns of it with the first bytes.

        Raises LocalProtocolError if too many are open, ConnectionLostError or ClosedError if the connection is over.
        """
        self._raise_if_over()
        stream_id = self._session.open_stream(True)
        return self._make_send(stream_id), self._make_recv(stream_id)

    def open_uni(self) -> SendStream:
        """Open a stream for sending only; raises as ``open_bi`` does."""
        self._raise_if_over()
        return self._make_send(self._session.open_stream(False))

    async def accept_bi(self) -> tuple[SendStream, RecvStream]:
        """Wait for a stream in both directions that the peer opens. Raises when the connection is over."""
        pair = await self._bi.get()
        if pair is None:
            self._bi.put_nowait(None)
            raise self._reason()
        self._accepted(pair[1].id)
        return pair

    async def accept_uni(self) -> RecvStream:
        """Wait for a stream on which the peer sends. Raises when the connection is over."""
        stream = await self._uni.get()
        if stream is None:
            self._uni.put_nowait(None)
            raise self._reason()
        self._accepted(stream.id)
        return stream

    def _accepted(self, stream_id: int) -> None:
        """A stream counts against the peer's limit until it is accepted, so that the queue of streams has an end."""
        if self._error is None:
            self._session.release_stream(stream_id)
            self._driver.touch(self._session)

    # --- datagrams ---

    @property
    def max_datagram_size(self) -> int:
        """Bytes that fit into a datagram on the path in use; 0 if the peer takes none."""
        return self._session.max_datagram_payload

    def send_datagram(self, data: bytes) -> None:
        """Send an unreliable datagram (RFC 9221). Raises LocalProtocolError if it is too large."""
        self._raise_if_over()
        self._session.send_datagram(data)
        self._driver.touch(self._session)

    async def read_datagram(self) -> bytes:
        """The next datagram from the peer. Raises when the connection is over."""
        while not self._datagrams:
            self._raise_if_over()
            if self._datagram_waiter is None or self._datagram_waiter.done():
                self._datagram_waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._datagram_waiter)
        return self._datagrams.popleft()

    # --- the end ---

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection and tell the peer why. Streams that are not finished are lost."""
        if self._error is None:
            self._end(ClosedError("this connection was closed by this side"))
            self._session.close(self._driver.now(), code, reason)
            self._driver.touch(self._session)

    async def wait_closed(self) -> IrohError:
        """Wait until the connection is over and return why: ClosedError or a ConnectionLostError."""
        await self._over.wait()
        return self._reason()

    @property
    def close_reason(self) -> IrohError | None:
        """Why the connection is over; None while it lives."""
        return self._error

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        peer = self._session.node_id
        state = "open" if self._error is None else "closed"
        return (
            f"<Connection {'?' if peer is None else peer.fmt_short()} {self.alpn} {state} path={self.path}>"
        )

    # --- for streams ---

    def _write(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        self._session.write(stream_id, data, fin)
        self._driver.touch(self._session)

    def _reset(self, stream_id: int, code: int) -> None:
        if self._error is None:
            self._session.reset_stream(stream_id, code)
            self._driver.touch(self._session)

    def _stop(self, stream_id: int, code: int) -> None:
        if self._error is None:
            self._session.stop_sending(stream_id, code)
            self._driver.touch(self._session)

    def _backlog(self, stream_id: int) -> int:
        return 0 if self._error is not None else self._session.backlog(stream_id)

    def _block(self, stream: SendStream) -> None:
        self._blocked.add(stream)
        self._driver.watch_writers(self)

    def _consumed(self, stream_id: int, size: int) -> None:
        if self._error is not None:
            return
        self._session.consume(stream_id, size)
        self._unreported += size
        if self._unreported >= CREDIT_CHUNK:
            self._unreported = 0
            self._driver.touch(self._session)

    def _raise_if_over(self) -> None:
        if self._error is not None:
            raise self._reason()

    def _reason(self) -> IrohError:
        return self._error or ClosedError("this connection is over")

    # --- for the driver ---

    def _wake_writers(self) -> bool:
        """Wake the writers that can go on; whether any still waits."""
        for stream in list(self._blocked):
            backlog = self._backlog(stream.id)
            if backlog < self._send_buffer // 2 or self._error is not None:
                self._blocked.discard(stream)
                stream._wake()
        return bool(self._blocked)

    def _handle_event(self, event: quic.Event) -> None:
        if isinstance(event, quic.StreamData):
            self._stream_for(event.stream_id)._handle_data(event.data, event.fin)
        elif isinstance(event, quic.StreamReset):
            self._stream_for(event.stream_id)._handle_reset(event.code)
        elif isinstance(event, quic.StreamStopped):
            stream = self._send.get(event.stream_id)
            if stream is not None:
                stream._handle_stopped(event.code)
        elif isinstance(event, quic.DatagramReceived):
            self._handle_datagram(event.data)
        elif isinstance(event, quic.HandshakeDone):
            self._ready.set()
        elif isinstance(event, quic.Closed):
            self._end(event.error or ClosedError("this connection was closed by this side"))

    def _handle_datagram(self, data: bytes) -> None:
        if len(self._datagrams) == self._datagrams.maxlen:
            self.datagrams_dropped += 1
        self._datagrams.append(data)
        if self._datagram_waiter is not None and not self._datagram_waiter.done():
            self._datagram_waiter.set_result(None)

    def _stream_for(self, stream_id: int) -> RecvStream:
        stream = self._recv.get(stream_id)
        if stream is not None:
            return stream
        stream = self._make_recv(stream_id)
        self._session.hold_stream(stream_id)
        if stream_id & 2:
            self._uni.put_nowait(stream)
        else:
            self._bi.put_nowait((self._make_send(stream_id), stream))
        return stream

    def _make_send(self, stream_id: int) -> SendStream:
        stream = self._send[stream_id] = SendStream(self, stream_id)
        self._forget_ended()
        return stream

    def _make_recv(self, stream_id: int) -> RecvStream:
        stream = self._recv[stream_id] = RecvStream(self, stream_id)
        return stream

    def _forget_ended(self) -> None:
        """Drop the bookkeeping of streams that ended; their handles stay usable for who holds them."""
        if len(self._send) + len(self._recv) < 512:
            return
        self._recv = {i: s for i, s in self._recv.items() if not s._finished and s._error is None}
        self._send = {i: s for i, s in self._send.items() if not s._finished and s._stopped is None}

    def _set_path(self) -> None:
        node = self._driver.core.node_of(self._session)
        if node is not None:
            path = node.current_path
            text = "" if path is None else str(path)
            local = self._driver.core.shared.source_of(path) if isinstance(path, UdpPath) else ""
            self._path.set(ConnectionPath(text, isinstance(path, RelayPath), node.latency, local))

    def _end(self, error: IrohError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._over.set()
        self._ready.set()
        self._bi.put_nowait(None)
        self._uni.put_nowait(None)
        if self._datagram_waiter is not None and not self._datagram_waiter.done():
            self._datagram_waiter.set_result(None)
        for stream in self._recv.values():
            stream._wake()
        for sender in self._send.values():
            sender._wake()
        self._path.close()
