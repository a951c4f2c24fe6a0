"""aioquic's connection, changed where a connection between nodes differs from one between hosts.

Every private name of aioquic that we rely on is used in this package only, and listed in
``tests/unit/test_quic_private_names.py``; the dependency is pinned to 1.7. aioquic draws connection ids and
key shares from ``os.urandom`` itself: a run is repeatable in its events, not in its bytes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionState, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.recovery import QuicPacketSpace

from iroh_py.errors import LocalProtocolError
from iroh_py.keys import NodeId
from iroh_py.proto.quic.config import QuicConfig
from iroh_py.proto.quic.context import NodeContext
from iroh_py.proto.quic.ecn import Arriving, EcnTrust
from iroh_py.proto.quic.flow import FlowControl
from iroh_py.proto.quic.recovery import Recovery
from iroh_py.proto.tls import Credentials, TlsAuth, server_name

#: QUIC sees this one address for ever: which path a datagram takes is not its business. It does not look like
#: an IP address, so that a server's preferred_address can never be followed.
PEER_ADDRESS = ("node", 0)
#: Our connection ids; the demultiplexer reads this many bytes.
CID_LENGTH = 8
#: What we announce as the largest DATAGRAM frame: any that fits a UDP packet.
MAX_DATAGRAM_FRAME = 65535

logger = logging.getLogger("iroh_py.quic")
logger.addHandler(logging.NullHandler())


class Engine(FlowControl):
    """One aioquic connection with node identities, consumption-based flow control and our loss recovery."""

    def __init__(
        self,
        *,
        config: QuicConfig,
        credentials: Credentials,
        auth: TlsAuth = TlsAuth.RAW_PUBLIC_KEY,
        dial: tuple[NodeId, str] | None = None,
        original_cid: bytes | None = None,
    ) -> None:
        """A client if ``dial`` names node and ALPN, else a server for a client's first destination id."""
        self._max_waiting_streams = config.max_streams
        self._stream_window = config.stream_window
        self._connection_window = config.connection_window
        self._credentials = credentials
        self._auth = auth
        self._expected = dial[0] if dial is not None else None
        self.arriving, self.trust = Arriving(), EcnTrust()
        super().__init__(
            configuration=_configuration(config, credentials, auth, dial),
            original_destination_connection_id=original_cid,
        )
        self._loss = Recovery(
            initial_rtt=config.initial_rtt,
            max_datagram_size=config.mtu,
            peer_completed_address_validation=not self._is_client,
            send_probe=self._send_probe,
            logger=self._logger,
            quic_logger=self._quic_logger,
        )
        # Most engines have no trace, and most traces want everything.
        self._trace = self._quic_logger if hasattr(self._quic_logger, "wanted") else None
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = config.max_streams
        self._datagrams_pending = deque(maxlen=config.datagram_queue)
        self._consumed = 0
        self._stream_consumed = {}
        self._held_streams = set()
        self._owed_streams = set()
        # A placeholder until the first packet makes the real one.
        self.app_space = QuicPacketSpace(is_application_data=True)
        self.on_cids: Callable[[], None] | None = None
        self.closed_by_peer = False

    # What the session asks

    @property
    def node_context(self) -> NodeContext | None:
        """The TLS context, None before the first packet of a client arrived."""
        context = getattr(self, "tls", None)
        return context if isinstance(context, NodeContext) else None

    @property
    def has_unacked(self) -> bool:
        """Whether anything that the peer must acknowledge is in flight or waits to be sent."""
        if self._loss.ack_eliciting_in_flight or self._datagrams_pending or self._ping_pending:
            return True
        return self._probe_pending or any(
            not stream.sender.buffer_is_empty or stream.sender.reset_pending or stream.receiver.stop_pending
            for stream in self._streams.values()
        )

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest 1-RTT packet that awaits an acknowledgement was sent; None if there is none."""
        if not self._loss.ack_eliciting_in_flight:
            return None
        for (
            packet
        ) in self.app_space.sent_packets.values():  # in the order of their numbers, so of their times
            if packet.is_ack_eliciting:
                return packet.sent_time
        return None

    def transmit(self, now: float) -> list[bytes]:
        """The datagrams due; the address that aioquic gives with them is the constant one."""
        if not self._network_paths:
            return []
        if self._trace is not None:
            self._choose_log(now)
        return [data for data, _ in self.datagrams_to_send(now)]

    def _choose_log(self, now: float) -> None:
        """Between packets a trace may be left out, for as long as it wants nothing: packets then go the fast way."""
        if self._state is not QuicConnectionState.TERMINATED:
            trace = self._trace if self._trace.wanted(now) else None  # type: ignore[union-attr]
            self._quic_logger = self._loss._quic_logger = trace

    def timer(self) -> float | None:
        """When ``fire`` is due."""
        return None if self._close_at is None else self.get_timer()

    def fire(self, now: float) -> None:
        """Handle the timers that are due; ``get_timer`` brings the loss detection time up to date first."""
        if self._close_at is not None:
            self.get_timer()
            before = self._loss.timeouts
            self.handle_timer(now)
            if self._loss.timeouts > before:
                self.trust.handle_timeout()

    def abandon(self) -> None:
        """End without a word to the peer."""
        self._close_event = quic_events.ConnectionTerminated(
            error_code=QuicErrorCode.NO_ERROR, frame_type=None, reason_phrase=""
        )
        self._close_end()

    # Streams

    def open_stream(self, bidirectional: bool) -> int:
        """See ``Session.open_stream``."""
        blocked = self._streams_blocked_bidi if bidirectional else self._streams_blocked_uni
        if len(blocked) >= self._max_waiting_streams:
            raise LocalProtocolError(f"{len(blocked)} streams already wait for the peer to allow more")
        stream_id = self.get_next_available_stream_id(is_unidirectional=not bidirectional)
        self._get_or_create_stream_for_send(stream_id)
        return stream_id

    def streams_left(self, bidirectional: bool) -> int:
        """See ``Session.streams_left``."""
        allowed = self._remote_max_streams_bidi if bidirectional else self._remote_max_streams_uni
        used = self.get_next_available_stream_id(is_unidirectional=not bidirectional) // 4
        return max(0, allowed - used)

    def continues(self, stream_id: int) -> bool:
        """Whether the next event has more bytes of the same stream."""
        if not self._events:
            return False
        event = self._events[0]
        return isinstance(event, quic_events.StreamDataReceived) and event.stream_id == stream_id

    def join(self, event: quic_events.StreamDataReceived) -> tuple[bytes, bool]:
        """The bytes of this event and of those that continue it, and whether the stream ends there."""
        parts, fin = [event.data], event.end_stream
        while not fin and self.continues(event.stream_id):
            more = self._events.popleft()
            assert isinstance(more, quic_events.StreamDataReceived), "continues() looked"
            parts.append(more.data)
            fin = more.end_stream
        return b"".join(parts), fin

    def stop_receiving(self, stream_id: int, code: int) -> bool:
        """Ask the peer to stop. False if there is nothing left to stop."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return False
        stream.receiver.stop(code)
        return True

    def backlog(self, stream_id: int) -> int:
        """See ``Session.backlog``."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        return stream.sender._buffer_stop - stream.sender._buffer_start

    def _handle_connection_close_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        self.closed_by_peer = self._close_event is None
        super()._handle_connection_close_frame(context, frame_type, buf)

    # Identity and connection ids

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        NodeContext.adopt(self.tls, self._credentials, self._auth, self._expected)
        self.app_space = self._spaces[tls.Epoch.ONE_RTT]
        self.count_marks()
        self.one_rtt = self._cryptos[tls.Epoch.ONE_RTT]

    def _replenish_connection_ids(self) -> None:
        # aioquic calls this wherever its own connection ids change.
        super()._replenish_connection_ids()
        if self.on_cids is not None:
            self.on_cids()

    def local_cids(self) -> list[bytes]:
        """The destination ids under which the peer may send to us."""
        return [cid.cid for cid in self._host_cids]

    # Paths

    def path_changed(self, now: float, *, reset: bool) -> None:
        """See ``Session.path_changed``."""
        self._loss.forget_flight(now)
        if reset:
            self._loss.start_over()
        if len(self.app_space.ack_queue):
            self.app_space.ack_at = now
        self._pacing_at = None
        self._probe_pending = True

    def set_mtu(self, size: int) -> int:
        """Send datagrams up to this size.

        Returns how many queued DATAGRAM frames no longer fit and were dropped.
        """
        self._max_datagram_size = size
        self._loss.set_mtu(size)
        limit = self.max_datagram_payload
        fitting = [data for data in self._datagrams_pending if len(data) <= limit]
        dropped = len(self._datagrams_pending) - len(fitting)
        if dropped:
            self._datagrams_pending.clear()
            self._datagrams_pending.extend(fitting)
        return dropped

    @property
    def max_datagram_payload(self) -> int:
        """Bytes of one DATAGRAM frame that fit a packet and that the peer takes; 0 if it takes none."""
        # Short header: flags, destination id, 2 bytes of packet number; 16 bytes tag; frame: type, 2 bytes
        # length.
        fits = self._max_datagram_size - (1 + len(self._peer_cid.cid) + 2) - 16 - 3
        return max(0, min(fits, (self._remote_max_datagram_frame_size or 0) - 3))


def _configuration(
    config: QuicConfig, credentials: Credentials, auth: TlsAuth, dial: tuple[NodeId, str] | None
) -> QuicConfiguration:
    """The aioquic settings of one connection."""
    identity = credentials.identity(auth)
    return QuicConfiguration(
        alpn_protocols=[dial[1]] if dial is not None else list(config.alpns),
        is_client=dial is not None,
        server_name=server_name(auth, dial[0]) if dial is not None else None,
        idle_timeout=config.idle_timeout,
        connection_id_length=CID_LENGTH,
        max_data=config.connection_window,
        max_stream_data=config.stream_window,
        max_datagram_size=config.mtu,
        max_datagram_frame_size=MAX_DATAGRAM_FRAME,
        initial_rtt=config.initial_rtt,
        # A server checks for these when it is made; NodeContext presents what the client asked for.
        certificate=identity.certificate,
        private_key=identity.private_key,
        # NodeContext verifies; the default would look for a certificate authority.
        verify_mode=0,
        # Every QUIC implementation has it, and one suite costs one transcript hash.
        cipher_suites=[tls.CipherSuite.AES_128_GCM_SHA256],
        supported_versions=[1],
        secrets_log_file=config.secrets_log_file,
        quic_logger=config.quic_logger,
    )
