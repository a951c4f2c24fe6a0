"""The settings of QUIC sessions, with the reason of each default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from aioquic.quic.logger import QuicLogger

#: RFC 9000 section 14: every path carries UDP payloads of this size, so it is what an unknown path gets.
MIN_MTU = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicConfig:
    """How the sessions of one endpoint behave. Times in seconds, sizes in bytes.

    ``alpns``: what a server accepts, most wanted first; a dial names its own.
    ``idle_timeout``: the smaller one of both sides holds (RFC 9000 section 10.1); 90 s survives a 60 s
    outage.
    ``keep_alive``: a PING after this long without news; well below the 30 s idle timeout of the original.
    ``handshake_timeout``: a server forgets a client that has not finished its handshake by then.
    ``stream_window``, ``connection_window``: bytes accepted and not yet read by the application. 4 and 16 MiB
    keep a path of 40 MB/s and 100 ms busy.
    ``max_streams``: streams of each kind that the peer may have open; the number of the original is 100.
    ``datagram_queue``: unsent datagrams kept; the oldest is dropped for a new one.
    ``initial_rtt``: assumed before the first sample; a handshake packet is repeated after twice this.
    ``max_handshakes``: server sessions that may be in their handshake at once, about 50 kB each.
    ``secrets_log_file``: TLS secrets in NSS key log format. ``quic_logger``: an aioquic qlog sink; logging
    costs most of the speed.
    """

    alpns: tuple[str, ...] = ()
    idle_timeout: float = 90.0
    keep_alive: float = 5.0
    handshake_timeout: float = 15.0
    stream_window: int = 4 << 20
    connection_window: int = 16 << 20
    max_streams: int = 128
    datagram_queue: int = 256
    initial_rtt: float = 0.1
    mtu: int = MIN_MTU
    max_handshakes: int = 256
    secrets_log_file: TextIO | None = None
    quic_logger: QuicLogger | None = None
