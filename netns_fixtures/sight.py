"""By which addresses one node sees another: those of its interfaces, or of the NATs in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.firewall import network_of
from netns_fixtures.ipv6_nat import Ipv6Nat
from netns_fixtures.prefixes import routed_prefixes

if TYPE_CHECKING:
    from netns_fixtures.interface import Interface
    from netns_fixtures.node import Node
    from netns_fixtures.topology import RouterPlan


def seen_addresses(viewer: Node, end: Node | str | None) -> tuple[str, ...]:
    """The addresses of ``end`` as packets have them where ``viewer`` is; () for anyone.

    Text is a node's name (so that a scenario file can say it), or an address or network, which stays as it
    is. A router is its uplink's addresses, and the subnets of its LAN that are not translated. With SLAAC an
    interface has the addresses that the kernel has now. Raises TopologyError.
    """
    if end is None:
        return ()
    if isinstance(end, str):
        named = viewer.lab.hosts.get(end) or viewer.lab.routers.get(end)
        if named is None:
            network_of(end)
            return (end,)
        end = named
    if getattr(end, "lab", None) is not viewer.lab:
        raise TopologyError(f"{end!r} is no host or router of this lab; give one, or an address as text")
    found = list(dict.fromkeys(_addresses(viewer, end)))
    if not found:
        raise TopologyError(f"{end.name} has no address to block")
    return tuple(found)


def _addresses(viewer: Node, end: Node) -> Iterator[str]:
    routers = viewer.lab.topology.routers
    here = {plan.name for start in _routers_of(viewer) for plan in _chain(start)}
    for interface in _uplinks(end):
        above = list(_chain(routers.get(interface.plug.segment.name)))
        for address in interface.addresses:
            yield _outside(address.partition("/")[0], above, here)
    own = routers.get(end.name)
    if own is not None and own.name not in here:
        segment = own.lan.segment
        if segment.v4 is not None and not own.nat.translates:
            yield str(segment.v4.network)
        yield from routed_prefixes(own)


def _outside(ip: str, above: list[RouterPlan], here: set[str]) -> str:
    """How an address looks after the NATs on the way up to the first router that is the viewer's, too."""
    for router in above:
        if router.name in here:
            break
        ip = _translated6(ip, router) if ":" in ip else _translated4(ip, router)
    return ip


def _translated4(ip: str, router: RouterPlan) -> str:
    outside = router.wan.ip(4) if router.wan is not None and router.nat.translates else None
    return outside or ip


def _translated6(ip: str, router: RouterPlan) -> str:
    prefixes, inside = router.prefixes, router.lan.segment.v6
    if prefixes is None or inside is None or ipaddress.ip_address(ip) not in inside.network:
        return ip
    if prefixes.nat is Ipv6Nat.NAT66 and router.wan is not None:
        return router.wan.ip(6) or ip
    if prefixes.outside is None:
        return ip
    # Prefix for prefix: the rest of the address stays.
    host_part = int(ipaddress.IPv6Address(ip)) & int(prefixes.outside.hostmask)
    return str(ipaddress.IPv6Address(int(prefixes.outside.network_address) | host_part))


def _uplinks(node: Node) -> list[Interface]:
    router = node.lab.routers.get(node.name)
    return [router.uplink] if router is not None else list(node.lab.hosts[node.name].interfaces.values())


def _routers_of(viewer: Node) -> list[RouterPlan]:
    """The routers at which a node is, itself included."""
    routers = viewer.lab.topology.routers
    if viewer.name in routers:
        return [routers[viewer.name]]
    names = (interface.plug.segment.name for interface in _uplinks(viewer))
    return [routers[name] for name in names if name in routers]


def _chain(router: RouterPlan | None) -> Iterator[RouterPlan]:
    while router is not None:
        yield router
        router = router.upstream
