"""Which addresses a node tells of itself."""

from __future__ import annotations

import pytest
from netcheck_run_kit import MINE, SIX, V4

from iroh_py.network import Addr, Interface, InterfaceAddress, NetworkState, Route
from iroh_py.proto.netcheck.addresses import MAX_ADDRESSES, OwnAddresses
from iroh_py.proto.netcheck.report import Findings, Report

LOCAL: Addr = ("192.168.1.5", 4000)


def answer(server: int = 1, mapped: Addr = MINE, varies: bool = False) -> Report:
    findings = Findings()
    findings.handle_mapped((f"198.51.100.{server}", 3478), mapped)
    if varies:
        findings.varies[V4] = True
    return findings.report(started=0.0, finished=0.0, full=True)


NOTHING = Report(started=0.0, finished=0.0, full=True)


def assembled(own: OwnAddresses, *, mapped: Addr | None = None) -> tuple[Addr, ...]:
    return own.assemble(mapped=mapped, local=[LOCAL], local_port=4000)


def network(ip: str = "192.168.1.5", *, generation: int = 0, mac: str = "02:00:00:00:00:01") -> NetworkState:
    gateway = ip.rpartition(".")[0] + ".1"
    eth0 = Interface(2, "eth0", addresses=(InterfaceAddress(ip, 24),), generation=generation)
    route = Route(V4, "0.0.0.0/0", 2, gateway)
    return NetworkState((eth0,), (route,), gateways=((gateway, mac),) if mac else ())


def test_order_is_mapped_public_guessed_local() -> None:
    """The most useful first, each once."""
    own = OwnAddresses()
    own.handle_answer(answer(mapped=("203.0.113.1", 9), varies=True))
    own.handle_answer(answer(mapped=SIX))
    found = assembled(own, mapped=("203.0.113.1", 77))
    assert found == (("203.0.113.1", 77), ("203.0.113.1", 9), ("203.0.113.1", 4000), SIX, LOCAL)


def test_lost_probes_do_not_lose_the_address() -> None:
    """One report without an answer is a grace, the second one ends it."""
    own = OwnAddresses()
    own.handle_report(answer())
    own.handle_report(NOTHING)
    assert assembled(own) == (MINE, LOCAL)
    own.handle_report(NOTHING)
    assert assembled(own) == (LOCAL,)


def test_same_server_sees_us_elsewhere_address_is_replaced_at_once() -> None:
    """The NAT was rebound."""
    own = OwnAddresses()
    own.handle_report(answer())
    own.handle_answer(answer(mapped=("203.0.113.9", 1)))
    assert assembled(own) == (("203.0.113.9", 1), LOCAL)


def test_strict_nat_does_not_change_our_address_with_every_server() -> None:
    """Each server sees another port; only a change at one of them is news."""
    own = OwnAddresses()
    findings = Findings()
    for server, port in ((1, 1000), (2, 2000)):
        findings.handle_mapped((f"198.51.100.{server}", 3478), ("203.0.113.1", port))
    own.handle_report(findings.report(started=0.0, finished=0.0, full=True))
    own.handle_report(answer(server=2, mapped=("203.0.113.1", 2000)))
    assert assembled(own)[0] == ("203.0.113.1", 1000)
    own.handle_report(answer(server=2, mapped=("203.0.113.1", 2001)))
    assert assembled(own)[0] == ("203.0.113.1", 2001)


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        (network(), True),
        (network(mac=""), True),
        (network("192.168.1.6"), False),
        (network(generation=1), False),
        (network(mac="02:00:00:00:00:99"), False),
        (NetworkState(), False),
    ],
)
def test_address_lives_as_long_as_its_way_out(after: NetworkState, kept: bool) -> None:
    """Another address, link generation or router: never tell the old one (M2, M4)."""
    own = OwnAddresses()
    own.handle_network(network())
    own.handle_report(answer())
    own.handle_network(after)
    assert assembled(own) == ((MINE, LOCAL) if kept else (LOCAL,))


def test_number_of_addresses_is_bounded() -> None:
    """A host with a thousand addresses tells forty."""
    local = [(f"10.0.{n // 256}.{n % 256}", 1) for n in range(1000)]
    found = OwnAddresses().assemble(mapped=None, local=local, local_port=None)
    assert len(found) == MAX_ADDRESSES
