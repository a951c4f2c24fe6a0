"""One QUIC connection between two nodes, sans-IO.

Theory of operation. The owner feeds ``receive`` and ``handle_timeout``, then drains ``transmit``,
``poll_event`` and ``next_timeout``, in this order. A session knows its peer by node id and nothing of
addresses: any datagram may come and go over any path. Whoever owns the paths calls ``path_changed`` when one
is proven and ``set_mtu`` when its size is known.

After ``Closed`` a session still answers late packets of the peer with its close for three probe timeouts;
then ``drained`` is true and it can be forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from aioquic.quic import events as quic_events

from iroh_py.errors import ConnectTimeoutError, IrohError, LocalProtocolError, TimedOutError
from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto.quic.config import MIN_MTU, QuicConfig
from iroh_py.proto.quic.ecn import CE, ECT_0, NOT_ECT, EcnState
from iroh_py.proto.quic.engine import PEER_ADDRESS, Engine
from iroh_py.proto.quic.errors import closing_error
from iroh_py.proto.quic.events import (
    Closed,
    DatagramReceived,
    Event,
    HandshakeDone,
    StreamData,
    StreamReset,
    StreamStopped,
)
from iroh_py.proto.quic.liveness import Farewell, KeepAlive
from iroh_py.proto.quic.status import SessionStatus
from iroh_py.proto.tls import Credentials, TlsAuth

#: A close frame has to fit one packet together with its header; UTF-8 bytes.
MAX_REASON = 512
#: Datagrams looked at together, what one coalesced read holds; and how many of them must be a run to look for more.
RUN_SIZE, MIN_RUN = 64, 8
#: The largest value of a QUIC variable-length integer (RFC 9000 section 16).
MAX_CODE = (1 << 62) - 1


class Session(SessionStatus):
    """One connection: a client made by ``dial``, or a server made by ``SessionTable`` for a client's first
    packet.

    ``node_id`` and ``alpn`` are known to a client at once, to a server with ``HandshakeDone``.
    ``dropped_datagrams`` counts datagrams of ours that the queue had no room for, ``broken_packets`` packets
    that aioquic choked on.
    """

    def __init__(
        self, now: float, engine: Engine, config: QuicConfig, node_id: NodeId | None, alpn: str | None
    ):
        self._engine = engine
        self._config = config
        self._events: deque[Event] = deque()
        self._stopped: set[int] = set()
        self._keep_alive = KeepAlive(now, config.keep_alive)
        self._farewell = Farewell()
        self._expires_at = None if engine._is_client else now + config.handshake_timeout
        self._closed_by_us = False
        self._closed_announced = False
        self._timed_out: IrohError | None = None
        self.node_id = node_id
        self.alpn = alpn
        self.is_client = engine._is_client
        self.dropped_datagrams = 0
        self.broken_packets = 0
        #: The codepoint for the IP headers of what ``transmit`` gave last.
        self.sent_ecn = NOT_ECT

    @classmethod
    def dial(
        cls,
        now: float,
        secret_key: SecretKey,
        node_id: NodeId,
        alpn: str,
        config: QuicConfig,
        auth: TlsAuth = TlsAuth.RAW_PUBLIC_KEY,
        *,
        credentials: Credentials | None = None,
    ) -> Session:
        """Start a handshake with ``node_id``; ``credentials`` saves making an X.509 certificate per dial.

        Raises LocalProtocolError for an ALPN that is not 1 to 255 ASCII characters.
        """
        if not alpn.isascii() or not 1 <= len(alpn) <= 255:
            raise LocalProtocolError(f"an ALPN is 1 to 255 ASCII characters, not {alpn!r}")
        engine = Engine(
            config=config,
            credentials=credentials or Credentials(secret_key),
            auth=auth,
            dial=(node_id, alpn),
        )
        engine.connect(PEER_ADDRESS, now)
        return cls(now, engine, config, node_id, alpn)

    @classmethod
    def accept(cls, now: float, credentials: Credentials, original_cid: bytes, config: QuicConfig) -> Session:
        """The server's side for a client's first packet, whose destination id is ``original_cid``."""
        engine = Engine(config=config, credentials=credentials, original_cid=original_cid)
        return cls(now, engine, config, None, None)

    # Connection ids

    @property
    def on_cids(self) -> Callable[[], None] | None:
        """Called whenever ``cids`` changed; for the owner of the routes."""
        return self._engine.on_cids

    @on_cids.setter
    def on_cids(self, callback: Callable[[], None] | None) -> None:
        self._engine.on_cids = callback

    def cids(self) -> list[bytes]:
        """The 8-byte destination connection ids of packets for this session."""
        return self._engine.local_cids()

    # In

    def receive(self, now: float, datagram: bytes, ecn: int = NOT_ECT) -> bool:
        """Handle one UDP payload that came with an ECN codepoint; garbage is dropped.

        True if it held an authenticated 1-RTT packet whose number is higher than every one before: the sender
        is alive and this is the newest we have of it, a hint about its address (RFC 9000 section 9.3).
        """
        engine = self._engine
        if engine.over:
            self._farewell.heard()
            return False
        space = engine.app_space
        newest = space.largest_received_packet
        engine.arriving.codepoint = ecn
        try:
            engine.receive_datagram(datagram, PEER_ADDRESS, now)
        except ValueError:
            # aioquic has let parse errors of hostile bytes escape before; its BufferReadError and CryptoError
            # are ValueErrors. The packet counts as lost.
            self.broken_packets += 1
            return False
        if ecn == CE:
            engine.hurry_ack(now)
        # The packet space is replaced by the first packet of a handshake.
        if engine.app_space is space and space.largest_received_packet == newest:
            return False
        self._keep_alive.heard(now)
        return True

    def receive_many(self, now: float, datagrams: Sequence[bytes], ecn: int = NOT_ECT) -> int:
        """``receive`` for datagrams that came together, all with short headers, one destination id and codepoint.

        Returns how many bytes of them were such that ``receive`` says True.
        """
        if len(datagrams) == 1:
            return len(datagrams[0]) if self.receive(now, datagrams[0], ecn) else 0
        news = 0
        self._engine.arriving.codepoint = ecn
        for begin in range(0, len(datagrams), RUN_SIZE):
            chunk = datagrams[begin : begin + RUN_SIZE]
            while chunk:
                done = self._engine.receive_run(chunk, now)
                if done:
                    news += sum(map(len, chunk[:done]))
                    self._keep_alive.heard(now)
                # Where runs are short, looking for them costs more than it saves.
                stop = done + 1 if done >= MIN_RUN else len(chunk)
                news += sum([len(data) for data in chunk[done:stop] if self.receive(now, data, ecn)])
                chunk = chunk[stop:]
        if ecn == CE:
            self._engine.hurry_ack(now)
        return news

    def handle_timeout(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        engine = self._engine
        if engine.terminated:
            return
        if self._expires_at is not None and not self.handshake_done and now >= self._expires_at:
            self._timed_out = ConnectTimeoutError("the client did not finish its handshake")
            engine.abandon()
            return
        idle = not engine.over
        engine.fire(now)
        if idle and engine.terminated:
            self._timed_out = self._silence()
        elif self.handshake_done and self._keep_alive.due <= now:
            self._keep_alive.asked(now)
            self.probe(now)

    # Out

    def transmit(self, now: float) -> list[bytes]:
        """The datagrams to send now, each at most the MTU, with ``sent_ecn`` in their IP headers."""
        engine = self._engine
        closing = engine._close_pending
        self.sent_ecn = NOT_ECT
        first, flight = engine._packet_number, engine.app_space.ack_eliciting_in_flight
        datagrams = engine.transmit(now)
        # Acknowledgements alone carry no marks: nobody would notice that a network eats them.
        if engine.trust.marking and engine.app_space.ack_eliciting_in_flight > flight:
            self.sent_ecn = ECT_0
            engine.trust.handle_sent(engine._packet_number - first)
        if closing:
            self._farewell.said(datagrams)
        elif engine.over and not engine.terminated:
            datagrams = self._farewell.again()
        return datagrams

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` (and then ``transmit``) is due; None if never."""
        engine = self._engine
        at = engine.timer()
        if at is None or engine.over:
            return at
        if self.handshake_done:
            return min(at, self._keep_alive.due)
        return at if self._expires_at is None else min(at, self._expires_at)

    def poll_event(self) -> Event | None:
        """The next event, None if there is none."""
        while not self._events:
            event = self._engine.next_event()
            if event is None:
                self._notice_closed()
                return self._events.popleft() if self._events else None
            self._translate(event)
        return self._events.popleft()

    # Paths

    @property
    def ecn(self) -> EcnState:
        """Whether the present path carries ECN marks (RFC 9000 section 13.4)."""
        return self._engine.trust.state

    def use_path(self, path: Hashable) -> None:
        """What ``transmit`` gives takes this path alone, and its marks are tested; None: it may take any.

        Call it before ``transmit``; the same path again changes nothing.
        """
        self._engine.use_path(path)

    def path_changed(self, now: float, *, reset: bool) -> None:
        """A path is proven (again): forget all back-off and send at once.

        Everything in flight counts as lost without congestion, the probe timeout starts over, an
        acknowledgement is forced (it unblocks the peer's own back-off), and one probe goes out even over a
        full window. With ``reset`` the round trip time and congestion window start afresh too: right for a
        slower path, wasteful for the same one. Call it once per proven change: each call sends the whole
        flight again.
        """
        if not self.closed:
            self._engine.path_changed(now, reset=reset)

    def set_mtu(self, size: int) -> None:
        """Send datagrams of up to ``size`` bytes (UDP payload). Raises LocalProtocolError below 1200."""
        if size < MIN_MTU:
            raise LocalProtocolError(f"QUIC needs datagrams of {MIN_MTU} bytes, not {size}")
        self.dropped_datagrams += self._engine.set_mtu(size)

    def probe(self, now: float) -> None:
        """Make the peer answer: the next ``transmit`` carries a PING, even over a full congestion window."""
        if not self.closed:
            self._engine._probe_pending = True

    # Streams

    def open_stream(self, bidirectional: bool) -> int:
        """A new stream's id. It waits silently if the peer allows no more streams now (see ``streams_left``).

        Raises LocalProtocolError when as many streams wait as the peer may ever have open here.
        """
        self._check_open()
        return self._engine.open_stream(bidirectional)

    def streams_left(self, bidirectional: bool) -> int:
        """How many more streams the peer lets us open at once."""
        return self._engine.streams_left(bidirectional)

    def write(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        """Queue bytes; see ``backlog`` for how many wait.

        Raises LocalProtocolError on a stream that is finished.
        """
        self._check_open()
        try:
            self._engine.send_stream_data(stream_id, data, fin)
        except (ValueError, RuntimeError) as error:
            raise LocalProtocolError(f"stream {stream_id} cannot be written: {error}") from error

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Give up sending; unsent and unacknowledged bytes are forgotten. No effect on a finished stream."""
        _check_code(code)
        try:
            self._engine.reset_stream(stream_id, code)
        except ValueError as error:
            raise LocalProtocolError(f"stream {stream_id} cannot be reset: {error}") from error

    def stop_sending(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up sending; nothing more of this stream is handed out.

        No effect when it ended.
        """
        _check_code(code)
        if self._engine.stop_receiving(stream_id, code):
            self._stopped.add(stream_id)

    def backlog(self, stream_id: int) -> int:
        """Bytes written and not yet acknowledged by the peer."""
        return self._engine.backlog(stream_id)

    def consume(self, stream_id: int, size: int) -> None:
        """The application has read ``size`` bytes; the peer may send as many more (RFC 9000 section 4)."""
        self._engine.consume(stream_id, size)

    def hold_stream(self, stream_id: int) -> None:
        """The application has not taken this stream of the peer yet, so its end lets the peer open no other.

        Without it a peer can open and end streams without bound while nobody accepts them: an empty stream
        costs it no flow control.
        """
        self._engine.hold_stream(stream_id)

    def release_stream(self, stream_id: int) -> None:
        """The application has taken a held stream; harmless for any other."""
        self._engine.release_stream(stream_id)

    # Datagrams

    @property
    def max_datagram_payload(self) -> int:
        """The largest datagram that can be sent now, 0 if the peer takes none (or is not known yet)."""
        return self._engine.max_datagram_payload

    def send_datagram(self, data: bytes) -> None:
        """Queue an unreliable datagram; a full queue drops its oldest.

        Raises LocalProtocolError if too large.
        """
        self._check_open()
        limit = self.max_datagram_payload
        if len(data) > limit:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes, the peer takes {limit}")
        pending = self._engine._datagrams_pending
        if len(pending) == self._config.datagram_queue:
            self.dropped_datagrams += 1
        pending.append(data)

    # The end

    def close(self, now: float, code: int, reason: str) -> None:
        """Close with an application code and a reason (cut to 512 bytes of UTF-8); then ``transmit``."""
        _check_code(code)
        if not self.closed:
            self._closed_by_us = True
            cut = reason.encode()[:MAX_REASON].decode(errors="ignore")
            self._engine.close(error_code=code, reason_phrase=cut)

    def _check_open(self) -> None:
        if self.closed:
            raise LocalProtocolError("the connection is closed")

    def _silence(self) -> IrohError:
        """The error of a connection on which nothing arrived for too long."""
        if not self.handshake_done:
            return ConnectTimeoutError("the node did not answer in time")
        return TimedOutError("nothing arrived from the peer for the whole idle timeout")

    def _translate(self, event: quic_events.QuicEvent) -> None:
        """Turn an event of aioquic into ours; the others are internal."""
        if isinstance(event, quic_events.StreamDataReceived):
            self._stream_data(event)
        elif isinstance(event, quic_events.DatagramFrameReceived):
            self._events.append(DatagramReceived(event.data))
        elif isinstance(event, quic_events.StreamReset):
            if event.stream_id in self._stopped:
                self._stopped.discard(event.stream_id)
            else:
                self._events.append(StreamReset(event.stream_id, event.error_code))
        elif isinstance(event, quic_events.StopSendingReceived):
            self._events.append(StreamStopped(event.stream_id, event.error_code))
        elif isinstance(event, quic_events.HandshakeCompleted):
            self._complete(event)

    def _stream_data(self, event: quic_events.StreamDataReceived) -> None:
        if event.stream_id in self._stopped:
            self._engine.consume(event.stream_id, len(event.data))
            if event.end_stream:
                self._stopped.discard(event.stream_id)
            return
        data, fin = event.data, event.end_stream
        if not fin and self._engine.continues(event.stream_id):
            data, fin = self._engine.join(event)
        self._events.append(StreamData(event.stream_id, data, fin))

    def _complete(self, event: quic_events.HandshakeCompleted) -> None:
        context = self._engine.node_context
        assert context is not None, "there is no handshake without TLS"
        assert context.peer_id is not None, "TLS lets nobody in without a node id"
        assert event.alpn_protocol is not None, "ALPN is mandatory"
        self.node_id, self.alpn = context.peer_id, event.alpn_protocol
        self._events.append(HandshakeDone(self.node_id, self.alpn))

    def _notice_closed(self) -> None:
        """Queue the last event once the connection is over and everything before was handed out."""
        if self._closed_announced or not self._engine.over:
            return
        self._closed_announced = True
        if self._timed_out is not None:
            self._events.append(Closed(self._timed_out))
        elif self._closed_by_us:
            self._events.append(Closed(None))
        else:
            self._events.append(Closed(closing_error(self._engine)))


def _check_code(code: int) -> None:
    if not 0 <= code <= MAX_CODE:
        raise LocalProtocolError(f"a QUIC error code is 0 to 2^62-1, not {code}")
