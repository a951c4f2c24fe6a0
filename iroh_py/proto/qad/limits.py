"""What an address discovery server may cost, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QadLimits:
    """Bounds of one server. Times in seconds."""

    #: Clients at once, about 85 kB each (measured). 1.x keeps one connection per family for as long as it runs.
    connections: int = 2048
    #: Of those, clients that have not finished their handshake.
    handshakes: int = 256
    #: With this many unfinished handshakes a client has to prove its address first (Retry, RFC 9000 8.1.2):
    #: forged sources then cost an HMAC each, and no state.
    retry_above: int = 64
    #: Handshakes per second, and at once: each costs a signature and about 4 ms of the relay's only core.
    handshake_rate: float = 50.0
    handshake_burst: int = 200
    #: How long a client may take for its handshake.
    handshake_timeout: float = 5.0
    #: Silence after which a client is forgotten. 1.x sends a PING after 25 s; this survives one that is lost.
    idle_timeout: float = 60.0


@dataclass(slots=True)
class QadCounters:
    """Running totals of one server."""

    accepted: int = 0
    finished: int = 0
    refused: int = 0
    retries: int = 0
    reports: int = 0
    bad_packets: int = 0
