"""By which address one node sees another: NATs in between change it, and only those in between."""

from __future__ import annotations

import pytest

from netns_fixtures import Lab, TopologyError
from netns_fixtures.sight import seen_addresses


def test_host_behind_a_nat_is_its_outside_and_its_own_ipv6_address() -> None:
    """IPv4 is translated, IPv6 is not."""
    with Lab() as lab:
        office, home = lab.router("office", nat="moderate"), lab.router("home", nat="moderate")
        peer = lab.host("peer", uplink=home)
        assert seen_addresses(office, peer) == (home.ip, peer.ip6)


def test_own_host_is_seen_as_it_is_in_every_nat_above_it_as_translated() -> None:
    """The router of a LAN sees inside addresses; its carrier sees the router's."""
    with Lab() as lab:
        phone = lab.router("phone", nat="cgnat")
        host = lab.host("host", uplink=phone)
        carrier = lab.routers["phone-carrier"]
        assert seen_addresses(phone, host)[0] == host.ip
        assert seen_addresses(carrier, host)[0] == phone.ip
        assert seen_addresses(lab.router("far"), host)[0] == carrier.ip


def test_hosts_of_one_lan_see_each_other_as_they_are() -> None:
    """And by name; a host elsewhere sees the NAT."""
    with Lab() as lab:
        home = lab.router("home", nat="strict")
        one, two = lab.host("one", uplink=home), lab.host("two", uplink=home)
        far = lab.host("far", uplink=lab.router("centre"))
        assert seen_addresses(one, "two") == (two.ip, two.ip6)
        assert seen_addresses(far, one) == (home.ip, one.ip6)


def test_router_is_its_uplink_and_what_of_its_lan_is_not_translated() -> None:
    """Without NAT both subnets; with it the IPv6 one."""
    with Lab() as lab:
        viewer, plain, nat = lab.router("viewer"), lab.router("plain"), lab.router("nat", nat="open")
        assert seen_addresses(viewer, plain) == (plain.ip, plain.ip6, plain.lan, plain.lan6)
        assert seen_addresses(viewer, nat) == (nat.ip, nat.ip6, nat.lan6)


def test_translated_ipv6_is_what_the_world_sees() -> None:
    """NPTv6 keeps the host's part, NAT66 is the router's address; the router itself sees the inside."""
    with Lab() as lab:
        npt, nat66 = lab.router("npt", ipv6_nat="nptv6"), lab.router("nat66", ipv6_nat="nat66")
        one, two = lab.host("one", uplink=npt), lab.host("two", uplink=nat66)
        viewer = lab.router("viewer")
        assert npt.outside6 is not None
        assert one.ip6 is not None
        prefix = npt.outside6.removesuffix("/64")
        assert seen_addresses(viewer, one) == (one.ip, prefix + one.ip6.rpartition("::")[2])
        assert seen_addresses(viewer, two) == (two.ip, nat66.ip6)
        assert seen_addresses(npt, one) == (one.ip, one.ip6)


def test_text_is_a_name_an_address_or_refused() -> None:
    """Addresses and networks stay; nobody is everybody."""
    with Lab() as lab:
        viewer = lab.router("viewer")
        assert seen_addresses(viewer, "192.0.2.0/24") == ("192.0.2.0/24",)
        assert seen_addresses(viewer, None) == ()
        with pytest.raises(TopologyError, match="no address or network"):
            seen_addresses(viewer, "nobody")
