"""Who gets which address."""

from __future__ import annotations

import pytest

from netns_fixtures.addressing import AddressPool, IPv4Network, SubnetPlan, mac_of
from netns_fixtures.errors import TopologyError


def pool(text: str = "192.168.1.0/24") -> AddressPool:
    return AddressPool(IPv4Network(text))


def test_pool_starts_hosts_at_ten_and_routers_at_one() -> None:
    """Addresses look as at home: router .1, hosts from .10."""
    p = pool()
    assert p.gateway == "192.168.1.1"
    assert [p.allocate(), p.allocate()] == ["192.168.1.10", "192.168.1.11"]


def test_released_address_comes_back_only_after_all_others() -> None:
    """Renumbering is a change: the address just given up is the last to be handed out again."""
    p = pool()
    first = p.allocate()
    p.release(first)
    seen = [p.allocate() for _ in range(254 - 10)]
    assert first not in seen
    assert p.allocate() == first


def test_full_pool_raises() -> None:
    """A full subnet is a topology error that names it."""
    p = pool()
    for _ in range(10, 255):
        p.allocate()
    with pytest.raises(TopologyError, match=r"192\.168\.1\.0/24"):
        p.allocate()


@pytest.mark.parametrize("ip", ["10.0.0.1", "192.168.1.1", "not-an-ip"], ids=["outside", "taken", "garbage"])
def test_reserving_impossible_address_raises(ip: str) -> None:
    """An address outside of the subnet, taken, or none at all is one clear error."""
    with pytest.raises(TopologyError, match=ip):
        pool().reserve(ip)


def test_subnets_are_never_the_same_twice() -> None:
    """A subnet that was claimed by hand is not handed out again."""
    plan = SubnetPlan()
    plan.claim("192.168.1.0/24")
    assert str(plan.private()) == "192.168.2.0/24"
    assert str(plan.public()) == "198.18.1.0/24"
    assert str(plan.carrier()) == "100.64.1.0/24"
    assert str(plan.v6()) == "2001:db8:1::/64"
    assert str(plan.v6()) == "2001:db8:2::/64"


@pytest.mark.parametrize(
    "text", ["192.168.1.0/24", "203.0.0.0/16", "192.168.9.9/24", "10.0.0.0/31", "fd00::/64", "x"]
)
def test_claiming_unusable_subnet_raises(text: str) -> None:
    """Overlaps, host bits, too small, IPv6 and garbage are refused."""
    plan = SubnetPlan()
    plan.private()
    with pytest.raises(TopologyError):
        plan.claim(text)


def test_private_subnets_go_on_in_ten_slash_eight() -> None:
    """Behind the 255 subnets of 192.168.0.0/16 come those of 10.0.0.0/8."""
    plan = SubnetPlan()
    subnets = [str(plan.private()) for _ in range(257)]
    assert subnets[254:] == ["192.168.255.0/24", "10.0.0.0/24", "10.0.1.0/24"]


def test_mac_is_local_and_unique() -> None:
    """MAC addresses are locally administered unicast and follow the index."""
    assert mac_of(1000) == "02:00:00:00:03:e8"
    assert len({mac_of(index) for index in range(1000, 70000)}) == 69000
