"""proto/netstate.py: what a snapshot means, and what changed between two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from netstate_kit import (
    BOTH,
    LO,
    ROUTES,
    WLAN,
    WWAN,
    ip4,
    ip6,
    states,
    with_interface,
)

from iroh_py.network import Family, Interface, NetworkState, Route
from iroh_py.proto.netstate import (
    NetworkChange,
    diff,
    local_addresses,
)


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
