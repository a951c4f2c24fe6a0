"""DNS64: IPv6 addresses for hosts that only have IPv4 ones, for networks with a NAT64 (RFC 6147)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import dns.exception
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.reversename
import dns.rrset

from netns_fixtures.dns.records import Name, RdataType
from netns_fixtures.dns.settings import WELL_KNOWN_PREFIX
from netns_fixtures.dns.zone import NEGATIVE_TTL, Found, Zone, rrset
from netns_fixtures.errors import TopologyError

#: An AAAA record with such an address counts as none (RFC 6147 section 5.1.4).
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
#: Never behind the well-known prefix: the translator would not know whose (RFC 6052 section 3.1).
_PRIVATE = tuple(
    map(
        ipaddress.IPv4Network,
        ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
    )
)


@dataclass(frozen=True, slots=True)
class Dns64:
    """Synthesis for the clients of one network. ``prefix`` is a /96, as NAT64s of the lab use."""

    prefix: ipaddress.IPv6Network

    @staticmethod
    def parse(prefix: str) -> Dns64:
        """Raises TopologyError for anything but an IPv6 /96."""
        try:
            network = ipaddress.IPv6Network(prefix)
        except ValueError as error:
            raise TopologyError(
                f"{prefix!r} is no prefix of a NAT64 such as {WELL_KNOWN_PREFIX}: {error}"
            ) from None
        if network.prefixlen != 96:
            raise TopologyError(f"{prefix}: the NAT64s of a lab use prefixes of 96 bits")
        return Dns64(network)

    def find(self, zone: Zone, name: Name, kind: RdataType) -> Found:
        """The answer to a question from such a network."""
        if kind == dns.rdatatype.PTR:
            return self._pointer(zone, name)
        found = zone.find(name, kind)
        if kind != dns.rdatatype.AAAA or found.rcode or _has_addresses(found):
            return found
        by_four = zone.find(name, dns.rdatatype.A)
        four = [records for records in by_four.answer if records.rdtype == dns.rdatatype.A]
        made = [made for records in four if (made := self._records(records)) is not None]
        if not made:
            return found
        aliases = [records for records in by_four.answer if records.rdtype == dns.rdatatype.CNAME]
        return Found([*aliases, *made], last=by_four.last)

    def address(self, ip: str) -> str:
        """The IPv6 address that stands for an IPv4 one."""
        return str(self.prefix[int(ipaddress.IPv4Address(ip))])

    def _records(self, four: dns.rrset.RRset) -> dns.rrset.RRset | None:
        """The same in IPv6; None where none of them can be."""
        ips = [str(record.address) for record in four]
        hidden = self.prefix == ipaddress.IPv6Network(WELL_KNOWN_PREFIX)
        kept = [ip for ip in ips if not (hidden and _is_private(ip))]
        if not kept:
            return None
        # Not longer than that there is none (RFC 6147 section 5.1.7).
        ttl = min(four.ttl, NEGATIVE_TTL)
        made = dns.rdataset.from_text_list(
            dns.rdataclass.IN, dns.rdatatype.AAAA, ttl, [self.address(ip) for ip in kept]
        )
        return rrset(four.name, made)

    def _pointer(self, zone: Zone, name: Name) -> Found:
        """The name of the IPv4 host behind an address of ours (RFC 6147 section 5.3.1)."""
        four = self._four(name)
        if four is None:
            return zone.find(name, dns.rdatatype.PTR)
        target = dns.reversename.from_address(four)
        found = zone.find(target, dns.rdatatype.PTR)
        alias = dns.rrset.from_text(
            name, NEGATIVE_TTL, dns.rdataclass.IN, dns.rdatatype.CNAME, target.to_text()
        )
        found.answer.insert(0, alias)
        return found

    def _four(self, name: Name) -> str | None:
        if not name.is_subdomain(dns.reversename.ipv6_reverse_domain):
            return None
        try:
            ip = ipaddress.IPv6Address(dns.reversename.to_address(name))
        except (dns.exception.DNSException, ValueError):
            return None
        return str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)) if ip in self.prefix else None


def _has_addresses(found: Found) -> bool:
    return any(
        ipaddress.IPv6Address(record.address) not in _MAPPED
        for records in found.answer
        if records.rdtype == dns.rdatatype.AAAA
        for record in records
    )


def _is_private(ip: str) -> bool:
    return any(ipaddress.IPv4Address(ip) in network for network in _PRIVATE)
