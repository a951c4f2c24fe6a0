"""Relay servers for tests: in lab hosts or on loopback, stopped and started while endpoints use them.

A relay runs in an event loop of its own, in a thread: what the test's loop does (or what a plain test, which
has none, blocks on) never holds a relay up, and ending a relay needs nobody's cooperation.
"""

from __future__ import annotations

import dataclasses
import socket
import ssl as ssl_module
from typing import Any, Protocol

from iroh_py import ClosedError, EndpointConfig, RelayUrl
from iroh_py.network import Addr
from iroh_py.proto.qad import QadIdentity
from iroh_py.relay import (
    DEV_PORT,
    QUIC_PORT,
    STUN_PORT,
    RelayConfig,
    RelayServer,
    RelayStats,
    any_address,
)
from iroh_py.relay_map import RelayNode
from pytest_iroh.ca import CertificateAuthority, server_context
from pytest_iroh.official.relay_names import BUILT_IN_RELAYS
from pytest_iroh.servers import Servers, tell
from pytest_iroh.sync import Portal

#: Where a relay with TLS listens: above 1024, which tests without root may bind.
TLS_PORT = 3443
#: Where clients of a relay with TLS check for a captive portal (PROTOCOL.md 7.10); any program in a lab may bind it.
CAPTIVE_PORT = 80
#: Seconds to stop a relay: the server gives its clients one.
STOP_TIMEOUT = 10.0


class RelayHost(Protocol):
    """What is needed of the host that a relay runs in; a lab's ``Host`` has it."""

    @property
    def name(self) -> str: ...

    @property
    def ip(self) -> str: ...

    @property
    def ip6(self) -> str | None: ...

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket: ...


class _Loopback:
    """This machine, as a host of relays."""

    name = "localhost"
    ip = "127.0.0.1"
    ip6 = None

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        return socket.socket(family, type, proto)


class RunningRelay:
    """A relay of a test; made by the fixture ``relay``. It keeps its URL and ports when it is started again."""

    def __init__(
        self,
        portal: Portal,
        host: RelayHost,
        config: RelayConfig,
        ssl: ssl_module.SSLContext | None,
        authority: CertificateAuthority | None,
    ) -> None:
        self.host = host
        #: Who signed its certificates; None when it has none.
        self.authority = authority
        #: What clients verify the relay with; None without TLS.
        self.ssl_context = ssl
        self._portal = portal
        self._config = config
        self._server: RelayServer | None = None
        self._stun_addr: Addr | None = None
        self._quic_port: int | None = None

    def __repr__(self) -> str:
        return f"<RunningRelay {self.url} {'running' if self.running else 'stopped'}>"

    @property
    def url(self) -> RelayUrl:
        """What endpoints and official nodes dial; it is a ``str``."""
        assert self._config.public_url is not None, "set by start()"
        return self._config.public_url

    @property
    def stun_addr(self) -> Addr | None:
        """Where STUN answers, by the address of the URL's host; None without STUN."""
        return self._stun_addr

    @property
    def quic_port(self) -> int | None:
        """The UDP port of QUIC address discovery, which iroh 1.x needs; None without it."""
        return self._quic_port

    @property
    def token(self) -> str | None:
        """The bearer token that clients need."""
        return self._config.token

    @property
    def node(self) -> RelayNode:
        """The relay as an endpoint's configuration names it."""
        return RelayNode(self.url, stun_port=None if self._stun_addr is None else self._stun_addr[1])

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def config(self, **options: Any) -> EndpointConfig:
        """The configuration of an endpoint that uses this relay; ``options`` are those of EndpointConfig.

        Port prediction is on, as for all endpoints of a lab that say nothing else.
        For several relays give ``relays=(one.node, other.node)``: those of a test share their authority.
        """
        chosen: dict[str, Any] = {
            "relays": (self.node,),
            "relay_ssl": self.ssl_context,
            "relay_token": self.token,
            "port_prediction": True,
        }
        return EndpointConfig(**{**chosen, **options})

    def start(self) -> None:
        """Listen, again at the same ports. Raises BindError. Does nothing while it runs."""
        if self._server is not None:
            return
        server = RelayServer(self._config, open_socket=self.host.socket)
        self._portal.run(server.start())
        self._server = server
        self._keep_ports(server)
        self._tell("relay_started", f"relay {self.url} listens")

    def stop(self, *, graceful: bool = True) -> None:
        """Stop listening and end all connections; does nothing when it is stopped.

        Not graceful: as if the process had died, without a goodbye and without sending what is queued.
        """
        server, self._server = self._server, None
        if server is None:
            return
        self._portal.run(server.close(graceful=graceful), STOP_TIMEOUT)
        self._tell("relay_stopped", f"relay {self.url} {'stopped' if graceful else 'was killed'}")

    def kill(self) -> None:
        """``stop(graceful=False)``."""
        self.stop(graceful=False)

    def restart(self, *, graceful: bool = False) -> None:
        """Stop it, and start it at the same URL and ports."""
        self.stop(graceful=graceful)
        self.start()

    def stats(self) -> RelayStats:
        """Nodes, connections and counters now. Raises ClosedError when it is stopped."""
        server = self._server
        if server is None:
            raise ClosedError(f"relay {self.url} is stopped")

        async def ask() -> RelayStats:
            return server.stats()

        return self._portal.run(ask())

    def _keep_ports(self, server: RelayServer) -> None:
        """From now on the ports are those that the system chose, if it was asked to."""
        config, stun, quic = self._config, server.stun_addr, server.quic_addr
        self._quic_port = None if quic is None else quic[1]
        if stun is not None:
            self._stun_addr = (self.host.ip or self.host.ip6 or stun[0], stun[1])
        self._config = dataclasses.replace(
            config,
            public_url=server.url,
            bind=tuple((ip, port or server.url.port) for ip, port in config.bind),
            stun_bind=() if stun is None else tuple((ip, port or stun[1]) for ip, port in config.stun_bind),
            quic_bind=() if quic is None else tuple((ip, port or quic[1]) for ip, port in config.quic_bind),
        )

    def _tell(self, kind: str, text: str) -> None:
        tell(self.host, kind, text, str(self.url))


class Relays(Servers[RunningRelay]):
    """Starts relays for one test; ``close`` stops them, newest first."""

    plural = "relays"

    def __init__(self, name: str = "lab") -> None:
        super().__init__(name)

    def __call__(
        self,
        host: RelayHost | None = None,
        *,
        tls: bool = False,
        token: str | None = None,
        port: int | None = None,
        stun_port: int | None = STUN_PORT,
        quic_port: int | None = QUIC_PORT,
        by_name: bool = False,
        captive: bool = False,
        **options: Any,
    ) -> RunningRelay:
        """Start a relay in a host (None: on loopback, at free ports) and return it.

        ``port``: by default 3340, with TLS 3443. ``stun_port`` None: no STUN. ``quic_port`` None: no
        QUIC address discovery, without which iroh 1.x does not learn its public address. ``by_name``: the URL contains
        the host's name instead of its address, so that both families are dialled; official nodes resolve it if
        there is a dot in it (they know no search domain). ``captive``: beside TLS, port 80 answers the clients'
        checks for captive portals, as stock relays do. ``token``: every client needs it. Further ``options`` are
        those of RelayConfig. Raises
        BindError.
        """
        where = _Loopback() if host is None else host
        name = where.name if by_name else where.ip or where.ip6 or where.name
        authority = self.authority if tls or quic_port is not None else None
        certificate = None if authority is None else authority.issue_pem(_names(where))
        ssl = server_context(*certificate) if tls and certificate is not None else None
        if host is None:
            chosen: dict[str, Any] = {
                "bind": ((where.ip, port or 0),),
                "stun_bind": () if stun_port is None else ((where.ip, 0),),
                "quic_bind": () if quic_port is None else ((where.ip, 0),),
            }
        else:
            port = port or (TLS_PORT if tls else DEV_PORT)
            url_host = f"[{name}]" if ":" in name else name
            chosen = {
                "bind": any_address(port),
                "stun_bind": () if stun_port is None else any_address(stun_port),
                "quic_bind": () if quic_port is None else any_address(quic_port),
                "public_url": RelayUrl.parse(f"{'https' if tls else 'http'}://{url_host}:{port}"),
            }
        chosen["quic_identity"] = None if certificate is None else QadIdentity.from_pem(*certificate)
        if captive:
            chosen["captive_bind"] = any_address(CAPTIVE_PORT)
        config = RelayConfig(**{**chosen, "ssl": ssl, "token": token, **options})
        trust = self.authority.client_context() if config.ssl is not None else None
        relay = RunningRelay(self.portal, where, config, trust, authority)
        relay.start()
        self._made.append(relay)
        return relay

    def _end(self, server: RunningRelay) -> None:
        server.kill()  # nobody waits for goodbyes at the end of a test


def _names(host: RelayHost) -> list[str]:
    own = [name for name in (host.name, host.ip, host.ip6) if name]
    return list(dict.fromkeys([*own, *BUILT_IN_RELAYS]))
