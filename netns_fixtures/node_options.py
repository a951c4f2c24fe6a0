"""Options of a new node that can be refused: all of them are looked at before the node is made."""

from __future__ import annotations

from collections.abc import Iterable

from netns_fixtures.dhcp.config import LAN_SIZE, DhcpConfig
from netns_fixtures.errors import TopologyError
from netns_fixtures.family import Family
from netns_fixtures.firewall import CAPTIVE_PORTAL, Firewall, firewall_of
from netns_fixtures.nat import NatConfig, nat_config
from netns_fixtures.path_limits import check_mtu_of


def check_options(
    firewall: str | Firewall | None, mtu: int | None, family: Family, *, portal: bool = True
) -> None:
    """Raise TopologyError for a firewall that there is not, or an MTU that this LAN cannot have.

    ``portal``: whether "captive-portal" is one.
    """
    if firewall is not None and not (portal and firewall == CAPTIVE_PORTAL):
        firewall_of(firewall)
    if mtu is not None:
        check_mtu_of(mtu, family)


def check_dhcp(name: str, dhcp: bool | DhcpConfig | None, family: Family) -> None:
    """Raise TopologyError for a server on a LAN without IPv4, or a range that no new LAN has."""
    if dhcp and not family.speaks(4):
        raise TopologyError(f"the LAN of {name!r} has no IPv4, so it can have no DHCP server; leave dhcp out")
    if isinstance(dhcp, DhcpConfig):
        dhcp.numbers(LAN_SIZE)


def check_port_mapping(name: str, protocols: str | Iterable[str], nat: str | NatConfig) -> None:
    """Raise TopologyError for an unknown protocol, or a router without ports to map."""
    from netns_fixtures.portmap.behaviour import protocols_of  # few routers map ports

    protocols_of(protocols)
    if not nat_config(nat).translates:
        raise no_ports(name)


def no_ports(name: str) -> TopologyError:
    """The error for a router that translates nothing."""
    return TopologyError(f"router {name} has no NAT (nat='none'), so it has no ports to map")
