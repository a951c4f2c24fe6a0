"""What can be asked of a session at any time: how far it is, and how its packets fare."""

from __future__ import annotations

from iroh_py.proto.quic.engine import Engine


class SessionStatus:
    """The questions to a session that change nothing."""

    _engine: Engine

    @property
    def closed(self) -> bool:
        """Whether the connection is over; nothing can be sent any more."""
        return self._engine.over

    @property
    def drained(self) -> bool:
        """Whether late packets need no answer any more, so that the session can be forgotten."""
        return self._engine.terminated

    @property
    def handshake_done(self) -> bool:
        """Whether the peer has proven its node id."""
        return self._engine._handshake_complete

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time in seconds, None before the first measurement."""
        return self._engine._loss.rtt

    @property
    def bytes_in_flight(self) -> int:
        """Bytes sent and neither acknowledged nor lost."""
        return self._engine._loss.bytes_in_flight

    @property
    def congestion_window(self) -> int:
        """How many bytes may be in flight."""
        return self._engine._loss.congestion_window

    @property
    def has_unacked(self) -> bool:
        """Whether the peer owes us an acknowledgement, or will once what is queued is sent."""
        return self._engine.has_unacked

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest packet that awaits an acknowledgement was sent; None if there is none."""
        return self._engine.unanswered_since

    @property
    def authenticated(self) -> bool:
        """Whether any packet of the peer was decrypted."""
        return self._engine.authenticated
