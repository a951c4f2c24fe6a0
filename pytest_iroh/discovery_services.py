"""Discovery services for tests: a pkarr relay and the DNS zone of what is published there, in a lab host.

As the relays of tests, each runs in an event loop of its own, in a thread.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from typing import Any, Literal
from urllib.parse import urlsplit

from iroh_py import EndpointConfig
from iroh_py.discovery import DiscoveryServer, DnsDiscovery, PkarrDiscovery
from iroh_py.discovery.store import PacketStore
from iroh_py.keys import NodeId
from iroh_py.network import Addr
from iroh_py.proto.node_info import NodeInfo
from iroh_py.proto.pkarr import SignedPacket
from pytest_iroh.relays import STOP_TIMEOUT, RelayHost
from pytest_iroh.servers import Servers, tell
from pytest_iroh.sync import Portal

#: The zone, as in iroh-dns-server's development configuration, and the name of the pkarr relay in the lab.
ORIGIN = "irohdns.example"
NAME = "pkarr.example"
#: Above 1024, which tests without root may bind; the name server is where resolvers look for it.
HTTP_PORT, TLS_PORT, DNS_PORT = 8080, 8443, 53

#: How endpoints look others up: as number 0's do (TXT records), by HTTP, or both at once.
Way = Literal["dns", "pkarr", "both"]


class WatchedStore(PacketStore):
    """The packets of a service, for those who wait for one. Of the portal's loop alone."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def put(self, packet: SignedPacket) -> bool:
        kept = super().put(packet)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        return kept

    def find(self, node_id: NodeId) -> NodeInfo | None:
        """What the newest packet of a node says."""
        packet = self.get(node_id)
        return None if packet is None else NodeInfo.from_dns_packet(node_id, packet.dns_packet)


class RunningDiscovery:
    """A discovery service of a test; made by the fixture ``discovery_service``."""

    def __init__(
        self,
        portal: Portal,
        server: DiscoveryServer,
        store: WatchedStore,
        host: RelayHost | None,
        name: str,
        ssl: ssl_module.SSLContext | None,
    ) -> None:
        self.host = host
        #: What clients verify the pkarr relay with; None without TLS.
        self.ssl_context = ssl
        self.origin = server.origin
        self._portal = portal
        self._server = server
        self._store = store
        self._name = name
        self._running = False
        self._url = ""

    def __repr__(self) -> str:
        return f"<RunningDiscovery {self._url} {'running' if self._running else 'stopped'}>"

    @property
    def pkarr_url(self) -> str:
        """The base URL of the pkarr relay; in a lab by its name, which the lab's name server knows."""
        return self._url

    @property
    def dns_addr(self) -> Addr:
        """The name server of the zone itself. In a lab, ``lab.dns`` passes questions on to it."""
        return self._server.dns_addr

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._running

    def discovery(self, by: Way = "dns") -> tuple[PkarrDiscovery | DnsDiscovery, ...]:
        """For ``EndpointConfig.discovery``: publish by pkarr, look others up by DNS, by pkarr, or by both."""
        pkarr = PkarrDiscovery(self._url, resolve=by != "dns", ssl=self.ssl_context)
        if by == "pkarr":
            return (pkarr,)
        servers = [self.dns_addr] if self.host is None else []
        return (pkarr, DnsDiscovery(self.origin, nameservers=servers))

    def config(self, *, by: Way = "dns", **options: Any) -> EndpointConfig:
        """The configuration of an endpoint that uses it; ``options`` are those of EndpointConfig.

        With a relay, too: ``relay.config(discovery=service.discovery())``.
        Port prediction is on, as for all endpoints of a lab that say nothing else.
        """
        return EndpointConfig(**{"port_prediction": True, "discovery": self.discovery(by), **options})

    def find(self, node_id: NodeId) -> NodeInfo | None:
        """What a node published last; None where nothing is known."""

        async def look() -> NodeInfo | None:
            return self._store.find(node_id)

        return self._portal.run(look())

    def wait_published(self, node_id: NodeId, ip: str | None = None, *, within: float = 10.0) -> NodeInfo:
        """Wait until a node has published (an address with this IP); what it published.

        Blocks: in async tests, ``await asyncio.to_thread(service.wait_published, ...)``. Raises TimeoutError.
        """

        def is_there(info: NodeInfo | None) -> bool:
            return info is not None and (ip is None or ip in {each for each, _port in info.direct_addresses})

        async def wait() -> NodeInfo:
            async with asyncio.timeout(within):
                while not is_there(info := self._store.find(node_id)):
                    await self._store.changed.wait()
            assert info is not None
            return info

        try:
            return self._portal.run(wait())
        except TimeoutError:
            known = self.find(node_id)
            raise TimeoutError(
                f"{node_id.fmt_short()} did not publish {ip or 'anything'} within {within:g} s; known is {known}"
            ) from None

    def start(self) -> None:
        """Listen, again at the same ports, with what was published before. Raises BindError."""
        if self._running:
            return
        self._portal.run(self._server.start())
        self._running = True
        self._url = self._named(self._server.pkarr_url)
        self._tell("discovery_started", f"discovery at {self._url} listens")

    def stop(self) -> None:
        """Stop listening and cut the connections; does nothing when it is stopped."""
        if self._running:
            self._running = False
            self._portal.run(self._server.close(), STOP_TIMEOUT)
            self._tell("discovery_stopped", f"discovery at {self._url} stopped")

    def restart(self) -> None:
        """Stop it, and start it at the same ports."""
        self.stop()
        self.start()

    def _named(self, url: str) -> str:
        """The server's URL, with our name for its host if there is one."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"{self._name}:{parts.port}").geturl() if self._name else url

    def _tell(self, kind: str, text: str) -> None:
        tell(self.host, kind, text, self._url)


class DiscoveryServices(Servers[RunningDiscovery]):
    """A factory of discovery services for one test; what it made is stopped newest first."""

    plural = "discovery services"

    def __call__(
        self,
        host: RelayHost | None = None,
        *,
        origin: str = ORIGIN,
        name: str = NAME,
        tls: bool = False,
        http_port: int | None = None,
        dns_port: int | None = None,
    ) -> RunningDiscovery:
        """Start a discovery service in a lab host (None: on loopback, at free ports) and return it.

        In a lab, ``name`` leads to the pkarr relay, and questions below ``origin`` to its name server; several
        services in one lab need names and origins of their own. Raises BindError.
        """
        lab = getattr(host, "lab", None)
        if host is None:
            ports = (http_port or 0, dns_port or 0)
        else:
            ports = (http_port or (TLS_PORT if tls else HTTP_PORT), dns_port or DNS_PORT)
        shown = name if lab is not None else ""
        names = [each for each in (shown, *_names(host)) if each]
        store = WatchedStore()
        server = DiscoveryServer(
            host,
            store=store,
            http_port=ports[0],
            dns_port=ports[1],
            origins=(origin,),
            ssl=self.authority.server_context(names) if tls else None,
        )
        trust = self.authority.client_context() if tls else None
        service = RunningDiscovery(self.portal, server, store, host, shown, trust)
        self._made.append(service)
        service.start()
        if lab is not None and host is not None:
            lab.dns.set(name, "CNAME", host.name)
            lab.dns.delegate(origin, host, service.dns_addr[1])
        return service

    def _end(self, server: RunningDiscovery) -> None:
        server.stop()


def _names(host: RelayHost | None) -> tuple[str, ...]:
    if host is None:
        return ("localhost", "127.0.0.1")
    return tuple(each for each in (host.name, host.ip, host.ip6) if each)
