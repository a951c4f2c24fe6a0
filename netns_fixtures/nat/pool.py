"""The outside addresses of a router whose NAT has several, on its uplink. Pure: plans and steps."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat.config import NatConfig
from netns_fixtures.ops import AddAddress, Op
from netns_fixtures.plug import Assigned, Segment

if TYPE_CHECKING:
    from netns_fixtures.plans import RouterPlan


def check_addresses(owner: str, config: NatConfig, outside: Segment, own: tuple[str, ...] = ()) -> None:
    """Raise TopologyError unless the uplink has free what the NAT wants; ``own`` it has already."""
    if config.pool_size == 1 and isinstance(config.addresses, int):
        return
    if outside.v4 is None:
        raise TopologyError(
            f"{owner} cannot have {config.addresses!r} outside addresses: its uplink has no IPv4"
        )
    for ip in () if isinstance(config.addresses, int) else config.addresses:
        if ip not in own:
            outside.v4.check_free(ip)


def claim_ops(router: RouterPlan) -> list[Op]:
    """Take the very addresses that the NAT asks for, if it does; the first becomes the router's own."""
    wan, wanted = router.wan, router.nat.addresses
    if wan is None or isinstance(wanted, int):
        return []
    ops = wan.release_ops([a for a in router.pool if a in wan.addresses])
    router.pool.clear()
    if wan.ip(4) != wanted[0]:
        ops += wan.renumber_ops(wanted[0])
    for ip in wanted[1:]:
        assert wan.segment.v4 is not None
        ops += _take(router, Assigned(wan.segment.v4.reserve(ip), wan.segment.v4.prefixlen))
    return ops


def pool_ops(router: RouterPlan) -> list[Op]:
    """Make the addresses besides the router's own as many as its NAT wants, all of the uplink's present subnet."""
    wan = router.wan
    if wan is None or wan.segment.v4 is None or (router.nat.pool_size == 1 and not router.pool):
        return []
    subnet = wan.segment.v4.network
    router.pool[:] = [a for a in router.pool if a in wan.addresses and ipaddress.ip_address(a.ip) in subnet]
    wanted = router.nat.pool_size - 1
    ops = wan.release_ops(router.pool[wanted:])
    del router.pool[wanted:]
    while len(router.pool) < wanted:
        ops += _take(router, Assigned(wan.segment.v4.allocate(), wan.segment.v4.prefixlen))
    return ops


def _take(router: RouterPlan, address: Assigned) -> list[Op]:
    assert router.wan is not None
    router.wan.addresses.append(address)
    router.pool.append(address)
    return [AddAddress(router.wan.node, router.wan.index, address.ip, address.prefixlen)]
