"""iroh_py.testing.nat_table: RFC 4787 mapping, filtering, ports and timeouts as tables."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.network import Addr
from iroh_py.testing import Filtering, Mapping, NatConfig, Ports, TopologyError
from iroh_py.testing.nat_table import NatTable, nat_kind

INNER: Addr = ("192.168.1.10", 40_000)
PEER: Addr = ("198.51.100.1", 1000)
PEER_OTHER_PORT: Addr = ("198.51.100.1", 2000)
STRANGER: Addr = ("198.51.100.2", 1000)


def table(config: NatConfig) -> NatTable:
    return NatTable(config, random.Random(1))


@pytest.mark.parametrize(
    ("mapping", "same_for_other_port", "same_for_other_ip"),
    [(Mapping.EIM, True, True), (Mapping.ADM, True, False), (Mapping.EDM, False, False)],
    ids=["eim", "adm", "edm"],
)
def test_mapping_decides_when_the_outside_port_changes(
    mapping: Mapping, same_for_other_port: bool, same_for_other_ip: bool
) -> None:
    """One inside socket keeps its outside port towards other ports or addresses as RFC 4787 4.1 defines."""
    nat = table(NatConfig(mapping=mapping, ports=Ports.RANDOM))
    port = nat.outbound(0, INNER, PEER)
    assert nat.outbound(1, INNER, PEER) == port
    assert (nat.outbound(1, INNER, PEER_OTHER_PORT) == port) is same_for_other_port
    assert (nat.outbound(1, INNER, STRANGER) == port) is same_for_other_ip


@pytest.mark.parametrize(
    ("filtering", "other_port_passes", "stranger_passes"),
    [(Filtering.EIF, True, True), (Filtering.ADF, True, False), (Filtering.APDF, False, False)],
    ids=["eif", "adf", "apdf"],
)
def test_filtering_decides_who_may_answer(
    filtering: Filtering, other_port_passes: bool, stranger_passes: bool
) -> None:
    """The peer that was sent to may answer; its other ports and strangers as RFC 4787 5 defines."""
    nat = table(NatConfig(filtering=filtering))
    port = nat.outbound(0, INNER, PEER)
    assert nat.inbound(1, port, PEER) == INNER
    assert (nat.inbound(1, port, PEER_OTHER_PORT) == INNER) is other_port_passes
    assert (nat.inbound(1, port, STRANGER) == INNER) is stranger_passes


def test_a_port_is_preserved_until_two_hosts_want_it() -> None:
    """The first host keeps its port outside, the second with the same port gets another, stable one."""
    nat = table(nat_kind("moderate"))
    second: Addr = ("192.168.1.11", INNER[1])
    assert nat.outbound(0, INNER, PEER) == INNER[1]
    port = nat.outbound(0, second, PEER)
    assert port != INNER[1]
    assert nat.outbound(1, second, STRANGER) == port
    assert nat.inbound(1, port, STRANGER) == second


def test_sequential_ports_count_up() -> None:
    """A sequential NAT gives neighbouring ports to following mappings."""
    nat = table(NatConfig(mapping=Mapping.EDM, ports=Ports.SEQUENTIAL))
    first = nat.outbound(0, INNER, PEER)
    assert nat.outbound(0, INNER, STRANGER) == first + 1


def test_unknown_ports_lead_nowhere() -> None:
    """A packet to a port without mapping is dropped."""
    assert table(nat_kind("open")).inbound(0, 5555, PEER) == "nat-no-mapping"


def test_idle_mappings_expire_and_traffic_refreshes_them() -> None:
    """A mapping lives its timeout after the last packet of either direction."""
    nat = table(NatConfig(timeout=30, filtering=Filtering.EIF, ports=Ports.RANDOM))
    port = nat.outbound(0, INNER, PEER)
    assert nat.inbound(29, port, PEER) == INNER
    assert nat.inbound(58, port, PEER) == INNER
    assert nat.inbound(89, port, PEER) == "nat-expired"
    assert nat.outbound(90, INNER, PEER) != port


def test_pinholes_expire_one_by_one() -> None:
    """A mapping kept alive by one peer does not stay open for another."""
    nat = table(NatConfig(timeout=30))
    port = nat.outbound(0, INNER, PEER)
    nat.outbound(0, INNER, STRANGER)
    nat.outbound(25, INNER, PEER)
    assert nat.inbound(40, port, PEER) == INNER
    assert nat.inbound(40, port, STRANGER) == "nat-filtered"


def test_an_absolute_lifetime_ends_busy_mappings() -> None:
    """With a lifetime, a mapping dies that long after its creation although traffic never stopped (M13)."""
    nat = table(NatConfig(lifetime=50, ports=Ports.RANDOM))
    port = nat.outbound(0, INNER, PEER)
    for now in range(0, 51, 5):
        assert nat.outbound(now, INNER, PEER) == port
    assert nat.outbound(51, INNER, PEER) != port


def test_a_flush_gives_a_preserving_nat_the_same_port_again() -> None:
    """Flushing is not rebinding where ports are preserved (LAB.md 6.4)."""
    nat = table(nat_kind("moderate"))
    port = nat.outbound(0, INNER, PEER)
    nat.flush()
    assert nat.inbound(1, port, PEER) == "nat-no-mapping"
    assert nat.outbound(1, INNER, PEER) == port


def test_a_rebind_gives_another_port_for_good() -> None:
    """After a rebind the old port is dead and not handed out again, and the new mapping is stable."""
    nat = table(nat_kind("moderate"))
    old = nat.outbound(0, INNER, PEER)
    nat.rebind()
    new = nat.outbound(1, INNER, PEER)
    assert new != old
    assert nat.outbound(2, INNER, STRANGER) == new
    assert nat.inbound(2, old, PEER) == "nat-no-mapping"
    nat.rebind()
    assert nat.outbound(3, INNER, PEER) not in {old, new}


def test_ageing_expires_as_waiting_does() -> None:
    """A table that is made older drops what would have expired in that time."""
    nat = table(NatConfig(timeout=30))
    port = nat.outbound(0, INNER, PEER)
    nat.age(31)
    assert nat.inbound(0, port, PEER) == "nat-expired"


def test_a_firewall_admits_answers_only() -> None:
    """Without translation the same filtering protects the inside address."""
    nat = table(nat_kind("moderate"))
    assert nat.admit(0, INNER, PEER) == "firewalled"
    nat.outbound(0, INNER, PEER)
    assert nat.admit(1, INNER, PEER) is None
    assert nat.admit(1, INNER, STRANGER) == "nat-filtered"


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    """A misspelt kind names the kinds that exist."""
    with pytest.raises(TopologyError, match="moderate"):
        nat_kind("symmetric")


addresses = st.tuples(st.sampled_from(["192.168.1.10", "192.168.1.11"]), st.integers(1000, 1003))
remotes = st.tuples(st.sampled_from(["198.51.100.1", "198.51.100.2"]), st.integers(1, 3))
steps = st.lists(st.tuples(st.floats(0, 40), addresses, remotes, st.sampled_from(["out", "flush", "rebind"])))


@given(steps, st.sampled_from(list(Mapping)), st.sampled_from(list(Filtering)), st.sampled_from(list(Ports)))
def test_whatever_happens_an_answer_reaches_who_asked(
    history: list[tuple[float, Addr, Addr, str]], mapping: Mapping, filtering: Filtering, ports: Ports
) -> None:
    """Right after any outbound packet, the answer to it comes back to its inside address, and to no other."""
    nat = table(NatConfig(mapping=mapping, filtering=filtering, ports=ports, timeout=30, lifetime=50))
    now = 0.0
    for wait, inner, remote, verb in history:
        now += wait
        if verb == "flush":
            nat.flush()
        elif verb == "rebind":
            nat.rebind()
        port = nat.outbound(now, inner, remote)
        assert nat.inbound(now, port, remote) == inner


def test_many_flows_stay_within_the_port_space() -> None:
    """A flood of mappings evicts the oldest instead of growing or hanging."""
    nat = table(dataclasses.replace(nat_kind("strict"), ports=Ports.SEQUENTIAL))
    for number in range(66_000):
        nat.outbound(0, INNER, ("198.51.100.1", number))
    assert len(nat) == 64_000
