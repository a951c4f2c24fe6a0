"""A DHCP client under a virtual clock: when it asks what, and what it does with the answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from dhcp_kit import Ethernet

from netns_fixtures import TopologyError
from netns_fixtures.dhcp.client import Configure, Probe, State, Unconfigure
from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig
from netns_fixtures.dhcp.options import Option, packed
from netns_fixtures.dhcp.packet import Kind, Message

HOUR = DhcpConfig(lease=3600)


def test_four_messages_make_a_lease() -> None:
    """DISCOVER, OFFER, REQUEST, ACK; then the interface is configured."""
    lan = Ethernet(HOUR)
    laptop = lan.leased()
    assert laptop.kinds == [Kind.DISCOVER, Kind.REQUEST]
    assert [to for _now, _message, to in laptop.sent] == ["", ""]
    request = laptop.sent[1][1]
    assert request.options[Option.REQUESTED_IP] == packed(("192.168.1.100",))
    assert request.options[Option.SERVER_ID] == packed(("192.168.1.1",))
    assert (laptop.machine.state, laptop.ip, laptop.told) == (State.BOUND, "192.168.1.100", ["leased"])
    (configured,) = laptop.done
    assert isinstance(configured, Configure)
    lease = configured.lease
    assert (lease.t1, lease.t2, lease.expires) == (1800, 3150, lan.now + 3600)
    assert (lease.router, lease.dns, lease.domain) == ("192.168.1.1", ("203.0.113.53",), "lab")


def test_rapid_commit_needs_two_messages() -> None:
    """RFC 4039, where both want it; a server that does not offers as ever."""
    lan = Ethernet(replace(HOUR, rapid_commit=True))
    assert lan.leased(DhcpClient(rapid_commit=True)).kinds == [Kind.DISCOVER]
    assert lan.leased().kinds == [Kind.DISCOVER, Kind.REQUEST]
    old = Ethernet(HOUR)
    assert old.leased(DhcpClient(rapid_commit=True)).kinds == [Kind.DISCOVER, Kind.REQUEST]


def test_question_is_repeated_with_doubled_delays() -> None:
    """RFC 2131 4.1: 4, 8, 16, 32, 64, 64 s, each a second more or less; here a 16th of it."""
    lan = Ethernet(HOUR)
    lan.deaf = True
    laptop = lan.guest(DhcpClient(retry_interval=0.25))
    laptop.machine.link_up(lan.now)
    lan.run(15)
    times = [now for now, _message, _to in laptop.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    for gap, expected in zip(gaps, [0.25, 0.5, 1, 2, 4, 4], strict=False):
        assert abs(gap - expected) <= 0.0625 + 1e-9
    assert len(gaps) >= 6
    assert set(laptop.kinds) == {Kind.DISCOVER}
    lan.deaf = False
    lan.run(5)
    assert laptop.ip == "192.168.1.100"


def test_lease_is_renewed_at_half_its_time_by_unicast() -> None:
    """T1: to the server that gave it, with the address in ciaddr and in no option."""
    lan = Ethernet(DhcpConfig(lease=100))
    laptop = lan.leased()
    lan.run(49.9)
    assert len(laptop.sent) == 2
    lan.run(0.2)
    now, request, to = laptop.sent[2]
    assert (now - 1000, request.kind, request.ciaddr, to) == (
        50,
        Kind.REQUEST,
        "192.168.1.100",
        "192.168.1.1",
    )
    assert not {Option.REQUESTED_IP, Option.SERVER_ID} & request.options.keys()
    assert (laptop.told, laptop.machine.state) == (["leased", "renewed"], State.BOUND)
    lan.run(1000)
    assert laptop.ip == "192.168.1.100"
    assert not [x for x in laptop.done if isinstance(x, Unconfigure)]


def test_times_of_the_server_win_over_halves() -> None:
    """Options 58 and 59."""
    lan = Ethernet(DhcpConfig(lease=100, t1=10, t2=20))
    laptop = lan.leased()
    lan.run(9.9)
    assert len(laptop.sent) == 2
    lan.run(0.2)
    assert len(laptop.sent) == 3


def test_silent_server_costs_the_address_at_the_end_of_the_lease() -> None:
    """RENEWING by unicast, REBINDING by broadcast, then nothing is left but to begin anew."""
    lan = Ethernet(DhcpConfig(lease=100))
    laptop = lan.leased()
    lan.deaf = True
    lan.run(87)
    assert (laptop.machine.state, {to for _n, _m, to in laptop.sent[2:]}) == (State.RENEWING, {"192.168.1.1"})
    lan.run(1)
    assert (laptop.machine.state, laptop.sent[-1][2]) == (State.REBINDING, "")
    assert laptop.sent[-1][1].ciaddr == "192.168.1.100"
    lan.run(11.9)
    assert laptop.ip == "192.168.1.100"
    lan.run(0.2)
    assert (laptop.ip, laptop.told) == ("", ["leased", "rebinding", "expired"])
    assert isinstance(laptop.done[-1], Unconfigure)
    assert laptop.kinds[-1] is Kind.DISCOVER
    lan.deaf = False
    lan.run(10)
    assert laptop.ip == "192.168.1.100"


def test_rebinding_takes_the_answer_of_any_server() -> None:
    """The server came back in time."""
    lan = Ethernet(DhcpConfig(lease=100))
    laptop = lan.leased()
    lan.deaf = True
    lan.run(90)
    lan.deaf = False
    lan.run(9)
    assert (laptop.machine.state, laptop.told[-1]) == (State.BOUND, "renewed")
    assert laptop.machine.lease is not None
    assert laptop.machine.lease.expires > 1150


def test_link_that_comes_back_asks_for_the_old_address() -> None:
    """INIT-REBOOT: a REQUEST by broadcast with option 50 and no server (RFC 2131 4.4.2)."""
    lan = Ethernet(HOUR)
    laptop = lan.leased()
    laptop.machine.link_down(lan.now)
    lan.run(60)
    laptop.machine.link_up(lan.now)
    lan.settle()
    _now, request, to = laptop.sent[-1]
    assert (request.kind, request.ciaddr, to) == (Kind.REQUEST, "", "")
    assert request.options[Option.REQUESTED_IP] == packed(("192.168.1.100",))
    assert Option.SERVER_ID not in request.options
    assert (laptop.told, len(laptop.sent)) == (["leased", "renewed"], 3)


def test_another_network_refuses_the_old_address() -> None:
    """NAK, then DISCOVER and the address of the network that it is on now."""
    lan, other = Ethernet(HOUR), Ethernet(HOUR, "10.0.0")
    laptop = lan.leased()
    other.guests.append(laptop)
    laptop.machine.link_up(other.now)
    other.settle()
    assert laptop.kinds[2:] == [Kind.REQUEST, Kind.DISCOVER, Kind.REQUEST]
    assert (laptop.ip, laptop.told) == ("10.0.0.100", ["leased", "nak", "leased"])
    assert [type(x) for x in laptop.done] == [Configure, Unconfigure, Configure]


def test_network_without_a_server_takes_the_address_away() -> None:
    """Nobody confirms it here: two requests, then it is given up and discovered anew."""
    lan = Ethernet(HOUR)
    laptop = lan.leased()
    lan.deaf = True
    laptop.machine.link_up(lan.now)
    lan.run(1)
    assert (laptop.kinds[2:5], laptop.ip) == ([Kind.REQUEST, Kind.REQUEST, Kind.DISCOVER], "")
    assert laptop.told[-1] == "unconfirmed"


def test_lease_ends_also_while_the_link_is_down() -> None:
    """Time does not wait for a cable."""
    lan = Ethernet(DhcpConfig(lease=100))
    laptop = lan.leased()
    laptop.machine.link_down(lan.now)
    lan.run(99)
    assert laptop.ip
    lan.run(2)
    assert (laptop.ip, laptop.told[-1], laptop.machine.due) == ("", "expired", None)
    laptop.machine.link_up(lan.now)
    lan.settle()
    assert laptop.kinds[-2:] == [Kind.DISCOVER, Kind.REQUEST]


def test_host_that_slept_over_the_end_begins_anew() -> None:
    """It wakes long after everything was due, and does not go on with an address that may be another's."""
    lan = Ethernet(DhcpConfig(lease=100))
    laptop = lan.leased()
    lan.now += 500
    laptop.machine.wake(lan.now)
    lan.settle()
    assert laptop.told == ["leased", "expired", "leased"]


def test_probed_conflict_is_declined() -> None:
    """ARP before use; a conflict is declined, and after a rest another address is asked for."""
    lan = Ethernet(HOUR)
    laptop = lan.guest(DhcpClient(check=0.3))
    laptop.machine.link_up(lan.now)
    lan.run(0.15)
    assert (laptop.machine.state, laptop.ip) == (State.CHECKING, "")
    assert laptop.done == [Probe("192.168.1.100"), Probe("192.168.1.100")]
    laptop.machine.conflict(lan.now)
    lan.settle()
    assert (laptop.kinds[-1], laptop.machine.state) == (Kind.DECLINE, State.RESTING)
    lan.run(1.2)
    assert (laptop.ip, laptop.told) == ("192.168.1.101", ["declined", "leased"])
    assert [news.kind for news in lan.news] == ["declined"]


def test_address_without_conflict_is_used_after_three_probes() -> None:
    """And a renewal probes nothing."""
    lan = Ethernet(DhcpConfig(lease=10))
    laptop = lan.guest(DhcpClient(check=0.3))
    laptop.machine.link_up(lan.now)
    lan.run(0.31)
    assert (laptop.ip, len([x for x in laptop.done if isinstance(x, Probe)])) == ("192.168.1.100", 3)
    lan.run(20)
    assert len([x for x in laptop.done if isinstance(x, Probe)]) == 3


def test_released_lease_is_gone_until_it_is_asked_for() -> None:
    """RELEASE by unicast; the client asks for nothing until told to."""
    lan = Ethernet(HOUR)
    laptop = lan.leased()
    laptop.machine.release(lan.now)
    lan.run(100)
    assert (laptop.kinds[-1], laptop.sent[-1][2]) == (Kind.RELEASE, "192.168.1.1")
    assert (laptop.ip, laptop.machine.state, laptop.told[-1]) == ("", State.STOPPED, "released")
    laptop.machine.renew(lan.now)
    lan.settle()
    assert laptop.ip == "192.168.1.100"


def test_lease_for_ever_is_never_renewed() -> None:
    """All ones (RFC 2131 3.3)."""
    lan = Ethernet(DhcpConfig(lease=float("inf")))
    laptop = lan.leased()
    assert laptop.machine.due is None
    assert laptop.machine.lease is not None
    assert laptop.machine.lease.seconds == float("inf")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {Option.LEASE_TIME: bytes(4)},
        {Option.LEASE_TIME: b"\0\0\1\0", Option.SERVER_ID: b"\1\2"},
        {Option.LEASE_TIME: b"\0\0\1\0", Option.SERVER_ID: bytes(4) + b"x"},
        {Option.LEASE_TIME: b"\0\0\1\0", Option.SERVER_ID: b"\1\2\3\4", Option.SUBNET_MASK: b"\0\xff\0\xff"},
    ],
)
def test_offer_that_no_host_could_use_is_ignored(options: dict[int, bytes]) -> None:
    """As if it had been lost: another one may come."""
    lan = Ethernet(HOUR)
    lan.deaf = True
    laptop = lan.guest()
    laptop.machine.link_up(lan.now)
    lan.settle()
    xid = laptop.sent[0][1].xid
    laptop.machine.receive(
        Message(op=2, kind=Kind.OFFER, xid=xid, chaddr=laptop.mac, yiaddr="10.0.0.9", options=options),
        lan.now,
    )
    assert laptop.machine.state is State.SELECTING


def test_answer_to_somebody_else_is_ignored() -> None:
    """Another transaction, another hardware address, a request instead of a reply."""
    lan = Ethernet(HOUR)
    laptop = lan.leased()
    xid = laptop.sent[-1][1].xid
    good = Message(op=2, kind=Kind.NAK, xid=xid, chaddr=laptop.mac)
    laptop.machine.renew(lan.now)
    xid = next(x.message.xid for x in laptop.machine.take() if hasattr(x, "message"))
    for wrong in (good, replace(good, xid=xid, chaddr=bytes(6)), replace(good, xid=xid, op=1)):
        laptop.machine.receive(wrong, lan.now)
        assert laptop.ip
    laptop.machine.receive(replace(good, xid=xid), lan.now)
    assert not laptop.ip


def test_classless_routes_win_over_the_router() -> None:
    """RFC 3442; a gateway that is no neighbour is left out."""
    routes = (("10.7.0.0/16", "192.168.1.2"), ("10.8.0.0/16", "172.16.0.1"))
    lan = Ethernet(replace(HOUR, routes=routes))
    laptop = lan.leased()
    assert laptop.machine.lease is not None
    assert laptop.machine.lease.routes == (("10.7.0.0/16", "192.168.1.2"), ("0.0.0.0/0", "192.168.1.1"))


def test_client_settings_that_make_no_sense_are_refused() -> None:
    """Before anything is built."""
    for wrong in ({"retry_interval": 0}, {"check": -1}, {"host_name": "x" * 64}, {"host_name": "a\nb"}):
        with pytest.raises(TopologyError):
            DhcpClient(**wrong)
