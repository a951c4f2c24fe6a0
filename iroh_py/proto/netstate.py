"""What a snapshot of the network means: what changed, where packets can leave, which addresses are ours.

Pure functions over :class:`iroh_py.network.NetworkState`; no kernel is asked. Source: PROTOCOL.md chapters 4
and 5.8, without trap 9 of chapter 14: every added or removed address is seen, and counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from iroh_py.network import Family, Interface, InterfaceAddress, NetworkState, Route

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Table "main" and the one that the kernel's built-in rules look into after it (linux/rtnetlink.h).
MAIN_TABLES = (254, 253)
#: So many other ways out are tried at most: each costs a packet per try, and a host with more is a router.
MAX_VIAS = 4
#: Fewer for what opens a connection each time.
MAX_DIALLED = 2
#: Unique local addresses, RFC 4193.
ULA = ipaddress.ip_network("fc00::/7")
#: Texts parsed per process: addresses and prefixes recur in every snapshot, and parsing is the whole cost
#: here.
PARSED_TEXTS = 4096


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """What differs between two snapshots, as far as it matters to a connection.

    ``major`` means that paths must be questioned (an address, route, link, rule or gateway changed); a minor
    change (an address became deprecated) only asks for new direct addresses. ``gone`` and ``new`` are
    addresses that packets could, or can now, be sent from: they also tell of links that went down or lost
    their carrier.
    """

    major: bool = False
    reasons: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def __str__(self) -> str:
        return ", ".join(self.reasons)


def diff(old: NetworkState, new: NetworkState) -> NetworkChange:
    """Compare two snapshots; a change without reasons is false.

    Order, renames, interfaces that carry neither addresses nor routes, tentative and link-local IPv6
    addresses and a gateway MAC that was only just learnt do not count.
    """
    major = [
        *_link_reasons(old, new),
        *_address_reasons(old, new),
        *_route_reasons(old, new),
        *_gateway_reasons(old, new),
    ]
    if sorted(old.rules) != sorted(new.rules):
        major.append("policy routing rules changed")
    before, after = _sendable(old), _sendable(new)
    return NetworkChange(
        major=bool(major),
        reasons=(*major, *_deprecation_reasons(old, new)),
        gone=tuple(sorted(before - after, key=_order)),
        new=tuple(sorted(after - before, key=_order)),
    )


def local_addresses(state: NetworkState) -> tuple[str, ...]:
    """The regular local addresses to tell to peers, IPv4 first (PROTOCOL.md 5.8).

    Of links with carrier, neither loopback nor link-local, neither tentative nor deprecated; temporary IPv6
    addresses first. IPv6 ULAs stand in where there is no other IPv6 address, IPv4 link-local ones where there
    is nothing at all, loopback where not even that is.
    """
    v4: list[InterfaceAddress] = []
    v6: list[InterfaceAddress] = []
    ula: list[InterfaceAddress] = []
    link_local: list[InterfaceAddress] = []
    loopback: list[InterfaceAddress] = []
    for interface in state.interfaces:
        for address in _usable_addresses(interface):
            ip = _ip(address.ip)
            if address.deprecated or ip.is_unspecified or ip.is_multicast:
                continue
            if interface.loopback or ip.is_loopback:
                loopback.append(address)
            elif ip.version == 4:
                (link_local if ip.is_link_local else v4).append(address)
            elif not ip.is_link_local:
                (ula if ip in ULA else v6).append(address)
    chosen = _sorted(v4) + (_sorted(v6) or _sorted(ula))
    return tuple(dict.fromkeys(chosen or _sorted(link_local) or _sorted(loopback)))


def egress(state: NetworkState, family: int) -> tuple[int, ...]:
    """Indexes of the interfaces that packets of this family can leave by, the kernel's favourite first.

    Each is up with carrier, has a usable address of the family that is not link-local, and a live route:
    those with a default route come first, by metric, then those that only reach some networks.
    """
    able = {
        interface.index
        for interface in state.interfaces
        if not interface.loopback
        and any(
            Family.of(address.ip) == family and not _ip(address.ip).is_link_local
            for address in _usable_addresses(interface)
        )
    }
    routes = [
        route
        for route in state.routes
        if route.family == family and route.interface in able and not route.dead
    ]
    routes.sort(key=lambda route: (not route.is_default, route.metric))
    return tuple(dict.fromkeys(route.interface for route in routes))


def kernel_choice(state: NetworkState, ip: str) -> int | None:
    """The interface that the kernel sends to this address by, or None without a route.

    Longest prefix, then lowest metric, in the main table; a lost carrier does not matter to the kernel unless
    it marked the route dead. Own and loopback addresses leave by the loopback interface. Policy routing is
    not followed (rules are opaque here): a wrong answer costs one try by the interface that the kernel had
    chosen anyway.
    """
    target = _ip(ip)
    if target.is_loopback or ip in _own(state):
        return next((interface.index for interface in state.interfaces if interface.loopback), None)
    for table in MAIN_TABLES:
        covering = [
            route
            for route in state.routes
            if route.table == table and _covers(route, target) and not route.dead and _is_up(state, route)
        ]
        if covering:
            return min(covering, key=lambda r: (-_network(r.destination).prefixlen, r.metric)).interface
    return None


def vias(state: NetworkState, ip: str) -> tuple[int, ...]:
    """Indexes of interfaces to try for a destination besides the kernel's choice, at most :data:`MAX_VIAS`.

    Only interfaces that have a route to it; none for addresses of this host.
    """
    target = _ip(ip)
    if target.is_loopback or ip in _own(state):
        return ()
    choice = kernel_choice(state, ip)
    reaching = {route.interface for route in state.routes if _covers(route, target) and not route.dead}
    others = (index for index in egress(state, Family.of(ip)) if index != choice and index in reaching)
    return tuple(others)[:MAX_VIAS]


def kernel_route_usable(state: NetworkState, ip: str) -> bool:
    """Whether the kernel's own routing of this destination can work: a route, by a link with carrier."""
    choice = kernel_choice(state, ip)
    interface = None if choice is None else state.interface(choice)
    return interface is not None and interface.usable


class Ways(NamedTuple):
    """Interfaces to dial a destination by (0: the kernel's choice): these at once, those if no answer comes."""

    first: tuple[int, ...] = (0,)
    later: tuple[int, ...] = ()


def ways(state: NetworkState, ip: str) -> Ways:
    """How to dial a destination: as the kernel would, unless it routes into a link that carries nothing."""
    others = vias(state, ip)[:MAX_DIALLED]
    if kernel_route_usable(state, ip):
        return Ways(later=others)
    return Ways(first=others or (0,))


def _link_reasons(old: NetworkState, new: NetworkState) -> Iterator[str]:
    before = {interface.index: interface for interface in old.interfaces if _matters(old, interface)}
    after = {interface.index: interface for interface in new.interfaces if _matters(new, interface)}
    for index in sorted(before.keys() | after.keys()):
        was = before.get(index) or old.interface(index)
        now = after.get(index) or new.interface(index)
        if was is not None and now is not None:
            yield from _same_link_reasons(was, now)
        elif now is None and was is not None and was.usable:
            replaced = any(interface.name == was.name for interface in new.interfaces)
            yield f"{was.name} was replaced" if replaced else f"{was.name} is gone"


def _same_link_reasons(was: Interface, now: Interface) -> Iterator[str]:
    if was.up and not now.up:
        yield f"{was.name} is down"
    elif was.running and not now.running:
        yield f"{was.name} lost its carrier"
    elif not was.usable and now.usable:
        yield f"{now.name} is up" if not was.up else f"{now.name} has its carrier again"
    elif now.usable and now.generation != was.generation:
        yield f"{now.name} was down in between"
    if was.mac != now.mac:
        yield f"{now.name} has another MAC"


def _matters(state: NetworkState, interface: Interface) -> bool:
    """Whether this host talks through the interface at all: containers bring dozens that it never does."""
    if interface.loopback:
        return False
    return any(_countable(address) for address in interface.addresses) or any(
        route.interface == interface.index for route in state.routes
    )


def _address_reasons(old: NetworkState, new: NetworkState) -> Iterator[str]:
    before, after = dict(_deprecations(old)), dict(_deprecations(new))
    yield from (f"{_name(old, index)} {ip} gone" for index, ip in _by_address(before.keys() - after.keys()))
    yield from (f"{_name(new, index)} {ip} new" for index, ip in _by_address(after.keys() - before.keys()))


def _deprecation_reasons(old: NetworkState, new: NetworkState) -> Iterator[str]:
    before, after = dict(_deprecations(old)), dict(_deprecations(new))
    for index, ip in _by_address(before.keys() & after.keys()):
        if before[index, ip] != after[index, ip]:
            yield f"{_name(new, index)} {ip} {'deprecated' if after[index, ip] else 'preferred again'}"


def _route_reasons(old: NetworkState, new: NetworkState) -> Iterator[str]:
    before = {_route_key(route): route for route in old.routes}
    after = {_route_key(route): route for route in new.routes}
    for key in sorted(before.keys() - after.keys()):
        if not _follows_address(old, new, before[key]):
            yield f"{_route_text(old, before[key])} gone"
    for key in sorted(after.keys() - before.keys()):
        if not _follows_address(old, new, after[key]):
            yield _route_text(new, after[key])


def _gateway_reasons(old: NetworkState, new: NetworkState) -> Iterator[str]:
    before, after = _macs(old), _macs(new)
    for gateway in sorted(before.keys() & after.keys()):
        # One side empty means learnt or forgotten; two interfaces may share a gateway address.
        if before[gateway] - after[gateway] and after[gateway] - before[gateway]:
            yield f"gateway {gateway} has another MAC"


def _macs(state: NetworkState) -> dict[str, set[str]]:
    macs: dict[str, set[str]] = {}
    for gateway, mac in state.gateways:
        macs.setdefault(gateway, set()).update({mac} - {""})
    return macs


def _route_key(route: Route) -> tuple[int, str, int, str, int, int, str, bool]:
    # ``linkdown`` is left out: the link itself tells it, and the kernel sets it late.
    return (
        int(route.family),
        route.destination,
        route.interface,
        route.gateway,
        route.metric,
        route.table,
        route.source,
        route.dead,
    )


def _follows_address(old: NetworkState, new: NetworkState, route: Route) -> bool:
    """Whether the route came or went with its link or with an address of it, which is reported already."""
    if route.gateway or route.is_default:
        return False
    was, now = old.interface(route.interface), new.interface(route.interface)
    if was is None or now is None or was.up != now.up:
        return True
    prefix = _network(route.destination)
    changed = _addresses_of(old, route.interface) ^ _addresses_of(new, route.interface)
    return any(_ip(ip) in prefix for ip in changed)


def _addresses_of(state: NetworkState, index: int) -> set[str]:
    interface = state.interface(index)
    return set() if interface is None else {address.ip for address in interface.addresses}


def _name(state: NetworkState, index: int) -> str:
    interface = state.interface(index)
    return f"interface {index}" if interface is None else interface.name


def _route_text(state: NetworkState, route: Route) -> str:
    name = _name(state, route.interface)
    what = "default route" if route.is_default else f"route to {route.destination}"
    return f"{what} via {route.gateway} dev {name}" if route.gateway else f"{what} dev {name}"


def _sendable(state: NetworkState) -> set[str]:
    """Addresses that packets can be sent from now, other than loopback."""
    return {
        address.ip
        for interface in state.interfaces
        if not interface.loopback
        for address in _usable_addresses(interface)
        if _countable(address)
    }


def _deprecations(state: NetworkState) -> Iterator[tuple[tuple[int, str], bool]]:
    """Interface indexes and addresses, whatever their link does, and whether each is deprecated."""
    for interface in state.interfaces:
        for address in interface.addresses:
            if not interface.loopback and _countable(address):
                yield (interface.index, address.ip), address.deprecated


def _countable(address: InterfaceAddress) -> bool:
    ip = _ip(address.ip)
    return not (address.tentative or ip.is_loopback or (ip.version == 6 and ip.is_link_local))


def _usable_addresses(interface: Interface) -> Iterator[InterfaceAddress]:
    if interface.usable:
        yield from (address for address in interface.addresses if not address.tentative)


def _own(state: NetworkState) -> set[str]:
    return {address.ip for interface in state.interfaces for address in interface.addresses}


def _is_up(state: NetworkState, route: Route) -> bool:
    interface = state.interface(route.interface)
    return interface is not None and interface.up


def _covers(route: Route, ip: IpAddress) -> bool:
    network = _network(route.destination)
    return network.version == ip.version and ip in network


def _sorted(addresses: Iterable[InterfaceAddress]) -> list[str]:
    return [address.ip for address in sorted(addresses, key=lambda a: (not a.temporary, _order(a.ip)))]


def _by_address(keys: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    return sorted(keys, key=lambda key: (_order(key[1]), key[0]))


def _order(ip: str) -> tuple[int, int]:
    parsed = _ip(ip)
    return parsed.version, int(parsed)


@lru_cache(maxsize=PARSED_TEXTS)
def _ip(text: str) -> IpAddress:
    return ipaddress.ip_address(text)


@lru_cache(maxsize=PARSED_TEXTS)
def _network(text: str) -> IpNetwork:
    return ipaddress.ip_network(text, strict=False)
