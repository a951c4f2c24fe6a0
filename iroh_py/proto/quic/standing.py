"""How far a connection of aioquic has come, whatever is spoken over it."""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection, QuicConnectionState


class Standing(QuicConnection):
    """aioquic's connection with names for the states that matter."""

    @property
    def authenticated(self) -> bool:
        """Whether any packet of the peer was decrypted."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def over(self) -> bool:
        """Whether the connection is closing, draining or gone."""
        return self._close_event is not None

    @property
    def terminated(self) -> bool:
        """Whether the closing period is over too, so that nothing is left to do."""
        return self._state is QuicConnectionState.TERMINATED
