"""What a DHCP server grants, and how a host asks, as plain data."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, get_type_hints

from netns_fixtures.addressing import NAME_SERVER_V4
from netns_fixtures.errors import TopologyError

#: What home routers grant, in seconds: so long that few labs live to see a renewal.
LEASE = 3600.0
#: Lease times are 32 bits of seconds, all ones for ever (RFC 2131 section 3.3).
FOREVER = 0xFFFF_FFFF
#: Where hosts of a /24 get their addresses, as behind many home routers: addresses set by the lab lie below.
FIRST, LAST = 100, 199
#: Seconds for which an address that was offered waits for its client (RFC 2131 leaves it to the server).
OFFER_TIME = 10.0
#: Seconds for which an address that a client declined is given to nobody.
DECLINE_TIME = 600.0
#: RFC 2131 section 4.1 says 4 s before the first retransmission, too long for a test: a 16th of it.
RETRY_INTERVAL = 0.25
MAX_RESERVATIONS = 1024
#: A network of the size that every new LAN has.
LAN_SIZE = ipaddress.IPv4Network("192.168.0.0/24")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAX_NAME = 253


class DhcpFields(TypedDict, total=False):
    """The fields of :class:`DhcpConfig`, for calls that change some of them."""

    lease: float
    t1: float | None
    t2: float | None
    first: int | None
    last: int | None
    dns: tuple[str, ...]
    domain: str
    mtu: int | None
    routes: tuple[tuple[str, str], ...]
    captive_portal: str
    reservations: Mapping[str, str]
    authoritative: bool
    rapid_commit: bool
    offer_time: float
    decline_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpConfig:
    """What the DHCP server of a router grants; times in seconds, on the wire whole ones.

    lease: how long an address is granted for, 1 or more; inf for ever.
    t1, t2: when clients renew and rebind (options 58 and 59, whole seconds); None: not said, and clients take
    0.5 and 0.875 of the lease.
    first, last: the range by number in the subnet; None is 100 to 199, in small subnets the upper half.
    dns: addresses of name servers; the lab's own unless said otherwise. domain: the search domain, "" for none.
    mtu: what clients set on their interface; None says nothing.
    routes: classless static routes (RFC 3442), (destination, gateway); the default route is added where there is
    none among them, for clients ignore option 3 then.
    captive_portal: URI of RFC 8910; "" is the log-in page of the router's captive portal while it has one.
    reservations: hardware address -> IP address.
    authoritative: a client that is unknown here is told so (NAK); False: silence, as RFC 2131 wants it.
    rapid_commit: two messages instead of four for clients that ask for it (RFC 4039).
    offer_time, decline_time: how long an offered or a declined address is kept back.

    Raises TopologyError for a value that cannot be.
    """

    lease: float = LEASE
    t1: float | None = None
    t2: float | None = None
    first: int | None = None
    last: int | None = None
    dns: tuple[str, ...] = (NAME_SERVER_V4,)
    domain: str = "lab"
    mtu: int | None = None
    routes: tuple[tuple[str, str], ...] = ()
    captive_portal: str = ""
    reservations: Mapping[str, str] = field(default_factory=dict)
    authoritative: bool = True
    rapid_commit: bool = False
    offer_time: float = OFFER_TIME
    decline_time: float = DECLINE_TIME

    def __post_init__(self) -> None:
        _check(
            self.lease == float("inf") or (1 <= self.lease < FOREVER and self.lease == int(self.lease)),
            f"lease={self.lease!r}: whole seconds, 1 or more, or inf",
        )
        t1, t2 = self.t1 or 0.0, self.t2 or self.lease
        whole = all(t is None or (t >= 1 and t == int(t)) for t in (self.t1, self.t2))
        _check(
            whole and t1 <= t2 <= self.lease,
            f"t1={self.t1!r}, t2={self.t2!r}: whole seconds, t1 <= t2 <= lease",
        )
        _check(self.mtu is None or 576 <= self.mtu <= 1500, f"mtu={self.mtu!r}: bytes, 576 to 1500")
        for ip in self.dns:
            _check(_is_v4(ip), f"dns: {ip!r} is no IPv4 address")
        for name, value in (("domain", self.domain), ("captive_portal", self.captive_portal)):
            right = len(value) <= _MAX_NAME and value.isascii() and (not value or value.isprintable())
            _check(right, f"{name}={value!r}: printable ASCII, {_MAX_NAME} characters at most")
        for destination, gateway in self.routes:
            right = _is_v4(gateway) and _is_network(destination)
            _check(right, f"routes: {destination!r} via {gateway!r} is no IPv4 route")
        _check(len(self.reservations) <= MAX_RESERVATIONS, f"reservations: {MAX_RESERVATIONS} at most")
        for mac, ip in self.reservations.items():
            _check(bool(_MAC.fullmatch(mac)), f"reservations: {mac!r} is no hardware address '02:00:...'")
            _check(_is_v4(ip), f"reservations: {ip!r} is no IPv4 address")
        taken = list(self.reservations.values())
        _check(len(taken) == len(set(taken)), "reservations: two clients have the same address")
        for name in ("offer_time", "decline_time"):
            _check(getattr(self, name) >= 0, f"{name}={getattr(self, name)!r}: seconds, 0 or more")

    @property
    def seconds(self) -> int:
        """The lease time as it is said on the wire."""
        return FOREVER if self.lease == float("inf") else int(self.lease)

    def numbers(self, network: ipaddress.IPv4Network) -> tuple[int, int]:
        """The range in a subnet, (first, last) by number. Raises TopologyError where it does not fit."""
        last = network.num_addresses - 2
        if self.first is None and self.last is None:
            return (FIRST, LAST) if last > LAST else (last // 2 + 1, last)
        first, end = self.first or 2, self.last or last
        if not 2 <= first <= end <= last:
            raise TopologyError(f"first={self.first!r}, last={self.last!r}: {network} has 2 to {last}")
        return first, end


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpClient:
    """How a host asks for its IPv4 address.

    retry_interval: seconds before the first retransmission, doubled up to 16 times that (RFC 2131 section 4.1
    has 4 s); also how often a renewal is repeated at least.
    check: probe an address by ARP before it is used, for as long as this (seconds); a conflict is declined
    (RFC 2131 section 4.4.1). 0: believe the server.
    rapid_commit: ask for two messages instead of four (RFC 4039).
    host_name: what it calls itself; "" is the host's name in the lab.

    Raises TopologyError for a value that cannot be.
    """

    retry_interval: float = RETRY_INTERVAL
    check: float = 0.0
    rapid_commit: bool = False
    host_name: str = ""

    def __post_init__(self) -> None:
        # Below, a lab would be busy with nothing else; above is the RFC's own for a whole minute.
        _check(0.01 <= self.retry_interval <= 60, f"retry_interval={self.retry_interval!r}: 0.01 to 60 s")
        _check(0 <= self.check <= 60, f"check={self.check!r}: 0 to 60 s")
        _check(
            len(self.host_name) <= 63 and (not self.host_name or self.host_name.isprintable()),
            f"host_name={self.host_name!r}: 63 printable characters at most",
        )


def changed_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a DhcpConfig as a caller names them. Raises TopologyError for one that does not exist."""
    known = get_type_hints(DhcpFields)
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise TopologyError(f"a DHCP server has no {', '.join(unknown)}; it has {', '.join(known)}")
    return dict(fields)


def _check(right: bool, said: str) -> None:
    if not right:
        raise TopologyError(said)


def _is_v4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        return False
    return True
