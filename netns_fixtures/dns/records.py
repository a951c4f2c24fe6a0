"""The records that a test set, by name and type. Pure."""

from __future__ import annotations

import dns.name
import dns.rdataset
import dns.rdatatype

from netns_fixtures.errors import TopologyError

#: Names with records in one lab: a million queries' worth of tests has some hundred.
MAX_NAMES = 10_000

Name = dns.name.Name
RdataType = dns.rdatatype.RdataType
Sets = dict[RdataType, dns.rdataset.Rdataset]


class Records:
    """Record sets by name and type. Names are canonical (lower case)."""

    def __init__(self) -> None:
        self._sets: dict[Name, Sets] = {}
        #: Names above those with records: they exist, and have none themselves (RFC 4592 section 2.2.2).
        self._above: set[Name] = set()

    def set(self, name: Name, records: dns.rdataset.Rdataset) -> None:
        """Put these in place of those of the same name and type. Raises TopologyError for a CNAME with others."""
        there = self._sets.get(name, {})
        alias = records.rdtype == dns.rdatatype.CNAME
        clash = [kind for kind in there if kind != records.rdtype and (alias or kind == dns.rdatatype.CNAME)]
        if clash:
            words = ", ".join(dns.rdatatype.to_text(kind) for kind in clash)
            raise TopologyError(
                f"{name} has {words}: a CNAME stands alone (RFC 1034 section 3.6.2); delete that first"
            )
        if name not in self._sets and len(self._sets) >= MAX_NAMES:
            raise TopologyError(f"a lab's name server has records of {MAX_NAMES} names at most")
        # A new dict and not a change of the old one: the server's thread may be reading that.
        self._replace({**self._sets, name: {**there, records.rdtype: records}})

    def delete(self, name: Name, kind: RdataType | None = None) -> None:
        """Remove those of one type, or all of the name. Raises TopologyError where there are none."""
        there = self._sets.get(name, {})
        if not there or (kind is not None and kind not in there):
            what = "records" if kind is None else f"{dns.rdatatype.to_text(kind)} records"
            raise TopologyError(f"no {what} of {name} were set")
        left = {} if kind is None else {each: records for each, records in there.items() if each != kind}
        others = {each: sets for each, sets in self._sets.items() if each != name}
        self._replace({**others, name: left} if left else others)

    def at(self, name: Name) -> Sets:
        """What was set for exactly this name."""
        return self._sets.get(name, {})

    def is_above(self, name: Name) -> bool:
        """Whether there is something below this name."""
        return name in self._above

    def _replace(self, sets: dict[Name, Sets]) -> None:
        above: set[Name] = set()
        for name in sets:
            while name != dns.name.root and name not in above:
                name = name.parent()
                above.add(name)
        self._sets, self._above = sets, above
