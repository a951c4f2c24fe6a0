"""By which addresses one node sees another: those of its interfaces, or of the NATs in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.firewall import network_of
from netns_fixtures.plug import Plug

if TYPE_CHECKING:
    from netns_fixtures.node import Node
    from netns_fixtures.topology import RouterPlan


def seen_addresses(viewer: Node, end: Node | str | None) -> tuple[str, ...]:
    """The addresses of ``end`` as packets have them where ``viewer`` is; () for anyone.

    An address or network given as text stays as it is. A router is its uplink's addresses, and without NAT
    the subnets of its LAN. IPv6 is taken as not translated. Raises TopologyError.
    """
    if end is None:
        return ()
    if isinstance(end, str):
        network_of(end)
        return (end,)
    if getattr(end, "lab", None) is not viewer.lab:
        raise TopologyError(f"{end!r} is no host or router of this lab; give one, or an address as text")
    found = list(dict.fromkeys(_addresses(viewer, end)))
    if not found:
        raise TopologyError(f"{end.name} has no address to block")
    return tuple(found)


def _addresses(viewer: Node, end: Node) -> Iterator[str]:
    routers = viewer.lab.topology.routers
    here = {plan.name for start in _routers_of(viewer) for plan in _chain(start)}
    for plug in _plugs_of(end):
        above = _behind(routers.get(plug.segment.name))
        for address in plug.addresses:
            yield _outside(address.ip, above, here)
    own = routers.get(end.name)
    if own is not None and not own.nat.translates and own.name not in here:
        for pool in own.lan.segment.pools:
            yield str(pool.network)


def _outside(ip: str, above: list[RouterPlan], here: set[str]) -> str:
    """How an address looks after the NATs on the way up to the first router that is the viewer's, too."""
    for router in above:
        if router.name in here:
            break
        if router.nat.translates and ":" not in ip and router.wan is not None:
            ip = router.wan.ip(4) or ip
    return ip


def _plugs_of(node: Node) -> list[Plug]:
    router = node.lab.topology.routers.get(node.name)
    if router is not None:
        return [router.wan] if router.wan is not None else []
    return list(node.lab.topology.hosts[node.name].plugs.values())


def _routers_of(viewer: Node) -> list[RouterPlan]:
    """The routers at which a node is, itself included."""
    routers = viewer.lab.topology.routers
    if viewer.name in routers:
        return [routers[viewer.name]]
    names = (plug.segment.name for plug in _plugs_of(viewer))
    return [routers[name] for name in names if name in routers]


def _behind(router: RouterPlan | None) -> list[RouterPlan]:
    return [] if router is None else list(_chain(router))


def _chain(router: RouterPlan | None) -> Iterator[RouterPlan]:
    while router is not None:
        yield router
        router = router.upstream
