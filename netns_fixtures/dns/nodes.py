"""What the name server says of the lab's own nodes, as they are at the moment of the question."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.reversename

from netns_fixtures.dns.rdata import parse_name
from netns_fixtures.dns.records import Sets
from netns_fixtures.dns.settings import DEFAULT_TTL
from netns_fixtures.errors import TopologyError

#: Names of nodes that were read already: those of some labs at once.
_MAX_CACHED = 4096
_ARPA = (dns.reversename.ipv4_reverse_domain, dns.reversename.ipv6_reverse_domain)


@dataclass(frozen=True, slots=True)
class NamedNode:
    """A node: its name, the addresses that the name stands for, and all that it has."""

    name: str
    main: tuple[str, ...]
    addresses: tuple[str, ...]


class NodeNames:
    """Answers for ``<node>.lab`` (a node with a dot in its name: just that), and for the addresses of nodes.

    ``look`` tells the nodes by name.
    """

    def __init__(self, look: Callable[[], Mapping[str, NamedNode]]) -> None:
        self._look = look

    def at(self, name: dns.name.Name) -> Sets:
        """The records of a canonical name; empty where no node has it."""
        if any(name.is_subdomain(arpa) for arpa in _ARPA):
            return self._pointer(name)
        for node in self._look().values():
            if _domain_name(node.name) == name:
                return dict(_by_family(node.main))
        return {}

    def owner(self, ip: str) -> str:
        """The node that has this address; "" where none has."""
        return next((node.name for node in self._look().values() if ip in node.addresses), "")

    def _pointer(self, name: dns.name.Name) -> Sets:
        try:
            ip = str(ipaddress.ip_address(dns.reversename.to_address(name)))
        except (dns.exception.DNSException, ValueError):
            return {}  # an incomplete address, or none at all
        owner = _domain_name(self.owner(ip))
        return {} if owner is None else _sets(dns.rdatatype.PTR, [owner.to_text()])


@functools.lru_cache(_MAX_CACHED)
def _domain_name(node: str) -> dns.name.Name | None:
    """Where a node is found; None for a name that the DNS has no room for (a lab is freer)."""
    try:
        return parse_name(node) if node else None
    except TopologyError:
        return None


def _by_family(addresses: tuple[str, ...]) -> Iterator[tuple[dns.rdatatype.RdataType, dns.rdataset.Rdataset]]:
    for kind, is_six in ((dns.rdatatype.A, False), (dns.rdatatype.AAAA, True)):
        those = [ip for ip in addresses if (":" in ip) == is_six]
        if those:
            yield from _sets(kind, those).items()


def _sets(kind: dns.rdatatype.RdataType, texts: list[str]) -> Sets:
    return {kind: dns.rdataset.from_text_list(dns.rdataclass.IN, kind, DEFAULT_TTL, texts)}
