"""Node records in the DNS (PROTOCOL 9.2, 9.3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import dns.exception
import dns.message
import dns.rcode
import dns.resolver

from iroh_py.addr import canonical_ip
from iroh_py.discovery.base import DiscoveryCounters, DiscoveryService, Found, Site
from iroh_py.discovery.dns_client import look_up_txt
from iroh_py.errors import DiscoveryError, LocalProtocolError, TicketError
from iroh_py.io.system import SystemNetwork
from iroh_py.keys import NodeId
from iroh_py.network import Addr, Network
from iroh_py.proto.node_info import NodeInfo, dns_name

#: The zones of number 0, for production and for tests.
N0_ORIGIN = "dns.iroh.link"
N0_ORIGIN_STAGING = "staging-dns.iroh.link"
PROVENANCE = "dns"

DNS_PORT = 53
_RESOLV_CONF = "/etc/resolv.conf"


class DnsDiscovery:
    """Looks nodes up as TXT records at ``_iroh.<z-base-32 node id>.<origin>``; it publishes nothing.

    ``nameservers``: addresses, each with or without a port; by default those that the endpoint's network
    tells (a lab host does), on the system's network those of ``/etc/resolv.conf``. Either is read anew for
    each question, since a network change may change them. Raises LocalProtocolError for a name server that
    is no IP address.
    """

    def __init__(
        self,
        origin: str = N0_ORIGIN,
        *,
        nameservers: Sequence[str | Addr] = (),
        resolv_conf: str = _RESOLV_CONF,
    ) -> None:
        self.origin = origin
        self.nameservers = tuple(_server(server) for server in nameservers)
        self.resolv_conf = resolv_conf

    async def start(self, site: Site) -> DnsService:
        """Begin to work for an endpoint.

        Raises LocalProtocolError for a network other than the system's if no name server was given, and it
        tells none: the system's file belongs to the system's network.
        """
        default = self.resolv_conf == _RESOLV_CONF
        if default and not self.servers(site.network) and not isinstance(site.network, SystemNetwork):
            raise LocalProtocolError(
                f"DnsDiscovery needs nameservers=[...] on {site.network.name}: {_RESOLV_CONF} "
                "tells only those of the system's own network"
            )
        return DnsService(self, site)

    def servers(self, network: Network) -> tuple[Addr, ...]:
        """The name servers that were given, or that the network tells; empty where only a file can tell."""
        if self.nameservers or self.resolv_conf != _RESOLV_CONF:
            return self.nameservers
        return tuple(_server(server) for server in getattr(network, "nameservers", ()))


class DnsService(DiscoveryService):
    """DNS questions for one endpoint."""

    provenance = PROVENANCE

    def __init__(self, options: DnsDiscovery, site: Site) -> None:
        self.counters = DiscoveryCounters()
        self._options = options
        self._site = site

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        """Yield what the TXT records of a node say; nothing if it has none."""
        self.counters.asked += 1
        name = dns_name(node_id, self._options.origin)
        options = self._options
        servers = options.servers(self._site.network) or read_nameservers(options.resolv_conf)
        try:
            answer = await look_up_txt(
                self._site.network, name, servers, rng=self._site.rng, counters=self.counters
            )
        except (OSError, DiscoveryError):
            self.counters.failed += 1
            raise
        if not has_answer(answer):
            return
        try:
            info = NodeInfo.from_dns_packet(node_id, answer)
        except DiscoveryError:
            self.counters.malformed += 1
            raise
        self.counters.found += 1
        yield Found(info, self.provenance)


def has_answer(answer: bytes) -> bool:
    """Whether a well-formed DNS message contains any record that answers."""
    return bool(dns.message.from_wire(answer).answer)


def read_nameservers(path: str) -> tuple[Addr, ...]:
    """The name servers of a file such as /etc/resolv.conf. Raises OSError if it is missing or has none."""
    try:
        resolver = dns.resolver.Resolver(path)
    except dns.exception.DNSException as error:
        raise OSError(f"{path} has no name server") from error
    found = [(str(server), resolver.port) for server in resolver.nameservers]
    servers = tuple(_server(addr) for addr in found if "%" not in addr[0])
    if not servers:
        raise OSError(f"{path} has no name server")
    return servers


def _server(server: str | Addr) -> Addr:
    ip, port = (server, DNS_PORT) if isinstance(server, str) else server
    try:
        return canonical_ip(ip), port
    except TicketError as error:
        raise LocalProtocolError(f"{ip!r} is no IP address of a name server") from error
