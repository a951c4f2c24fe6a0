"""All that a lab's name server knows, put together: records, nodes, failures, delegations, translations."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dns.name

from netns_fixtures.addressing import NAME_SERVER_V4, NAME_SERVER_V6
from netns_fixtures.dns.answering import Responder
from netns_fixtures.dns.dns64 import Dns64
from netns_fixtures.dns.faults import Faults
from netns_fixtures.dns.log import DnsQuery, QueryLog
from netns_fixtures.dns.nodes import NamedNode, NodeNames
from netns_fixtures.dns.records import Records
from netns_fixtures.dns.settings import OWN_NAME
from netns_fixtures.dns.zone import Zone
from netns_fixtures.errors import TopologyError

if TYPE_CHECKING:
    from netns_fixtures.host import Host
    from netns_fixtures.lab import Lab
    from netns_fixtures.router import Router

#: Zones of one lab that others answer for.
MAX_DELEGATIONS = 1000


class Service:
    """What the server's thread and the lab's handle share."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.records = Records()
        self.faults = Faults()
        self.delegations = Delegated()
        self.log = QueryLog()
        self._names = NodeNames(lambda: dict(self._nodes()))
        #: What was said of networks, by the name of their router; of the others their NAT64 decides.
        self._dns64: dict[str, Dns64 | None] = {}
        self.responder = Responder(
            Zone(self.records, self._names), self.faults, self.delegations, self._translation, self._report
        )

    def set_dns64(self, router: Router, dns64: Dns64 | None) -> None:
        """Translate for a network, or end that. Raises TopologyError for a router of another lab."""
        if self._lab.routers.get(router.name) is not router:
            raise TopologyError(f"{router!r} is no router of this lab")
        self._dns64 = {**self._dns64, router.name: dns64}

    def _nodes(self) -> Iterator[tuple[str, NamedNode]]:
        own = (NAME_SERVER_V4, NAME_SERVER_V6)
        yield OWN_NAME, NamedNode(OWN_NAME, own, own)
        nodes: list[Router | Host] = [*self._lab.routers.copy().values(), *self._lab.hosts.copy().values()]
        for node in nodes:
            main = tuple(ip for ip in (node.ip, node.ip6) if ip)
            every = (address for interface in node.interfaces.values() for address in interface.addresses)
            yield node.name, NamedNode(node.name, main, tuple(address.partition("/")[0] for address in every))
        for balancer in self._lab.balancers.copy().values():
            main = tuple(ip for ip in (balancer.ip, balancer.ip6) if ip)
            yield balancer.name, NamedNode(balancer.name, main, ())  # the addresses are the router's

    def _translation(self, client: str) -> Dns64 | None:
        """The translation of the network that an address is in, or (behind a NAT) that comes from it."""
        address = ipaddress.ip_address(client)
        for router in self._lab.routers.copy().values():
            inside = [lan for lan in (router.lan, router.lan6, router.outside6) if lan]
            near = client in (router.ip, router.ip6) or any(
                address in ipaddress.ip_network(lan) for lan in inside
            )
            found = self._dns64_of(router) if near else None
            if found is not None:
                return found
        return None

    def _dns64_of(self, router: Router | None) -> Dns64 | None:
        """What was said of a network, or of the nearest one that it is behind; else the prefix of the NAT64 there."""
        while router is not None:
            if router.name in self._dns64:
                return self._dns64[router.name]
            if router.nat64 is not None:
                return Dns64.parse(router.nat64.prefix)
            router = router.upstream
        return None

    def _report(
        self,
        client: str,
        name: str,
        record: str,
        tcp: bool,
        result: str,
        answers: tuple[str, ...],
        fault: str,
    ) -> None:
        query = DnsQuery(
            self.log.next_number(),
            time.monotonic(),
            client,
            self._names.owner(client),
            name,
            record,
            "tcp" if tcp else "udp",
            result,
            answers,
            fault,
        )
        self._lab.log_event(
            "dns_query", query.node, query.text, name=name, record=record, result=result, fault=fault
        )
        self.log.add(query)


class Delegated:
    """Zones that other servers of the lab answer for."""

    def __init__(self) -> None:
        self._zones: dict[dns.name.Name, tuple[Host | str, int]] = {}

    def add(self, zone: dns.name.Name, server: Host | str, port: int) -> None:
        """From now on that server answers. Raises TopologyError for too many, and for the root."""
        if zone == dns.name.root:
            raise TopologyError("the root belongs to the lab's own name server; delegate a domain")
        if zone not in self._zones and len(self._zones) >= MAX_DELEGATIONS:
            raise TopologyError(f"a lab has {MAX_DELEGATIONS} delegated zones at most")
        self._zones = {**self._zones, zone: (server, port)}

    def remove(self, zone: dns.name.Name) -> None:
        """The reverse. Raises TopologyError."""
        if zone not in self._zones:
            raise TopologyError(f"{zone} is not delegated")
        self._zones = {each: server for each, server in self._zones.items() if each != zone}

    def server_of(self, name: dns.name.Name) -> tuple[str, int] | None:
        """Address and port for a name, by the longest zone that it is in."""
        fitting = [zone for zone in self._zones if name.is_subdomain(zone)]
        if not fitting:
            return None
        server, port = self._zones[max(fitting, key=len)]
        return (server if isinstance(server, str) else server.ip or server.ip6 or ""), port
