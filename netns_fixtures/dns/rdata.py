"""Names and records as a test writes them: "server", ("relay.example", "A", "198.18.1.10"). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype

from netns_fixtures.dns.settings import SEARCH
from netns_fixtures.errors import TopologyError

MAX_TTL = 2**31 - 1  # RFC 2181 section 8
#: Bytes of one string of a TXT record (RFC 1035 section 3.3).
_MAX_STRING = 255
#: Which word of the text is a host name, so that it may be written as short as other names.
_TARGET_WORD = {"CNAME": 0, "PTR": 0, "NS": 0, "DNAME": 0, "MX": 1, "SVCB": 1, "HTTPS": 1, "SRV": 3}
#: Types that only stand in questions or in transfers.
_NOT_STORED = {"ANY", "AXFR", "IXFR", "MAILA", "MAILB", "OPT", "TSIG", "NONE", "TKEY"}

#: One record: its text in the manner of zone files; for TXT the string, or several.
Value = str | Sequence[str]


def parse_name(text: str) -> dns.name.Name:
    """A domain name; without any dot it is one below ``lab``. Raises TopologyError."""
    full = text if "." in text else f"{text}.{SEARCH}"
    try:
        return dns.name.from_text(full).canonicalize()
    except (dns.exception.DNSException, UnicodeError, AttributeError) as error:
        raise TopologyError(f"{text!r} is no domain name: {error}") from None


def parse_type(text: str) -> dns.rdatatype.RdataType:
    """A record type by its name. Raises TopologyError."""
    try:
        kind = dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError, AttributeError):
        kind = None
    if kind is None or dns.rdatatype.to_text(kind) in _NOT_STORED:
        raise TopologyError(f"{text!r} is no type of DNS records, such as A, AAAA, CNAME, TXT, SRV or HTTPS")
    return kind


def parse_records(
    kind: dns.rdatatype.RdataType, values: Sequence[Value], ttl: float
) -> dns.rdataset.Rdataset:
    """Records of one type. Raises TopologyError for a text that is none, a bad TTL, or a second CNAME."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl <= MAX_TTL:
        raise TopologyError(f"ttl={ttl!r}: it is seconds, from 0 to {MAX_TTL}")
    if not values:
        raise TopologyError("a record needs a value; to remove records, use lab.dns.delete(name)")
    if dns.rdatatype.is_singleton(kind) and len(values) > 1:
        raise TopologyError(
            f"a name has one {dns.rdatatype.to_text(kind)} record at most (RFC 2181 section 10.1)"
        )
    found = dns.rdataset.Rdataset(dns.rdataclass.IN, kind, ttl=int(ttl))
    for value in values:
        found.add(_rdata(kind, value), int(ttl))
    return found


def _rdata(kind: dns.rdatatype.RdataType, value: Value) -> dns.rdata.Rdata:
    name = dns.rdatatype.to_text(kind)
    text = _quoted(value) if name == "TXT" else _with_target(name, value)
    try:
        return dns.rdata.from_text(dns.rdataclass.IN, kind, text, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise TopologyError(f"{value!r} is no {name} record: {error}") from None


def _quoted(value: Value) -> str:
    """TXT strings in the quotes of zone files; what is too long for one string becomes several."""
    parts = []
    for text in [value] if isinstance(value, str) else value:
        if not isinstance(text, str):
            raise TopologyError(f"{text!r} is no text of a TXT record")
        data = text.encode()
        parts += [data[at : at + _MAX_STRING] for at in range(0, len(data) or 1, _MAX_STRING)]
    return " ".join('"' + "".join(f"\\{byte:03d}" for byte in part) + '"' for part in parts)


def _with_target(kind: str, value: Value) -> str:
    if not isinstance(value, str):
        raise TopologyError(f"{value!r} is no {kind} record: write its text")
    words = value.split()
    place = _TARGET_WORD.get(kind)
    if place is not None and place < len(words) and words[place] != ".":
        words[place] = parse_name(words[place]).to_text()
        return " ".join(words)
    return value
