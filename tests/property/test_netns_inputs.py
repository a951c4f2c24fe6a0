"""Whatever somebody writes into a description: a value, or a TopologyError."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.addressing import AddressPool, IPv4Network, SubnetPlan, parse_ip
from netns_fixtures.errors import TopologyError
from netns_fixtures.lab import Lab

TEXTS = st.text(max_size=40) | st.from_regex(r"[0-9a-f:.]{1,40}(/[0-9]{1,3})?", fullmatch=True)


@given(TEXTS)
def test_any_address_text_is_an_address_or_a_topology_error(text: str) -> None:
    """parse_ip, reserve and claim raise nothing else."""
    pool = AddressPool(IPv4Network("192.168.1.0/24"))
    for parser in (parse_ip, pool.reserve, SubnetPlan().claim):
        try:
            parser(text)
        except TopologyError:
            pass


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_name_describes_or_is_a_topology_error(router: str, host: str, interface: str) -> None:
    """Describing touches no kernel, and refuses with one kind of error."""
    lab = Lab()
    try:
        home = lab.router(router)
        lab.host(host, uplink={interface: home})
    except TopologyError:
        pass
    else:
        assert lab.hosts[host].interface(interface).router is home


@given(st.lists(st.booleans(), max_size=300))
def test_pool_never_gives_an_address_to_two(steps: list[bool]) -> None:
    """Allocate and release in any order: what is out is unique, inside, and not the router's."""
    pool = AddressPool(IPv4Network("10.0.0.0/27"))
    out: list[str] = []
    for allocate in steps:
        if not allocate:
            if out:
                pool.release(out.pop(0))
            continue
        try:
            ip = pool.allocate()
        except TopologyError:
            assert len(out) == 30 - 10 + 1
            continue
        assert ip not in out
        assert ip != pool.gateway
        out.append(ip)
