"""Options of nodes that are refused leave nothing behind: a lab may be asked again. No kernel."""

from __future__ import annotations

from typing import Any

import pytest

from netns_fixtures import Lab, TopologyError


@pytest.fixture
def lab() -> Lab:
    """Described, never built."""
    return Lab()


@pytest.mark.parametrize(
    ("option", "value"),
    [("delay", -1), ("loss", 2), ("firewall", "moat"), ("firewall", "captive-portal"), ("mtu", 1000)],
)
def test_refused_host_leaves_its_name_free(lab: Lab, option: str, value: Any) -> None:
    """A wrong option is an error before there is a host, so the next call may have the name."""
    home = lab.router("home", nat="moderate")
    before = list(lab.topology.pending)
    with pytest.raises(TopologyError):
        lab.host("laptop", uplink=home, **{option: value})
    assert lab.topology.pending == before
    assert lab.host("laptop", uplink=home).name == "laptop"


@pytest.mark.parametrize(
    ("option", "value"),
    [("delay", -1), ("loss", 2), ("firewall", "moat"), ("mtu", 1000), ("port_mapping", "magic")],
)
@pytest.mark.parametrize("nat", ["moderate", "cgnat"])
def test_refused_router_leaves_its_name_free(lab: Lab, nat: str, option: str, value: Any) -> None:
    """A wrong option is an error before there is a router, a carrier's before it included."""
    with pytest.raises(TopologyError):
        lab.router("home", nat=nat, **{option: value})
    assert lab.routers == {}
    assert lab.router("home", nat=nat).name == "home"


def test_router_without_nat_has_no_ports_to_map(lab: Lab) -> None:
    """Said before there is such a router."""
    with pytest.raises(TopologyError, match="no NAT"):
        lab.router("centre", port_mapping="pcp")
    assert lab.routers == {}


def test_router_of_a_v4_lan_may_have_an_mtu_below_1280(lab: Lab) -> None:
    """IPv6 needs 1280 bytes, IPv4 does not."""
    assert lab.router("old", family="v4", mtu=1000).plan.mtu == 1000
    with pytest.raises(TopologyError, match="from 1280"):
        lab.router("new", mtu=1000)


@pytest.mark.parametrize("name", ["h" * 64, "\u00f6" * 32])
def test_name_longer_than_a_dns_label_is_refused(lab: Lab, name: str) -> None:
    """Names stand in DNS and in the names of files."""
    with pytest.raises(TopologyError, match="63 bytes"):
        lab.router(name)
