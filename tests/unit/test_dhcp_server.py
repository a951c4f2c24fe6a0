"""A DHCP server under a virtual clock: who gets which address, who is refused, and what it says."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from dhcp_kit import Ethernet

from netns_fixtures import TopologyError
from netns_fixtures.dhcp.config import DhcpConfig
from netns_fixtures.dhcp.options import Option, packed
from netns_fixtures.dhcp.packet import BOOTREQUEST, Kind, Message
from netns_fixtures.dhcp.server import held

FOUR = DhcpConfig(lease=100, first=100, last=103)


def ask(lan: Ethernet, kind: Kind, mac: int = 9, **fields: Any) -> Message | None:
    """A request by hand, and the answer."""
    chaddr = bytes((2, 0, 0, 0, 0, mac))
    message = Message(op=BOOTREQUEST, kind=kind, xid=5, chaddr=chaddr, **fields)
    answer = lan.server.receive(message, chaddr, lan.now)
    return answer.message if answer is not None else None


def names(lan: Ethernet) -> dict[str, str]:
    return {lease.ip: lease.host_name for lease in held(lan.server.table, lan.now)}


def test_each_client_gets_an_address_of_its_own() -> None:
    """In order, with its name in the table; one more than there are gets none, once told."""
    lan = Ethernet(FOUR)
    guests = [lan.leased() for _ in range(4)]
    assert [guest.ip for guest in guests] == [f"192.168.1.{n}" for n in range(100, 104)]
    assert names(lan) == {f"192.168.1.{100 + n}": f"h{n + 1}" for n in range(4)}
    late = lan.leased()
    assert (late.ip, [news.kind for news in lan.news]) == ("", ["exhausted"])
    lan.run(2)
    assert len(lan.news) == 1  # not for each retransmission
    guests[0].machine.release(lan.now)
    lan.run(10)
    assert late.ip == "192.168.1.100"


def test_client_gets_its_last_address_again() -> None:
    """RFC 2131 4.3.1: also after its lease has ended, while nobody else needs it."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    laptop.machine.link_down(lan.now)
    lan.run(200)
    assert (names(lan), lan.leased().ip) == ({}, "192.168.1.101")
    laptop.machine.link_up(lan.now)
    lan.settle()
    assert laptop.ip == "192.168.1.100"


def test_forgotten_client_gets_another_address() -> None:
    """What renumbering one host is made of."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    lan.server.forget(laptop.mac)
    laptop.machine.link_up(lan.now)
    lan.settle()
    assert (laptop.ip, laptop.told) == ("192.168.1.101", ["leased", "nak", "leased"])


def test_reserved_address_is_for_its_host_alone() -> None:
    """Also outside of the range, and from the next renewal on where it has another one."""
    lan = Ethernet(FOUR)
    first, second = lan.leased(), lan.guest()
    reservations = {second.mac.hex(":"): "192.168.1.50", first.mac.hex(":"): "192.168.1.102"}
    lan.server.change(replace(lan.service, config=replace(FOUR, reservations=reservations)))
    second.machine.link_up(lan.now)
    lan.settle()
    assert second.ip == "192.168.1.50"
    assert [lan.leased().ip for _ in range(3)] == ["192.168.1.101", "192.168.1.103", ""]
    first.machine.renew(lan.now)
    lan.settle()
    assert (first.ip, first.told) == ("192.168.1.102", ["leased", "nak", "leased"])


def test_preferred_address_waits_for_its_host() -> None:
    """Whoever comes first: the same hosts get the same addresses; only a full network gives one to others."""
    lan = Ethernet(FOUR)
    late, early = lan.guest(), lan.guest()
    preferred = ((late.mac.hex(":"), "192.168.1.100"), (early.mac.hex(":"), "192.168.1.101"))
    lan.server.change(replace(lan.service, preferred=preferred))
    early.machine.link_up(lan.now)
    lan.settle()
    strangers = [lan.leased() for _ in range(2)]
    late.machine.link_up(lan.now)
    lan.settle()
    assert (early.ip, late.ip) == ("192.168.1.101", "192.168.1.100")
    assert [guest.ip for guest in strangers] == ["192.168.1.102", "192.168.1.103"]
    late.machine.release(lan.now)
    lan.settle()
    assert lan.leased().ip == "192.168.1.100"


def test_offered_address_is_kept_for_a_while() -> None:
    """Two who ask at once are offered different ones; who does not take his loses it."""
    lan = Ethernet(FOUR)
    offers = [ask(lan, Kind.DISCOVER, n) for n in (1, 2, 3, 4)]
    assert len({offer.yiaddr for offer in offers if offer}) == 4
    assert ask(lan, Kind.DISCOVER, 5) is None
    lan.now += FOUR.offer_time + 0.1
    assert ask(lan, Kind.DISCOVER, 5) is not None


def test_offer_of_another_server_was_taken() -> None:
    """A REQUEST for another server sets our offer free."""
    lan = Ethernet(replace(FOUR, last=100))
    assert ask(lan, Kind.DISCOVER, 1)
    others = {Option.SERVER_ID: packed(("192.168.1.2",)), Option.REQUESTED_IP: packed(("192.168.1.77",))}
    assert ask(lan, Kind.REQUEST, 1, options=others) is None
    assert ask(lan, Kind.DISCOVER, 2)


def test_request_for_what_was_not_offered_is_refused() -> None:
    """By broadcast, with a reason (option 56)."""
    lan = Ethernet(FOUR)
    ours = {Option.SERVER_ID: packed(("192.168.1.1",)), Option.REQUESTED_IP: packed(("192.168.1.101",))}
    answer = ask(lan, Kind.REQUEST, options=ours)
    assert answer is not None
    assert (answer.kind, answer.yiaddr, answer.options[Option.MESSAGE]) == (
        Kind.NAK,
        "",
        b"it was not offered",
    )
    assert Option.LEASE_TIME not in answer.options


@pytest.mark.parametrize(
    ("asked", "authoritative", "answer"),
    [
        ("10.0.0.5", True, Kind.NAK),
        ("10.0.0.5", False, Kind.NAK),  # a wrong network is always refused (RFC 2131 4.3.2)
        ("192.168.1.102", True, Kind.NAK),
        ("192.168.1.102", False, None),  # no record: silent
        ("192.168.1.100", False, Kind.NAK),  # somebody else's
    ],
)
def test_rebooting_stranger_is_refused_or_left_alone(
    asked: str, authoritative: bool, answer: Kind | None
) -> None:
    """INIT-REBOOT of a client that this server does not know."""
    lan = Ethernet(replace(FOUR, authoritative=authoritative))
    lan.leased()
    reply = ask(lan, Kind.REQUEST, options={Option.REQUESTED_IP: packed((asked,))})
    assert (reply.kind if reply else None) == answer


def test_another_subnet_refuses_every_renewal() -> None:
    """Renumbering: NAK at the next renewal, then an address of the new subnet."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    lan.server.change(replace(lan.service, network="192.168.7.0/24", address="192.168.7.1"))
    lan.run(49)
    assert laptop.ip == "192.168.1.100"
    lan.run(2)
    assert laptop.ip == "192.168.7.100"
    assert [news.data["why"] for news in lan.news] == ["it is not in 192.168.7.0/24"]


def test_other_settings_keep_the_leases() -> None:
    """A changed range too, as far as addresses are in it."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    lan.server.change(replace(lan.service, config=replace(FOUR, last=150, mtu=1400)))
    laptop.machine.renew(lan.now)
    lan.settle()
    assert laptop.machine.lease is not None
    assert (laptop.ip, laptop.machine.lease.mtu, laptop.told) == (
        "192.168.1.100",
        1400,
        ["leased", "renewed"],
    )


def test_exhausted_server_renews_and_gives_nothing_new() -> None:
    """Who has an address keeps it."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    lan.server.change(replace(lan.service, exhausted=True))
    assert lan.leased().ip == ""
    lan.run(300)
    assert laptop.ip == "192.168.1.100"


def test_restarted_server_knows_nobody() -> None:
    """Its leases are gone, and clients learn it when they ask."""
    lan = Ethernet(FOUR)
    laptop = lan.leased()
    lan.server.reset()
    assert names(lan) == {}
    laptop.machine.renew(lan.now)
    lan.settle()
    assert (laptop.ip, laptop.told) == ("192.168.1.100", ["leased", "nak", "leased"])


def test_silent_server_says_nothing() -> None:
    """Not even NAK."""
    lan = Ethernet(FOUR)
    lan.server.change(replace(lan.service, state="silent"))
    assert ask(lan, Kind.DISCOVER) is None
    assert ask(lan, Kind.REQUEST, ciaddr="10.0.0.1") is None


def test_declined_address_is_kept_from_everybody() -> None:
    """For its time; only its own client can decline it."""
    lan = Ethernet(replace(FOUR, decline_time=50))
    laptop = lan.leased()
    wanted = {Option.REQUESTED_IP: packed((laptop.ip,))}
    ask(lan, Kind.DECLINE, 77, options=wanted)
    assert list(names(lan)) == ["192.168.1.100"]
    ask(lan, Kind.DECLINE, laptop.mac[5], options={**wanted, Option.CLIENT_ID: b"\1" + laptop.mac})
    assert names(lan) == {}
    assert {lan.leased().ip for _ in range(3)} == {"192.168.1.101", "192.168.1.102", "192.168.1.103"}
    lan.now += 51
    assert ask(lan, Kind.DISCOVER)


def test_addresses_that_others_have_are_not_given_out() -> None:
    """What the lab set by hand, and the server's own."""
    lan = Ethernet(FOUR)
    lan.server.change(replace(lan.service, kept=("192.168.1.100", "192.168.1.102")))
    assert [lan.leased().ip for _ in range(3)] == ["192.168.1.101", "192.168.1.103", ""]


def test_inform_is_answered_without_a_lease() -> None:
    """A host with an address of its own asks for the rest (RFC 2131 4.3.5)."""
    lan = Ethernet(replace(FOUR, captive_portal="https://portal.test/api"))
    answer = ask(lan, Kind.INFORM, ciaddr="192.168.1.7")
    assert answer is not None
    assert (answer.kind, answer.yiaddr, answer.ciaddr) == (Kind.ACK, "", "192.168.1.7")
    assert answer.options[Option.CAPTIVE_PORTAL] == b"https://portal.test/api"
    assert not {Option.LEASE_TIME, Option.T1} & answer.options.keys()
    assert ask(lan, Kind.INFORM) is None
    assert names(lan) == {}


def test_relayed_message_is_ignored() -> None:
    """There are no relays in a lab: giaddr is made up."""
    lan = Ethernet(FOUR)
    assert ask(lan, Kind.DISCOVER, giaddr="10.0.0.1") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease": 0},
        {"lease": 1.5},
        {"lease": 2**32},
        {"lease": 10, "t1": 9, "t2": 8},
        {"lease": 10, "t2": 11},
        {"t1": 0.5},
        {"mtu": 100},
        {"dns": ("2001:db8::1",)},
        {"domain": "a\nb"},
        {"captive_portal": "x" * 300},
        {"routes": (("10.0.0.1/8", "10.0.0.1"),)},
        {"reservations": {"laptop": "192.168.1.5"}},
        {"reservations": {"02:00:00:00:00:01": "here"}},
        {"reservations": {"02:00:00:00:00:01": "10.0.0.1", "02:00:00:00:00:02": "10.0.0.1"}},
        {"offer_time": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is built."""
    with pytest.raises(TopologyError):
        DhcpConfig(**wrong)


def test_range_fits_the_subnet() -> None:
    """100 to 199, in small subnets the upper half; what lies outside is refused."""
    large, small = ipaddress.IPv4Network("10.0.0.0/24"), ipaddress.IPv4Network("10.0.0.0/27")
    assert DhcpConfig().numbers(large) == (100, 199)
    assert DhcpConfig().numbers(small) == (16, 30)
    assert DhcpConfig(first=20).numbers(small) == (20, 30)
    for wrong in ({"first": 1}, {"last": 31}, {"first": 20, "last": 10}):
        with pytest.raises(TopologyError):
            DhcpConfig(**wrong).numbers(small)  # type: ignore[arg-type]


def test_client_is_known_by_its_identifier() -> None:
    """Option 61 before the hardware address: two interfaces of one name share, one interface of two does not."""
    lan = Ethernet(FOUR)
    same = {Option.CLIENT_ID: b"\0laptop"}
    offers = [ask(lan, Kind.DISCOVER, n, options=same) for n in (1, 2)]
    assert len({offer.yiaddr for offer in offers if offer}) == 1
    assert ask(lan, Kind.DISCOVER, 1, options={Option.CLIENT_ID: bytes(65)}) is None
