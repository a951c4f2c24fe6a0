"""Networks that speak IPv4 alone, both, or IPv6 alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from udp_kit import PATIENCE, close_all, hear, is_silent, port_of, udp

from netns_fixtures import Host, Lab, Router, TopologyError


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("families", seed=7) as lab:
        yield lab
    close_all()


def kernel_families(node: Host | Router, interface: str) -> set[str]:
    """The families of all addresses that the kernel has on an interface, link-local ones too."""
    (link,) = json.loads(node.popen(["ip", "-json", "address", "show", "dev", interface]).check(PATIENCE))
    return {a["family"] for a in link["addr_info"]}


def test_host_of_a_v6_only_lan_has_no_ipv4_at_all(net: Lab) -> None:
    """No address, no route: IPv4 fails at once, IPv6 reaches the world."""
    host = net.host("phone", uplink=net.router("mobile", family="v6"))
    server = net.host("server", uplink=net.router("centre"))
    assert (host.ip, host.ip6) == ("", "2001:db8:1::a")
    assert kernel_families(host, "eth0") == {"inet6"}
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as v4, pytest.raises(OSError, match="unreachable"):
        v4.sendto(b"x", (server.ip, 7000))
    assert server.ip6
    there, here = udp(server, 7000, "::"), udp(host, 0, "::")
    here.sendto(b"x", (server.ip6, 7000))
    assert hear(there)[0] == host.ip6


def test_v6_only_router_has_no_ipv4_and_still_filters(net: Lab) -> None:
    """Nothing to translate, but what nobody asked for stays outside, and renumbering works."""
    router = net.router("mobile", nat="moderate", family="v6")
    host, server = net.host("phone", uplink=router), net.host("server", uplink=net.router("centre"))
    assert (router.ip, router.lan) == ("", "")
    assert kernel_families(router, "wan") == kernel_families(router, "lan") == {"inet6"}
    there, here = udp(server, 7000, "::"), udp(host, 0, "::")
    assert server.ip6
    there.sendto(b"unasked", (str(host.ip6), port_of(here)))
    assert is_silent(here)
    for _ in range(2):
        here.sendto(b"hello", (server.ip6, 7000))
        seen = hear(there)
        assert seen[0] == host.ip6
        there.sendto(b"answer", seen)
        assert hear(here)[0] == server.ip6
        router.renumber()
    with pytest.raises(TopologyError, match="no IPv4 LAN"):
        router.renumber("192.168.9.0/24")


def test_host_speaks_one_family_of_a_dual_lan(net: Lab) -> None:
    """A v4 host has not even a link-local IPv6 address, a v6 host no IPv4; both survive replugging."""
    home, office = net.router("home", nat="moderate"), net.router("office")
    old, new = net.host("old", uplink=home, family="v4"), net.host("new", uplink=home, family="v6")
    assert (old.ip6, new.ip) == (None, "")
    for _ in range(2):
        assert kernel_families(old, "eth0") == {"inet"}
        assert kernel_families(new, "eth0") == {"inet6"}
        for host in (old, new):
            host.replug(office)
            host.renumber()
    home.renumber()
    assert (old.ip, new.ip6) != ("", None)


def test_what_a_lan_lacks_cannot_be_asked_for(net: Lab) -> None:
    """A mistake in a description is refused in words before anything is built."""
    v4, v6 = net.router("old", family="v4"), net.router("new", family="v6")
    assert (v4.ip6, v4.lan6, v6.ip, v6.lan) == (None, None, "", "")
    for describe, said in (
        (lambda: net.host("a", uplink=v4, family="v6"), "LAN of 'old' is 'v4'"),
        (lambda: net.host("b", uplink=v6, family="dual"), "LAN of 'new' is 'v6'"),
        (lambda: net.router("c", upstream=v4, family="v6"), "LAN of 'old' is 'v4'"),
        (lambda: net.router("d", family="v5"), "one of v4, dual, v6"),
        (lambda: net.router("e", family="v6", ipv6=False), "contradict"),
        (lambda: net.router("f", family="v4", nat64=True), "from an IPv6 LAN to an IPv4 uplink"),
        (lambda: net.router("g", upstream=v6, nat64=True), "from an IPv6 LAN to an IPv4 uplink"),
    ):
        with pytest.raises(TopologyError, match=said):
            describe()
    inner = net.router("inner", upstream=v6)
    assert (inner.ip, inner.lan) == ("", "")  # what its uplink offers
    assert net.router("plain", upstream=v4, ipv6=False).lan6 is None
