"""Finding the answer to a question: names, wildcards, aliases, and why there is none (RFC 1034, 2308, 4592)."""

from __future__ import annotations

from dataclasses import dataclass, field

import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset

from netns_fixtures.dns.nodes import NodeNames
from netns_fixtures.dns.records import Name, RdataType, Records, Sets
from netns_fixtures.dns.settings import DEFAULT_TTL

#: Aliases of aliases that are followed, as common resolvers do; a loop ends there.
_MAX_ALIASES = 8
#: Seconds for which "there is none" may be remembered: tests set records at any time.
NEGATIVE_TTL = 1
_SOA = f". . 1 3600 600 86400 {NEGATIVE_TTL}"
#: How a network's translation prefix is found out (RFC 7050).
_WELL_KNOWN = {dns.name.from_text("ipv4only.arpa"): ["192.0.0.170", "192.0.0.171"]}


@dataclass(slots=True)
class Found:
    """What was found: records in the order of the aliases that lead there, and the code without any."""

    answer: list[dns.rrset.RRset] = field(default_factory=list)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    #: The name at the end of the aliases, as it was written.
    last: Name = dns.name.root

    def has(self, kind: RdataType) -> bool:
        """Whether a record of this type is there."""
        return any(records.rdtype == kind for records in self.answer)


class Zone:
    """All names of a lab: what tests set, what its nodes are called. It knows of no other names."""

    def __init__(self, records: Records, nodes: NodeNames) -> None:
        self._records = records
        self._nodes = nodes

    def find(self, name: Name, kind: RdataType) -> Found:
        """The answer to a question; ANY gets all."""
        found = Found(last=name)
        for _ in range(_MAX_ALIASES + 1):
            sets = self._at(found.last.canonicalize())
            if sets is None:
                found.rcode = dns.rcode.NXDOMAIN
                return found
            wanted = _wanted(sets, kind)
            alias = sets.get(dns.rdatatype.CNAME)
            if wanted or alias is None:
                found.answer += [rrset(found.last, records) for records in wanted]
                return found
            found.answer.append(rrset(found.last, alias))
            found.last = alias[0].target
        found.rcode = dns.rcode.SERVFAIL
        return found

    def _at(self, name: Name) -> Sets | None:
        """The records of a name, perhaps by a wildcard; None for a name that does not exist."""
        own = self._own(name)
        if own or self._records.is_above(name):
            return own
        while name != dns.name.root:
            name = name.parent()
            wildcard = self._records.at(dns.name.Name((b"*", *name.labels)))
            if wildcard:
                return wildcard
            if self._own(name) or self._records.is_above(name):
                return None  # the closest name that exists; wildcards above it do not count
        return None

    def _own(self, name: Name) -> Sets:
        there = self._records.at(name)
        if dns.rdatatype.CNAME in there:
            return there
        known = _WELL_KNOWN.get(name)
        if known is not None:
            kind = dns.rdatatype.A
            there = {kind: dns.rdataset.from_text_list(dns.rdataclass.IN, kind, DEFAULT_TTL, known), **there}
        return {**self._nodes.at(name), **there}


def soa() -> dns.rrset.RRset:
    """The record that goes with "there is none" and tells how long that holds (RFC 2308)."""
    return dns.rrset.from_text(dns.name.root, NEGATIVE_TTL, dns.rdataclass.IN, dns.rdatatype.SOA, _SOA)


def _wanted(sets: Sets, kind: RdataType) -> list[dns.rdataset.Rdataset]:
    if kind == dns.rdatatype.ANY:
        return list(sets.values())
    return [sets[kind]] if kind in sets else []


def rrset(name: Name, records: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    """Records (at least one) under a name."""
    return dns.rrset.from_rdata_list(name, records.ttl, list(records))
