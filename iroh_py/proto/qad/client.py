"""One connection of a client that asks a relay for its address, sans-IO.

Kept open it also tells a change: the relay reports again when the client's packets come from elsewhere.
"""

from __future__ import annotations

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration

from iroh_py.errors import ConnectionLostError
from iroh_py.network import Addr
from iroh_py.proto.qad.engine import QadEngine
from iroh_py.proto.qad.wire import ALPN, CLOSE_CODE, CLOSE_REASON, Role
from iroh_py.proto.quic.engine import CID_LENGTH

#: Seconds before a first packet is repeated are three times this: the original's value (PROTOCOL.md 7.12).
INITIAL_RTT = 0.111
#: A PING after this long without news, and silence after which the relay is lost (PROTOCOL.md 11.6).
KEEP_ALIVE = 25.0
IDLE_TIMEOUT = 35.0


class QadClient:
    """Asks one relay at one address. ``observed`` is the answer, None before there is one.

    ``server_name``: the host of the relay's URL, which its certificate has to name. ``cadata``: PEM of the
    authorities to trust, None: those that aioquic finds on this machine; ``verify`` False trusts anybody.
    """

    def __init__(
        self,
        now: float,
        relay: Addr,
        server_name: str,
        *,
        cadata: bytes | None = None,
        verify: bool = True,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._keep_alive = keep_alive
        self._heard_at = now
        self._relay = relay
        self._closed_by_us = False
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[ALPN],
            server_name=server_name,
            cadata=cadata,
            # None is aioquic's default, to verify; 0 is ssl.CERT_NONE, but this layer has no ssl.
            verify_mode=None if verify else 0,
            connection_id_length=CID_LENGTH,
            idle_timeout=IDLE_TIMEOUT,
            initial_rtt=INITIAL_RTT,
            max_data=0,
            max_stream_data=0,
            cipher_suites=[tls.CipherSuite.AES_128_GCM_SHA256],
            supported_versions=[1],
        )
        self._engine = QadEngine(configuration=configuration, role=Role.RECEIVE)
        self._engine.connect(relay, now)

    @property
    def observed(self) -> Addr | None:
        """The address that the relay sees us at."""
        return self._engine.observed

    @property
    def rtt(self) -> float | None:
        """Smoothed round trip time to the relay in seconds."""
        return self._engine.rtt

    @property
    def established(self) -> bool:
        """Whether the relay has proven its name."""
        return self._engine.established

    @property
    def error(self) -> ConnectionLostError | None:
        """Why the connection ended, None while it lives or when we closed it."""
        event = self._engine._close_event
        if event is None or self._closed_by_us:
            return None
        reason = event.reason_phrase or "the relay ended address discovery"
        return ConnectionLostError(reason, code=int(event.error_code), by_peer=True)

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._engine.over

    def receive(self, now: float, datagram: bytes) -> None:
        """Handle one UDP payload that came from the relay; garbage is dropped."""
        self._heard_at = now
        try:
            self._engine.receive_datagram(datagram, self._relay, now)
        except ValueError:
            return  # a parse error of hostile bytes that aioquic let escape: the packet counts as lost

    def transmit(self, now: float) -> list[bytes]:
        """The datagrams to send to the relay now."""
        return [data for data, _ in self._engine.datagrams_to_send(now)]

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` and ``transmit`` are due, None if never."""
        at = self._engine.get_timer()
        if at is None or not self._engine.established or self._engine.over:
            return at
        return min(at, self._heard_at + self._keep_alive)

    def handle_timeout(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        timer = self._engine.get_timer()
        if timer is not None and timer <= now:
            self._engine.handle_timer(now)
        if self._engine.established and not self.closed and now >= self._heard_at + self._keep_alive:
            self._heard_at = now
            self._engine.send_ping(0)

    def probe(self) -> None:
        """Send something with the next ``transmit``, so that the relay sees where we are now."""
        self._engine.send_ping(0)

    def close(self) -> None:
        """End in good order; what that takes is in ``transmit``."""
        self._closed_by_us = True
        self._engine.close(error_code=CLOSE_CODE, reason_phrase=CLOSE_REASON)
