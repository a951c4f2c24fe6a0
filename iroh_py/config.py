"""Options of an endpoint; every default stands beside its reason."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal, TextIO

from aioquic.quic.logger import QuicLogger

from iroh_py.addr import RelayUrl
from iroh_py.errors import LocalProtocolError
from iroh_py.relay_map import RelayNode, relay_map

#: The promise of the mission, in seconds: pings go out, and connections heal, within this time at the latest.
PING_INTERVAL = 5.0

#: What a dialling endpoint presents: raw public keys (iroh 0.34 and later) or X.509 (iroh 0.28).
TlsAuth = Literal["raw-public-key", "x509"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """How an endpoint behaves. All times in seconds, all sizes in bytes."""

    #: Upper bound between two pings of an idle peer. 4.5 s and not 5: a silent break is healed *within* the
    #: ping interval, so the ping must leave before it ends.
    heartbeat_interval: float = 4.5
    #: How long a connection survives without a single packet. Long enough for two minutes of suspend and for the
    #: recovery after it; QUIC uses the smaller value of both sides (quinn's default is 30 s).
    idle_timeout: float = 150.0
    #: How long connect() tries before it raises ConnectTimeoutError.
    connect_timeout: float = 10.0
    #: What we present when we dial; a listening endpoint accepts both.
    tls_auth: TlsAuth = "raw-public-key"
    #: Relay servers to choose a home relay from; empty: no relay, and no netcheck.
    #: A RelayNode says more than a URL: another STUN port, or none.
    relays: tuple[RelayNode | RelayUrl, ...] = ()
    #: TLS context for relays: None means the system's certificate authorities.
    relay_ssl: ssl.SSLContext | None = None
    #: Bearer token sent to relays that want one.
    relay_token: str | None = None
    #: Whether to ask the router for a public port (PCP, NAT-PMP, UPnP), if there are relays.
    portmap: bool = True
    #: Largest UDP payload tried by path MTU probes. 1452 fits Ethernet's 1500 with an IPv6 and a UDP header.
    max_mtu: int = 1452
    #: Bytes of a stream, and of a connection, accepted before the application has read them.
    stream_window: int = 4 * 1024 * 1024
    connection_window: int = 16 * 1024 * 1024
    #: Unsent and unacknowledged bytes of a stream at which write() waits. More than this costs the engine copies.
    send_buffer: int = 2 * 1024 * 1024
    #: Datagrams kept for an application that does not read them; the oldest go first.
    datagram_queue: int = 1024
    #: Whether to get through a peer's (or our own) endpoint-dependent NAT by the birthday method: up to 256 sockets for
    #: some seconds here, up to 2048 pings to random ports there. Off: a firewall may take that for a port scan.
    port_prediction: bool = False
    #: Addresses this endpoint claims beside those it finds (a static port forwarding, for example).
    extra_addresses: tuple[tuple[str, int], ...] = ()
    #: Where TLS secrets of connections are written (NSS key log format), with which Wireshark decrypts them.
    key_log: TextIO | None = None
    #: An aioquic qlog sink. Its packets take a slower way; traces with ``wanted(now)`` can stand back in a flood.
    qlog: QuicLogger | None = None
    #: Discoveries (iroh_py.discovery) that are asked where peers are, and told where we are.
    discovery: tuple[object, ...] = field(default=())
    #: At most 245 bytes of the application's own that discovery publishes beside our addresses.
    user_data: str | None = None

    def __post_init__(self) -> None:
        for name in ("heartbeat_interval", "idle_timeout", "connect_timeout"):
            if not getattr(self, name) > 0:
                raise LocalProtocolError(
                    f"{name} must be a positive number of seconds, not {getattr(self, name)}"
                )
        if self.heartbeat_interval > PING_INTERVAL:
            raise LocalProtocolError(
                f"heartbeat_interval is {self.heartbeat_interval} s; above {PING_INTERVAL} s the promise to heal "
                f"within the ping interval cannot hold"
            )
        if not 1200 <= self.max_mtu <= 65000:
            raise LocalProtocolError(
                f"max_mtu must be 1200..65000 bytes (RFC 9000 section 14), not {self.max_mtu}"
            )
        relay_map(self.relays)  # raises for what is no relay, before anything is opened
        if self.tls_auth not in ("raw-public-key", "x509"):
            raise LocalProtocolError(f"tls_auth is 'raw-public-key' or 'x509', not {self.tls_auth!r}")
