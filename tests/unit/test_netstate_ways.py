"""Which ways out of a network state can be used."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from netstate_kit import (
    BOTH,
    LO,
    WLAN,
    WWAN,
    ip4,
    ip6,
    states,
    with_interface,
)

from iroh_py.network import Family, Interface, NetworkState, Route
from iroh_py.proto.netstate import (
    MAX_VIAS,
    egress,
    kernel_choice,
    kernel_route_usable,
    local_addresses,
    vias,
    ways,
)

PUBLIC = "203.0.113.1"


PUBLIC6 = "2001:db8:ffff::1"


def test_local_addresses_are_the_regular_ones() -> None:
    """No loopback, link-local, tentative or deprecated ones, none of dead links; temporary ones first."""
    state = NetworkState(
        interfaces=(
            LO,
            replace(
                WLAN,
                addresses=(
                    ip4("192.168.1.10"),
                    ip4("169.254.3.4"),
                    ip6("fe80::1"),
                    ip6("2001:db8::1"),
                    ip6("2001:db8::9", temporary=True),
                    ip6("2001:db8::3", deprecated=True),
                    ip6("2001:db8::4", tentative=True),
                    ip6("fd00::1"),
                ),
            ),
            replace(WWAN, running=False),
            Interface(4, "eth0", addresses=(ip4("10.0.0.5"),)),
        )
    )
    assert local_addresses(state) == ("10.0.0.5", "192.168.1.10", "2001:db8::9", "2001:db8::1")


def test_local_addresses_fall_back_step_by_step() -> None:
    """ULAs stand in for missing IPv6, IPv4 link-local for everything, loopback for even that."""
    ula = NetworkState(interfaces=(LO, replace(WLAN, addresses=(ip4("192.168.1.10"), ip6("fd00::1")))))
    assert local_addresses(ula) == ("192.168.1.10", "fd00::1")
    link_local = NetworkState(interfaces=(LO, replace(WLAN, addresses=(ip4("169.254.3.4"), ip6("fe80::1")))))
    assert local_addresses(link_local) == ("169.254.3.4",)
    assert local_addresses(NetworkState(interfaces=(LO,))) == ("127.0.0.1", "::1")
    assert local_addresses(NetworkState()) == ()


def test_egress_follows_the_metric_and_needs_carrier() -> None:
    """Links to leave by come in the kernel's order, dead ones not at all."""
    assert egress(BOTH, Family.V4) == (2, 3)
    assert egress(with_interface(BOTH, replace(WLAN, running=False)), Family.V4) == (3,)
    assert egress(BOTH, Family.V6) == ()


def test_egress_takes_links_without_default_route_last() -> None:
    """A link that reaches only its own subnet can be a way, but the last one to try."""
    lan = Interface(4, "eth0", addresses=(ip4("10.0.0.5"),))
    state = replace(
        BOTH, interfaces=(*BOTH.interfaces, lan), routes=(Route(Family.V4, "10.0.0.0/24", 4), *BOTH.routes)
    )
    assert egress(state, Family.V4) == (2, 3, 4)


def test_kernel_choice_is_the_longest_prefix_then_the_metric() -> None:
    """As the kernel: on-link before default, the cheaper default before the dearer."""
    assert kernel_choice(BOTH, PUBLIC) == 2
    assert kernel_choice(BOTH, "100.64.0.99") == 3
    assert kernel_choice(BOTH, PUBLIC6) is None


def test_kernel_keeps_a_route_without_carrier() -> None:
    """The kernel routes into a link without carrier; the other link is the way out (the case of issue A)."""
    flagged = tuple(replace(r, linkdown=r.interface == 2) for r in BOTH.routes)
    dark = replace(with_interface(BOTH, replace(WLAN, running=False)), routes=flagged)
    assert kernel_choice(dark, PUBLIC) == 2
    assert not kernel_route_usable(dark, PUBLIC)
    assert vias(dark, PUBLIC) == (3,)
    assert kernel_route_usable(BOTH, PUBLIC)


def test_dialling_follows_the_kernel_while_its_route_looks_well() -> None:
    """Others come later then; at once where the kernel's link lost its carrier; a lone route is tried anyhow."""
    dark = with_interface(BOTH, replace(WLAN, running=False))
    assert ways(BOTH, PUBLIC) == ((0,), (3,))
    assert ways(dark, PUBLIC) == ((3,), ())
    assert ways(replace(BOTH, routes=()), PUBLIC) == ((0,), ())
    assert ways(BOTH, "127.0.0.1") == ((0,), ())


def test_kernel_skips_dead_routes_and_links_that_are_down() -> None:
    """With ignore_routes_with_linkdown, or the link down, the kernel takes the next route itself."""
    dead = replace(BOTH, routes=tuple(replace(r, dead=r.interface == 2) for r in BOTH.routes))
    assert kernel_choice(dead, PUBLIC) == 3
    assert kernel_choice(with_interface(BOTH, replace(WLAN, up=False, running=False)), PUBLIC) == 3


def test_no_route_is_not_usable() -> None:
    """Without a route there is neither a choice nor an alternative."""
    bare = replace(BOTH, routes=())
    assert kernel_choice(bare, PUBLIC) is None
    assert not kernel_route_usable(bare, PUBLIC)
    assert vias(bare, PUBLIC) == ()


def test_own_and_loopback_addresses_stay_on_the_host() -> None:
    """No interface is tried for an address of this host: the kernel delivers it by loopback."""
    for ip in ("127.0.0.1", "192.168.1.10", "::1"):
        assert kernel_choice(BOTH, ip) == 1
        assert kernel_route_usable(BOTH, ip)
        assert vias(BOTH, ip) == ()


def test_vias_are_links_that_reach_the_destination() -> None:
    """A link without a route to the destination is no alternative."""
    lan = Interface(4, "eth0", addresses=(ip4("10.0.0.5"),))
    state = replace(
        BOTH, interfaces=(*BOTH.interfaces, lan), routes=(*BOTH.routes, Route(Family.V4, "10.0.0.0/24", 4))
    )
    assert vias(state, PUBLIC) == (3,)
    assert vias(state, "10.0.0.77") == (2, 3)


def test_vias_are_bounded() -> None:
    """A host with many uplinks tries a few."""
    links = tuple(Interface(i, f"eth{i}", addresses=(ip4(f"10.0.{i}.2"),)) for i in range(2, 20))
    routes = tuple(Route(Family.V4, "0.0.0.0/0", i, f"10.0.{i}.1", metric=i) for i in range(2, 20))
    assert vias(NetworkState((LO, *links), routes), PUBLIC) == tuple(range(3, 3 + MAX_VIAS))


def test_ipv6_routes_are_of_their_own() -> None:
    """Each family has its own choice."""
    six = replace(WLAN, addresses=(*WLAN.addresses, ip6("2001:db8::1")))
    state = replace(
        with_interface(BOTH, six), routes=(*BOTH.routes, Route(Family.V6, "::/0", 2, "fe80::1", metric=1024))
    )
    assert kernel_choice(state, PUBLIC6) == 2
    assert egress(state, Family.V6) == (2,)


@given(states, st.sampled_from([PUBLIC, PUBLIC6, "10.0.0.9", "fd00::9", "127.0.0.1"]))
def test_alternatives_are_usable_and_differ_from_the_choice(state: NetworkState, ip: str) -> None:
    """Whatever the state, each alternative is a usable link, none is the kernel's own choice."""
    choice = kernel_choice(state, ip)
    for index in vias(state, ip):
        interface = state.interface(index)
        assert interface is not None
        assert interface.usable
        assert index != choice
        assert index in egress(state, Family.of(ip))
