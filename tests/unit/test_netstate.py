"""proto/netstate.py: what a snapshot means, and what changed between two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.network import Family, Interface, InterfaceAddress, NetworkState, Route
from iroh_py.proto.netstate import (
    MAX_VIAS,
    NetworkChange,
    diff,
    egress,
    kernel_choice,
    kernel_route_usable,
    local_addresses,
    vias,
    ways,
)

PUBLIC = "203.0.113.1"
PUBLIC6 = "2001:db8:ffff::1"


def ip4(ip: str) -> InterfaceAddress:
    return InterfaceAddress(ip, 24)


def ip6(
    ip: str, *, deprecated: bool = False, tentative: bool = False, temporary: bool = False
) -> InterfaceAddress:
    return InterfaceAddress(ip, 64, deprecated=deprecated, tentative=tentative, temporary=temporary)


LO = Interface(
    1, "lo", loopback=True, addresses=(InterfaceAddress("127.0.0.1", 8), InterfaceAddress("::1", 128))
)
WLAN = Interface(2, "wlan0", mac="02:00:00:00:00:02", addresses=(ip4("192.168.1.10"),), generation=1)
WWAN = Interface(3, "wwan0", mac="02:00:00:00:00:03", addresses=(ip4("100.64.0.7"),), generation=1)
ROUTES = (
    Route(Family.V4, "0.0.0.0/0", 2, "192.168.1.1", metric=10),
    Route(Family.V4, "0.0.0.0/0", 3, "100.64.0.1", metric=20),
    Route(Family.V4, "192.168.1.0/24", 2),
    Route(Family.V4, "100.64.0.0/24", 3),
)
BOTH = NetworkState(
    interfaces=(LO, WLAN, WWAN),
    routes=ROUTES,
    rules=("32766 main",),
    gateways=(("192.168.1.1", "02:00:00:00:01:01"),),
)


def with_interface(state: NetworkState, interface: Interface) -> NetworkState:
    """The state with the interface of the same index replaced."""
    changed = tuple(interface if old.index == interface.index else old for old in state.interfaces)
    return replace(state, interfaces=changed)


def test_equal_states_are_no_change() -> None:
    """The same snapshot again is no change, and false."""
    change = diff(BOTH, BOTH)
    assert change == NetworkChange()
    assert not change


def test_order_does_not_count() -> None:
    """The kernel may list links, addresses, routes and rules in any order."""
    two = with_interface(BOTH, replace(WLAN, addresses=(ip4("192.168.1.10"), ip4("192.168.1.11"))))
    shuffled = NetworkState(
        interfaces=tuple(replace(i, addresses=i.addresses[::-1]) for i in reversed(two.interfaces)),
        routes=two.routes[::-1],
        rules=two.rules[::-1],
        gateways=two.gateways[::-1],
    )
    assert not diff(two, shuffled)


def test_added_address_at_the_end_is_major() -> None:
    """An address appended to the list counts (trap 9: a pairwise comparison misses it)."""
    more = with_interface(BOTH, replace(WLAN, addresses=(*WLAN.addresses, ip4("192.168.1.11"))))
    change = diff(BOTH, more)
    assert change.major
    assert change.reasons == ("wlan0 192.168.1.11 new",)
    assert (change.gone, change.new) == ((), ("192.168.1.11",))


def test_removed_address_is_major() -> None:
    """An address that goes counts, although everything else stays."""
    two = with_interface(BOTH, replace(WLAN, addresses=(*WLAN.addresses, ip4("192.168.1.11"))))
    change = diff(two, BOTH)
    assert change.major
    assert change.reasons == ("wlan0 192.168.1.11 gone",)
    assert (change.gone, change.new) == (("192.168.1.11",), ())


def test_renumbering_within_the_subnet_tells_both_addresses() -> None:
    """A new address from DHCP is the only difference, and a major one."""
    change = diff(BOTH, with_interface(BOTH, replace(WLAN, addresses=(ip4("192.168.1.99"),))))
    assert change.major
    assert change.reasons == ("wlan0 192.168.1.10 gone", "wlan0 192.168.1.99 new")
    assert str(change) == "wlan0 192.168.1.10 gone, wlan0 192.168.1.99 new"


def test_lost_carrier_is_major_and_takes_the_address_along() -> None:
    """Nothing can be sent from the address of a link without carrier, although it is still configured."""
    change = diff(BOTH, with_interface(BOTH, replace(WLAN, running=False)))
    assert change.major
    assert change.reasons == ("wlan0 lost its carrier",)
    assert change.gone == ("192.168.1.10",)


def test_carrier_back_is_major() -> None:
    """The link's return is as much news as its loss."""
    dark = with_interface(BOTH, replace(WLAN, running=False))
    change = diff(dark, with_interface(BOTH, replace(WLAN, generation=2)))
    assert change.reasons == ("wlan0 has its carrier again",)
    assert change.new == ("192.168.1.10",)


def test_link_down_and_up() -> None:
    """Administrative changes are told as such."""
    down = with_interface(BOTH, replace(WLAN, up=False, running=False))
    assert diff(BOTH, down).reasons == ("wlan0 is down",)
    assert diff(down, BOTH).reasons == ("wlan0 is up",)


def test_generation_alone_is_major() -> None:
    """A link that was down between two looks may lead to another network now (M2)."""
    change = diff(BOTH, with_interface(BOTH, replace(WLAN, generation=2)))
    assert change.major
    assert change.reasons == ("wlan0 was down in between",)


def test_gateway_with_another_mac_is_major() -> None:
    """The same address and gateway address, another router behind it: another network (M2)."""
    change = diff(BOTH, replace(BOTH, gateways=(("192.168.1.1", "02:00:00:00:09:09"),)))
    assert change.major
    assert change.reasons == ("gateway 192.168.1.1 has another MAC",)


@pytest.mark.parametrize(
    "gateways",
    [
        (),
        (("192.168.1.1", ""),),
        (("192.168.1.1", "02:00:00:00:01:01"), ("192.168.1.1", "02:00:00:00:07:07")),
    ],
)
def test_learning_or_forgetting_a_gateway_mac_is_no_change(gateways: tuple[tuple[str, str], ...]) -> None:
    """The kernel resolves gateways lazily and forgets them; neither says that the network is another one."""
    assert not diff(BOTH, replace(BOTH, gateways=gateways))
    assert not diff(replace(BOTH, gateways=gateways), BOTH)


def test_default_route_change_is_major() -> None:
    """A default route that goes, comes, or changes its metric moves packets elsewhere."""
    without = replace(BOTH, routes=BOTH.routes[1:])
    assert diff(BOTH, without).reasons == ("default route via 192.168.1.1 dev wlan0 gone",)
    assert diff(without, BOTH).reasons == ("default route via 192.168.1.1 dev wlan0",)
    dearer = replace(BOTH, routes=(replace(BOTH.routes[0], metric=30), *BOTH.routes[1:]))
    assert diff(BOTH, dearer).major


def test_connected_route_is_not_told_beside_its_address() -> None:
    """The route that the kernel adds with an address is not a second reason."""
    no_address = replace(
        with_interface(BOTH, replace(WWAN, addresses=())),
        routes=tuple(route for route in ROUTES if route.interface != 3),
    )
    change = diff(no_address, BOTH)
    assert change.reasons == ("wwan0 100.64.0.7 new", "default route via 100.64.0.1 dev wwan0")


def test_other_routes_count() -> None:
    """A route to some network, as a VPN brings, is a change by itself."""
    tunnel = replace(BOTH, routes=(*BOTH.routes, Route(Family.V4, "10.8.0.0/16", 3, metric=5)))
    assert diff(BOTH, tunnel).reasons == ("route to 10.8.0.0/16 dev wwan0",)


def test_rules_count() -> None:
    """Policy routing rules are opaque; that they differ is a change."""
    assert diff(BOTH, replace(BOTH, rules=(*BOTH.rules, "77 from 10.0.0.0/8 lookup 100"))).major


def test_interface_gone_or_replaced() -> None:
    """An unplugged adapter is told by name; one that comes back under its name is a replacement."""
    unplugged = replace(BOTH, interfaces=(LO, WWAN), routes=BOTH.routes[1:2] + BOTH.routes[3:])
    change = diff(BOTH, unplugged)
    assert change.reasons[0] == "wlan0 is gone"
    assert change.gone == ("192.168.1.10",)
    other = replace(BOTH, interfaces=(LO, replace(WLAN, index=9), WWAN))
    change = diff(BOTH, other)
    assert change.major
    assert change.reasons[0] == "wlan0 was replaced"
    assert (change.gone, change.new) == ((), ())


def test_container_links_do_not_count() -> None:
    """Links that carry no address of ours and no route come and go without a word."""
    veth = Interface(40, "veth40", addresses=(ip6("fe80::40"),))
    assert not diff(BOTH, replace(BOTH, interfaces=(*BOTH.interfaces, veth)))
    assert not diff(replace(BOTH, interfaces=(*BOTH.interfaces, veth)), BOTH)


def test_rename_does_not_count() -> None:
    """The name of a link means nothing to packets."""
    assert not diff(BOTH, with_interface(BOTH, replace(WLAN, name="wlp2s0")))


def test_tentative_address_is_new_once_it_is_ready() -> None:
    """Duplicate address detection delays the news, it does not swallow it."""
    tentative = with_interface(
        BOTH, replace(WLAN, addresses=(*WLAN.addresses, ip6("2001:db8::1", tentative=True)))
    )
    ready = with_interface(BOTH, replace(WLAN, addresses=(*WLAN.addresses, ip6("2001:db8::1"))))
    assert not diff(BOTH, tentative)
    assert diff(tentative, ready).new == ("2001:db8::1",)


def test_deprecation_is_minor() -> None:
    """An address that rotates out still works: new addresses to tell, but no path to question (M19)."""
    old = with_interface(BOTH, replace(WLAN, addresses=(ip6("2001:db8::1"), ip6("2001:db8::2"))))
    new = with_interface(
        BOTH, replace(WLAN, addresses=(ip6("2001:db8::1", deprecated=True), ip6("2001:db8::2")))
    )
    change = diff(old, new)
    assert change
    assert not change.major
    assert change.reasons == ("wlan0 2001:db8::1 deprecated",)
    assert (change.gone, change.new) == ((), ())


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


addresses = st.builds(
    InterfaceAddress,
    st.sampled_from(
        ["10.0.0.1", "10.0.0.2", "169.254.1.1", "fe80::1", "fd00::1", "2001:db8::1", "2001:db8::2"]
    ),
    st.sampled_from([24, 64]),
    deprecated=st.booleans(),
    tentative=st.booleans(),
    temporary=st.booleans(),
)
interfaces = st.builds(
    Interface,
    st.integers(1, 4),
    st.sampled_from(["lo", "a", "b"]),
    up=st.booleans(),
    running=st.booleans(),
    loopback=st.booleans(),
    addresses=st.lists(addresses, max_size=3, unique_by=lambda a: a.ip).map(tuple),
    generation=st.integers(0, 2),
)
routes = st.one_of(
    st.builds(
        Route,
        st.just(Family.V4),
        st.sampled_from(["0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/8"]),
        st.integers(1, 5),
        st.sampled_from(["", "10.0.0.254"]),
        metric=st.integers(0, 2),
        dead=st.booleans(),
    ),
    st.builds(Route, st.just(Family.V6), st.sampled_from(["::/0", "fd00::/64"]), st.integers(1, 5)),
)
states = st.builds(
    NetworkState,
    st.lists(interfaces, max_size=4, unique_by=lambda i: i.index).map(tuple),
    st.lists(routes, max_size=4).map(tuple),
)


@given(states, states)
def test_any_change_of_what_can_be_used_has_a_reason(old: NetworkState, new: NetworkState) -> None:
    """No change of the addresses to send from, or to tell, is without a reason."""
    change = diff(old, new)
    assert bool(change) == bool(change.reasons)
    assert not diff(old, old)
    if change.gone or change.new:
        assert change.major
    told = [
        {ip for ip in local_addresses(state) if not ip.startswith(("127.", "::1"))}
        & {a.ip for i in state.interfaces if not i.loopback for a in i.addresses}
        for state in (old, new)
    ]
    if told[0] != told[1] and not any(i.loopback for s in (old, new) for i in s.interfaces):
        assert change


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
