"""Network states of a laptop."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from iroh_py.network import Family, Interface, InterfaceAddress, NetworkState, Route


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
