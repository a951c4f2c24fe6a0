"""Options of a relay server; every default stands beside its reason."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from iroh_py.errors import LocalProtocolError
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.qad import QadIdentity, QadLimits
from iroh_py.proto.relay.frames import MAX_FRAME_LENGTH
from iroh_py.relay_url import RelayUrl

HTTP_PORT = 80
HTTPS_PORT = 443
#: What the original's ``--dev`` listens on.
DEV_PORT = 3340
STUN_PORT = 3478
#: QUIC address discovery (PROTOCOL.md 7.11).
QUIC_PORT = 7842

#: Decides who may use the relay: gets the node id and the bearer token (None when there is none).
AccessPolicy = Callable[[NodeId, str | None], bool | Awaitable[bool]]


def any_address(port: int) -> tuple[Addr, ...]:
    """All addresses of both families. A machine without IPv6 listens on IPv4 only."""
    return (("0.0.0.0", port), ("::", port))


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """What one stranger, and all strangers together, may cost. Times in seconds, sizes in bytes."""

    #: Open TCP connections, logged in or not. Each costs some kilobytes and a file descriptor.
    connections: int = 20_000
    #: New connections per second and how many at once; None: no limit (as the original's default).
    accept_rate: float | None = None
    accept_burst: int = 100
    #: From accept to the end of the HTTP request, and again from there to the end of the login (7.3).
    handshake_timeout: float = 10.0
    #: Size of an HTTP request without a body; real clients need 300 bytes, a long token some kilobytes.
    request_head: int = 16 * 1024
    #: Packets waiting for a client that reads slowly (7.4); more are dropped, never delayed for others.
    queue_packets: int = 512
    #: The same in bytes: 512 packets of 64 KiB would be 32 MiB per client.
    queue_bytes: int = 2 * 1024 * 1024
    #: A client whose TCP takes not a single byte for this long is closed (7.4).
    write_timeout: float = 2.0
    #: Bytes per second that one client may send, and its burst; None: no limit. Above it reading stalls
    #: (7.4).
    client_rate: float | None = None
    client_burst: int = MAX_FRAME_LENGTH
    #: Parked connections of one 1.x endpoint id (11.5); a node that is restarted often leaves a few behind.
    parked: int = 4
    #: Nodes that are told when a node is gone; a node that talked to more of them forgets the oldest.
    gone_notices: int = 512

    def __post_init__(self) -> None:
        if self.client_rate is not None and not self.client_rate > 0:
            raise LocalProtocolError(f"client_rate must be positive, not {self.client_rate}")
        if self.accept_rate is not None and not self.accept_rate > 0:
            raise LocalProtocolError(f"accept_rate must be a positive number, not {self.accept_rate}")
        if self.queue_bytes < MAX_FRAME_LENGTH:
            raise LocalProtocolError(f"queue_bytes must hold one frame of {MAX_FRAME_LENGTH} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Where a relay server listens and whom it serves."""

    #: Addresses of the HTTP(S) listener. Port 0 lets the system choose, the same one for all of them. Empty:
    #: connections come through ``RelayServer.accept`` only.
    bind: tuple[Addr, ...] = any_address(HTTP_PORT)
    #: Addresses of the STUN service; empty: none.
    stun_bind: tuple[Addr, ...] = any_address(STUN_PORT)
    #: Addresses of QUIC address discovery, which iroh 1.x needs to learn its public address; empty: none. It
    #: needs a certificate, also where HTTP is plain.
    quic_bind: tuple[Addr, ...] = ()
    #: Its certificate; None: the one in ``certificate`` and ``private_key``.
    quic_identity: QadIdentity | None = None
    #: With TLS: addresses of a plain HTTP listener that serves /generate_204 only (7.10); empty: none.
    captive_bind: tuple[Addr, ...] = ()
    #: Where /metrics is served; None: on the main listener.
    metrics_bind: tuple[Addr, ...] | None = None
    #: TLS: a ready context, or certificate chain and key files; neither means plain HTTP.
    ssl: ssl_module.SSLContext | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    #: What clients dial, if that is not the first bind address (a name in DNS, a port forwarding, no bind at
    #: all).
    public_url: RelayUrl | None = None
    #: A shared bearer token that every client needs; None: none needed.
    token: str | None = None
    #: Asked after the token, if given.
    access: AccessPolicy | None = None
    limits: RelayLimits = field(default_factory=RelayLimits)
    quic_limits: QadLimits = field(default_factory=QadLimits)

    def __post_init__(self) -> None:
        if not self.bind and self.public_url is None:
            raise LocalProtocolError("a relay needs an address to listen on, or a public_url and accept()")
        if (self.certificate is None) != (self.private_key is None):
            raise LocalProtocolError("certificate and private_key belong together")
        if self.quic_bind and self.quic_identity is None and self.certificate is None:
            raise LocalProtocolError(
                "QUIC address discovery needs certificate and private_key, or quic_identity"
            )

    @classmethod
    def dev(cls, *, port: int = DEV_PORT, stun_port: int = STUN_PORT) -> RelayConfig:
        """The original's ``--dev``: plain HTTP on 3340, STUN on 3478, everybody welcome."""
        return cls(bind=any_address(port), stun_bind=any_address(stun_port))

    def ssl_context(self) -> ssl_module.SSLContext | None:
        """The TLS context, None for plain HTTP. Raises OSError and ssl.SSLError for bad files."""
        if self.ssl is not None or self.certificate is None:
            return self.ssl
        context = ssl_module.create_default_context(ssl_module.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.private_key)
        return context

    def identity(self) -> QadIdentity | None:
        """The certificate of QUIC address discovery, None without one.

        Raises OSError for files that cannot be read, LocalProtocolError for bad ones.
        """
        if self.quic_identity is not None or self.certificate is None or self.private_key is None:
            return self.quic_identity
        return QadIdentity.from_pem(self.certificate.read_bytes(), self.private_key.read_bytes())
