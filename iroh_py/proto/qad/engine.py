"""aioquic's connection with the address discovery extension, for either side.

No streams and no datagrams: a connection under this ALPN carries reports and nothing else. Paths are aioquic's
own here, unlike in ``iroh_py.proto.quic``: a client that comes from a new address is moved to it, challenged, sent
at most three times what it sent until it answers (RFC 9000 8.1, 9.3), and told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    QuicConnectionError,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace

from iroh_py.errors import RemoteProtocolError
from iroh_py.network import Addr
from iroh_py.proto.qad.wire import (
    MAX_FRAME,
    OBSERVED_V4,
    OBSERVED_V6,
    Role,
    encode_parameter,
    find_role,
    frame_type,
    pull_observed,
    push_observed,
)
from iroh_py.proto.quic.standing import Standing


class QadEngine(Standing):
    """One connection. ``observed`` is what the peer reported last, ``on_cids`` is called when our ids change."""

    def __init__(self, *, configuration: QuicConfiguration, role: Role, **options: Any) -> None:
        super().__init__(configuration=configuration, **options)
        self.role = role
        self.peer_role: Role | None = None
        self.observed: Addr | None = None
        self.reports = 0
        self.on_cids: Callable[[], None] | None = None
        self._observed_sequence = -1
        self._reported: Addr | None = None
        self._sequence = 0
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = 0
        handlers = self._QuicConnection__frame_handlers  # type: ignore[attr-defined]
        for kind in (OBSERVED_V4, OBSERVED_V6):
            handlers[kind] = (self._handle_observed, frozenset((tls.Epoch.ONE_RTT,)))

    @property
    def established(self) -> bool:
        """Whether the handshake is complete."""
        return self._handshake_complete

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time in seconds, None before the first measurement."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    def local_cids(self) -> list[bytes]:
        """The destination ids under which the peer may send to us."""
        return [cid.cid for cid in self._host_cids]

    # The extension

    def _serialize_transport_parameters(self) -> bytes:
        return super()._serialize_transport_parameters() + encode_parameter(self.role)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        try:
            self.peer_role = find_role(data)
        except RemoteProtocolError as error:
            raise QuicConnectionError(
                QuicErrorCode.TRANSPORT_PARAMETER_ERROR, QuicFrameType.CRYPTO, str(error)
            ) from error

    def _handle_observed(self, context: QuicReceiveContext, kind: int, buf: Buffer) -> None:
        sequence, addr = pull_observed(buf, kind)
        if not self.role.receives or self.peer_role is None or not self.peer_role.sends:
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, kind, "an address report that was not agreed on"
            )
        if sequence > self._observed_sequence:
            self._observed_sequence, self.observed = sequence, addr

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        # aioquic calls this for every 1-RTT packet after the handshake, behind a PATH_CHALLENGE: a packet to a new
        # address asks for an answer and tells the address at once.
        super()._write_connection_limits(builder=builder, space=space)
        wanted = self.peer_role is not None and self.peer_role.receives and self.role.sends
        # A path of the server's is a Source, which also says through which of our addresses it came.
        ip, port = self._network_paths[0].addr[:2]
        addr = (ip, port)
        if not wanted or addr == self._reported:
            return
        buf = builder.start_frame(frame_type(addr), MAX_FRAME, self._on_report_delivery, (addr,))
        push_observed(buf, self._sequence, addr)
        self._reported = addr
        self._sequence += 1
        self.reports += 1

    def _on_report_delivery(self, delivery: QuicDeliveryState, addr: Addr) -> None:
        if delivery is not QuicDeliveryState.ACKED and addr == self._reported:
            self._reported = None

    def _replenish_connection_ids(self) -> None:
        # aioquic calls this wherever its own connection ids change.
        super()._replenish_connection_ids()
        if self.on_cids is not None:
            self.on_cids()
