"""A link goes down and comes up: what stays and what comes back, by choice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from udp_kit import PATIENCE, close_all, hear, udp

from netns_fixtures import Host, Lab


@pytest.fixture
def laptop() -> Iterator[Host]:
    with Lab("flap", seed=7) as lab:
        lab.host("server", uplink=lab.router("centre"))
        yield lab.host("laptop", uplink=lab.router("home"))
    close_all()


def kernel(host: Host) -> tuple[list[str], list[str]]:
    """Global addresses and default gateways as the kernel has them."""
    (link,) = json.loads(host.popen(["ip", "-json", "address", "show", "dev", "eth0"]).check(PATIENCE))
    routes = [
        json.loads(host.popen(["ip", "-json", family, "route", "show", "default"]).check(PATIENCE))
        for family in ("-4", "-6")
    ]
    addresses = [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"]
    return addresses, [route["gateway"] for family in routes for route in family]


def reaches(host: Host) -> bool:
    server = host.lab.hosts["server"]
    there, here = udp(server, 0, "::"), udp(host, 0, "::")
    here.sendto(b"x", (str(server.ip6), there.getsockname()[1]))
    return hear(there)[0] == host.ip6


def test_kept_addresses_are_there_while_the_link_is_down(laptop: Host) -> None:
    """As NetworkManager and systemd-networkd have it: routes go, addresses stay, all is back afterwards."""
    before = kernel(laptop)
    laptop.link.down()
    assert kernel(laptop) == (before[0], [])
    laptop.link.up()
    assert kernel(laptop) == before
    assert reaches(laptop)


def test_dropped_addresses_come_back_where_a_manager_restores_them(laptop: Host) -> None:
    """Linux by itself drops IPv6 addresses with the link; the lab knows what was there."""
    before, six = kernel(laptop), laptop.ip6
    laptop.link.down(keep_addresses=False)
    assert kernel(laptop) == ([a for a in before[0] if ":" not in a], [])
    assert laptop.ip6 is None
    laptop.link.up()
    assert kernel(laptop) == before
    assert laptop.ip6 == six
    assert reaches(laptop)


def test_nobody_restores_where_no_manager_runs(laptop: Host) -> None:
    """The kernel alone: no default routes, and no IPv6 address if that was dropped."""
    before = kernel(laptop)
    laptop.link.down()
    laptop.link.up(restore=False)
    assert kernel(laptop) == (before[0], [])
    laptop.link.down(keep_addresses=False)
    laptop.link.up(restore=False)
    assert kernel(laptop) == ([a for a in before[0] if ":" not in a], [])
    assert (laptop.ip6, laptop.link.addresses) == (None, before[0][:1])
    assert any("nobody restored" in event.text for event in laptop.lab.events)
    laptop.renumber()  # what a lease would bring
    assert laptop.ip6
    assert reaches(laptop)
