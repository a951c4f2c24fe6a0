"""A simulated host's routing: which interface and source address the kernel would choose, and what it shows
of it.

Measured on Linux 6.18 and imitated: no route is ENETUNREACH, an unknown interface index ENODEV; a socket
bound to an IPv4 address that is gone gets ENETUNREACH, one bound to an IPv6 address that is gone sends into
the void; a lost carrier changes no choice.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from iroh_py.network import Family, InterfaceAddress, NetworkState, Route
from iroh_py.network import Interface as InterfaceState
from iroh_py.testing.interface import SimInterface

#: What a program binds to for "any address".
WILDCARDS = frozenset({"0.0.0.0", "::"})

LOOPBACKS = {Family.V4: "127.0.0.1", Family.V6: "::1"}

#: The loopback interface, always there, always index 1.
LOOPBACK = InterfaceState(
    index=1,
    name="lo",
    loopback=True,
    addresses=(InterfaceAddress("127.0.0.1", 8), InterfaceAddress("::1", 128)),
)

#: Linux gives IPv6 routes without a metric 1024 and connected ones 256; only the order matters here.
_CONNECTED_METRIC = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """By which interface (None: to this host itself) a packet leaves, and with which source address."""

    interface: SimInterface | None
    source: str


def choose(interfaces: Iterable[SimInterface], dst: str, *, bound: str = "", via: int = 0) -> Choice:
    """Route a packet to ``dst`` from a socket bound to ``bound`` (or any), by interface index ``via`` (or
    any).

    Raises OSError as the kernel would.
    """
    interfaces = list(interfaces)
    family = Family.of(dst)
    mine = {a.ip for i in interfaces for a in i.active_addresses()} | set(LOOPBACKS.values())
    if bound in WILDCARDS:
        bound = ""
    if bound and bound not in mine and family is Family.V4:
        raise _error(errno.ENETUNREACH, dst)
    if dst in mine and not via:
        return Choice(None, bound or dst)
    if bound in LOOPBACKS.values():
        raise _error(errno.EINVAL, dst)
    interface = _by_index(interfaces, dst, via) if via else _by_route(interfaces, dst)
    return Choice(interface, bound or _source(interfaces, interface, dst))


def network_state(interfaces: Iterable[SimInterface]) -> NetworkState:
    """What a network monitor sees: links, addresses, connected and default routes, gateways' MACs."""
    interfaces = list(interfaces)
    gateways = {
        (i.segment.gateway(a), i.segment.mac)
        for i in interfaces
        if i.segment is not None and i.is_up
        for a in i.addresses
    }
    return NetworkState(
        interfaces=(LOOPBACK, *(i.snapshot() for i in interfaces)),
        routes=tuple(route for i in interfaces for route in _routes(i)),
        gateways=tuple(sorted(gateways)),
    )


def has_default(interfaces: Iterable[SimInterface], family: Family) -> bool:
    """Whether there is a default route of this family."""
    return any(route.is_default and route.family is family for i in interfaces for route in _routes(i))


def _routes(interface: SimInterface) -> Iterator[Route]:
    if not interface.is_up:
        return
    linkdown = not interface.has_carrier
    seen: set[str] = set()
    for address in interface.addresses:
        family = Family.of(address.ip)
        network = str(ipaddress.ip_network(f"{address.ip}/{address.prefixlen}", strict=False))
        if network not in seen:
            seen.add(network)
            yield Route(
                family, network, interface.index, "", _CONNECTED_METRIC, source=address.ip, linkdown=linkdown
            )
        default = "0.0.0.0/0" if family is Family.V4 else "::/0"
        if interface.has_default_route and interface.segment is not None and default not in seen:
            seen.add(default)
            gateway = interface.segment.gateway(address)
            yield Route(family, default, interface.index, gateway, interface.metric, linkdown=linkdown)


def _by_index(interfaces: list[SimInterface], dst: str, via: int) -> SimInterface:
    interface = next((i for i in interfaces if i.index == via), None)
    if interface is None:
        raise _error(errno.ENODEV, dst)
    if not interface.is_up:
        raise _error(errno.ENETUNREACH, dst)
    return interface


def _by_route(interfaces: list[SimInterface], dst: str) -> SimInterface:
    family, target = Family.of(dst), ipaddress.ip_address(dst)
    best: tuple[int, int] | None = None
    chosen: SimInterface | None = None
    for interface in interfaces:
        for route in _routes(interface):
            if route.family is not family:
                continue
            network = ipaddress.ip_network(route.destination)
            rank = (-network.prefixlen, route.metric)
            if target in network and (best is None or rank < best):
                best, chosen = rank, interface
    if chosen is None:
        raise _error(errno.ENETUNREACH, dst)
    return chosen


def _source(interfaces: list[SimInterface], chosen: SimInterface, dst: str) -> str:
    family, target = Family.of(dst), ipaddress.ip_address(dst)
    # A host takes an address of the way out, else (weak host model) any that it has.
    for interface in (chosen, *interfaces):
        candidates = [a for a in interface.active_addresses() if Family.of(a.ip) is family]
        if candidates:
            return min(candidates, key=lambda a: (not _covers(a, target), a.deprecated)).ip
    raise _error(errno.EADDRNOTAVAIL, dst)


def _covers(address: InterfaceAddress, target: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return target in ipaddress.ip_network(f"{address.ip}/{address.prefixlen}", strict=False)


def _error(code: int, dst: str) -> OSError:
    return OSError(code, f"{os.strerror(code)} (to {dst})")
