"""What a client was granted, read from the server's message. Sans-IO."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass

from netns_fixtures.dhcp.config import FOREVER
from netns_fixtures.dhcp.options import (
    DhcpMalformed,
    Option,
    address,
    addresses,
    decode_routes,
    number,
    prefix_length,
    text,
)
from netns_fixtures.dhcp.packet import Message

_DEFAULT_ROUTE = "0.0.0.0/0"
#: RFC 2131 section 4.4.5, for servers that say nothing.
_T1, _T2 = 0.5, 0.875
#: As many as a resolver uses, and as many routes as anybody configures.
_MAX_SERVERS, _MAX_ROUTES = 3, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A lease as its client knows it. Times are seconds from ``since``, the moment at which it was asked for.

    ``routes``: (destination, gateway), the default route among them. ``mtu`` None: nothing was said.
    """

    ip: str
    prefixlen: int
    server: str
    seconds: float
    t1: float
    t2: float
    since: float
    routes: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    domain: str = ""
    mtu: int | None = None
    captive_portal: str = ""

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefixlen}"

    @property
    def expires(self) -> float:
        """When it ends."""
        return self.since + self.seconds

    @property
    def router(self) -> str:
        """The default router, "" for none."""
        return next((gateway for destination, gateway in self.routes if destination == _DEFAULT_ROUTE), "")


def granted(message: Message, since: float) -> Granted:
    """The lease in an OFFER or ACK. Raises DhcpMalformed for one that no host could use."""
    options = message.options
    ip = message.yiaddr
    if not _is_usable(ip):
        raise DhcpMalformed(f"{ip!r} is no address for a host")
    seconds = number(options.get(Option.LEASE_TIME, b""), 4)
    if not seconds:
        raise DhcpMalformed("a lease of no time")
    lease = float("inf") if seconds == FOREVER else float(seconds)
    length = prefix_length(options[Option.SUBNET_MASK]) if Option.SUBNET_MASK in options else 24
    network = ipaddress.IPv4Network((ip, length), strict=False)
    t2 = min(_time(options, Option.T2, lease * _T2), lease)
    mtu = number(options[Option.MTU], 2) if Option.MTU in options else None
    return Granted(
        ip=ip,
        prefixlen=length,
        server=address(options.get(Option.SERVER_ID, b"")),
        seconds=lease,
        t1=min(_time(options, Option.T1, lease * _T1), t2),
        t2=t2,
        since=since,
        routes=tuple(_routes(options, network)),
        dns=addresses(options[Option.DNS])[:_MAX_SERVERS] if Option.DNS in options else (),
        domain=text(options.get(Option.DOMAIN, b"")),
        # RFC 2132 section 5.1 begins at 68; below 576 Linux takes an interface, and IPv4 hardly works.
        mtu=mtu if mtu is not None and 576 <= mtu <= 1500 else None,
        captive_portal=text(options.get(Option.CAPTIVE_PORTAL, b"")),
    )


def _routes(options: dict[int, bytes], network: ipaddress.IPv4Network) -> list[tuple[str, str]]:
    """Classless routes win over the router option (RFC 3442); gateways must be neighbours, or are left out."""
    found: tuple[tuple[str, str], ...] = ()
    if Option.ROUTER in options:
        found = ((_DEFAULT_ROUTE, addresses(options[Option.ROUTER])[0]),)
    if Option.ROUTES in options:
        found = decode_routes(options[Option.ROUTES])
    return [route for route in found[:_MAX_ROUTES] if ipaddress.IPv4Address(route[1]) in network]


def _time(options: dict[int, bytes], code: Option, otherwise: float) -> float:
    with contextlib.suppress(DhcpMalformed):  # a strange T1 is no reason to have no address
        return float(number(options.get(code, b""), 4)) or otherwise
    return otherwise


def _is_usable(ip: str) -> bool:
    if not ip:
        return False
    parsed = ipaddress.IPv4Address(ip)
    return not (
        parsed.is_multicast or parsed.is_loopback or int(parsed) >= 0xF000_0000 or parsed.packed[0] == 0
    )
