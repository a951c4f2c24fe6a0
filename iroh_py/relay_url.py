"""The URL of a relay server in its one normal form (PROTOCOL 1.3)."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, quote, urlsplit

from iroh_py.errors import TicketError

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Longer URLs appear in no record: a DNS packet of pkarr has 1000 bytes for everything.
_MAX_LENGTH = 1024
#: 255 bytes on the wire are 254 characters with the trailing dot (RFC 1035 section 3.1).
_MAX_DOMAIN = 254
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f<>\"{}|\\^`]")
#: Labels of a domain: what DNS carries, plus the underscore that real host names contain.
_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+", re.ASCII)
#: A last label of this form makes a host an IPv4 address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
#: Everything that may stand in a path or query as it is; other characters are percent-encoded.
_PLAIN = "/:?@!$&'()*+,;=-._~%[]"
_DOT_SEGMENTS = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.ASCII | re.IGNORECASE)


class RelayUrl(str):
    """A relay's URL, normalised so that two nodes agree whether they mean the same relay.

    Scheme and host are lower-case, a default port is dropped, an empty path is ``/``, and a host *name*
    ends in a dot (``https://relay.example./``). It is a ``str``: compare, sort, hash and serialise it as
    such. Raises TicketError for what is no http or https URL.
    """

    __slots__ = ("_host", "_port", "_tls")

    _host: str
    _port: int
    _tls: bool

    def __new__(cls, text: str) -> RelayUrl:
        if isinstance(text, RelayUrl):
            return text
        parts, port = _split(text)
        host = _normal_host(parts.hostname or "")
        self = super().__new__(cls, _assemble(parts, host, port))
        self._host = host.strip("[]").removesuffix(".")
        self._port = _DEFAULT_PORTS[parts.scheme] if port is None else port
        self._tls = parts.scheme == "https"
        return self

    @classmethod
    def parse(cls, text: str) -> RelayUrl:
        """Read and normalise a URL. Raises TicketError."""
        return cls(text)

    def __repr__(self) -> str:
        return f"RelayUrl({str.__repr__(self)})"

    def __reduce__(self) -> tuple[type[RelayUrl], tuple[str]]:
        return RelayUrl, (str(self),)

    @property
    def host(self) -> str:
        """Host name without its trailing dot, or IP address without brackets.

        For dialling, ``Host`` and SNI.
        """
        return self._host

    @property
    def port(self) -> int:
        """The port to dial."""
        return self._port

    @property
    def is_tls(self) -> bool:
        """Whether the scheme is https."""
        return self._tls


def _split(text: str) -> tuple[SplitResult, int | None]:
    text = text.strip()
    if len(text) > _MAX_LENGTH:
        raise TicketError(f"a relay URL of {len(text)} characters is too long")
    if _FORBIDDEN.search(text):
        raise TicketError(f"{text!r} contains a character that no URL may contain")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise TicketError(f"{text!r} is no URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise TicketError(f"{text!r} is no http or https URL")
    return parts, port


def _normal_host(host: str) -> str:
    """A bracketed or plain IP literal in canonical form, or a domain in lower case with a trailing dot."""
    if ":" in host:
        return f"[{_normal_ipv6(host)}]"
    name = _to_ascii(host).removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        # Browsers read any number as an IPv4 address; only the plain dotted form is meant here.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError as error:
            raise TicketError(f"{host!r} is neither a host name nor an IPv4 address") from error
    return _normal_domain(name)


def _normal_ipv6(host: str) -> str:
    try:
        ip = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise TicketError(f"{host!r} is no IPv6 address") from error
    if ip.scope_id is not None:
        raise TicketError(f"{host!r} has a scope, which means nothing on another machine")
    if ip.ipv4_mapped is not None:
        # URLs never mix hexadecimal and dotted form; what `str` prints depends on the Python version.
        return f"::ffff:{int(ip) >> 16 & 0xFFFF:x}:{int(ip) & 0xFFFF:x}"
    return str(ip)


def _to_ascii(host: str) -> str:
    """Punycode for international names; it also maps look-alikes of digits and dots to the plain ones."""
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError as error:
        raise TicketError(f"{host!r} is no host name: {error}") from error


def _normal_domain(name: str) -> str:
    domain = f"{name}."
    if not _DOMAIN.fullmatch(domain) or len(domain) > _MAX_DOMAIN:
        raise TicketError(f"{name!r} is no host name")
    return domain


def _assemble(parts: SplitResult, host: str, port: int | None) -> str:
    if _DOT_SEGMENTS.search(parts.path):
        raise TicketError(f"relay URL path {parts.path!r} contains relative segments")
    user = parts.netloc.rpartition("@")[0]
    text = f"{parts.scheme}://{quote(user, safe=_PLAIN) + '@' if user else ''}{host}"
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        text += f":{port}"
    text += quote(parts.path or "/", safe=_PLAIN)
    if parts.query:
        text += "?" + quote(parts.query, safe=_PLAIN)
    if parts.fragment:
        text += "#" + quote(parts.fragment, safe=_PLAIN)
    return text
