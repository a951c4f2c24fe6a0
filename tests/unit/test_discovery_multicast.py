"""discovery/local_messages.py, local_swarm.py, local.py: multicast announcements, without a network."""

from __future__ import annotations

import random

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from discovery_kit import info, key, site
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.discovery import LocalDiscovery
from iroh_py.discovery.local_messages import (
    MAX_MESSAGE,
    MAX_PEERS,
    SERVICE,
    decode,
    encode_query,
    encode_response,
    is_ours,
)
from iroh_py.discovery.local_swarm import ANSWER_SPREAD, CUTOFF, TAU, LocalSwarm, Send
from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.proto.node_info import NodeInfo
from iroh_py.testing import SimNet, run_virtual

HERE, THERE = ("192.168.1.5", 4433), ("192.168.1.6", 4433)


# --- messages ---


def test_query_is_one_ptr_question_for_the_service() -> None:
    """A standard query, as swarm-discovery's."""
    query = dns.message.from_wire(encode_query())
    assert (query.id, int(query.flags)) == (0, 0)
    assert [q.to_text() for q in query.question] == ["_iroh.local.swarm._udp.local. IN PTR"]
    assert decode(encode_query()) is None


def test_response_has_a_target_per_port_and_its_addresses_beside() -> None:
    """SRV per port, A and AAAA additional, TXT with user data, TTL 0, no answer to the PTR (PROTOCOL 9.6)."""
    content = info(1, HERE, ("2001:db8::5", 4433), ("192.168.1.5", 5), user_data="a=b")
    message = dns.message.from_wire(encode_response(content), one_rr_per_rrset=True)
    peer = key(1).node_id.base32
    assert (message.id, int(message.flags)) == (0, 0x8400)
    assert sorted(rrset.to_text() for rrset in message.answer) == [
        f"{peer}._iroh.local.swarm._udp.local. 0 IN SRV 0 0 4433 {peer}-4433.local.",
        f"{peer}._iroh.local.swarm._udp.local. 0 IN SRV 0 0 5 {peer}-5.local.",
        f'{peer}._iroh.local.swarm._udp.local. 0 IN TXT "user-data=a=b"',
    ]
    assert sorted(rrset.to_text() for rrset in message.additional) == [
        f"{peer}-4433.local. 0 IN A 192.168.1.5",
        f"{peer}-4433.local. 0 IN AAAA 2001:db8::5",
        f"{peer}-5.local. 0 IN A 192.168.1.5",
    ]
    assert decode(encode_response(content)) == [content]


def test_response_keeps_to_one_frame() -> None:
    """With too many addresses the last ones stay out."""
    many = info(1, *((f"10.0.{n}.1", 4000 + n) for n in range(60)))
    data = encode_response(many)
    assert len(data) <= MAX_MESSAGE
    read = decode(data)
    assert read is not None
    assert 5 < len(read[0].direct_addresses) < 60
    assert read[0].direct_addresses < many.direct_addresses


@pytest.mark.parametrize(
    ("owner", "kind", "rdata"),
    [
        (f"{key(1).node_id.base32}.other.local.", "SRV", f"0 0 5 {key(1).node_id.base32}-5.local."),
        (f"nobody.{SERVICE}", "SRV", "0 0 5 nobody-5.local."),
        (f"{key(1).node_id.base32}.{SERVICE}", "SRV", "0 0 5 elsewhere.local."),
        (str(SERVICE), "SRV", "0 0 5 x.local."),
        (f"{key(1).node_id.base32}.{SERVICE}", "TXT", '"user-data=lonely"'),
    ],
)
def test_foreign_nameless_and_homeless_peers_are_left_out(owner: str, kind: str, rdata: str) -> None:
    """Only a record of the service with a node id and at least one address is a peer."""
    message = dns.message.from_wire(encode_response(info(2, HERE)))
    record = dns.rrset.from_text(
        dns.name.from_text(owner), 0, dns.rdataclass.IN, dns.rdatatype.from_text(kind), rdata
    )
    message.answer.insert(0, record)
    assert decode(message.to_wire()) == [info(2, HERE)]


def test_peers_of_one_message_are_bounded() -> None:
    """A crowd in one message is cut."""
    message = dns.message.from_wire(encode_response(info(1, HERE)))
    for number in range(2, 14):
        other = dns.message.from_wire(encode_response(info(number, HERE)))
        message.answer += other.answer
        message.additional += other.additional
    read = decode(message.to_wire())
    assert read is not None
    assert len(read) == MAX_PEERS


def test_bad_user_data_costs_only_itself() -> None:
    """The addresses beside it still count."""
    message = dns.message.from_wire(encode_response(info(1, HERE, user_data="ok")))
    record = dns.rrset.from_text(message.answer[-1].name, 0, "IN", "TXT", r'"user-data=\255"')
    message.answer[-1] = record
    assert decode(message.to_wire()) == [info(1, HERE)]


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", dns.message.make_query("example.local.", "PTR", id=7).to_wire()],
    ids=["empty", "garbage", "question"],  # every xdist worker must collect the same names
)
def test_other_messages_are_the_discovery_error(data: bytes) -> None:
    """One error for whatever is not of the service."""
    with pytest.raises(DiscoveryError):
        decode(data)


def test_neighbours_traffic_is_passed_by_cheaply() -> None:
    """Only datagrams that can name the service are parsed."""
    assert is_ours(encode_query())
    assert is_ours(encode_response(info(1, HERE)).upper())
    assert not is_ours(dns.message.make_query("_airplay._tcp.local.", "PTR").to_wire())
    assert not is_ours(b"\x05_iroh" + bytes(MAX_MESSAGE))


@given(st.binary(max_size=400))
def test_any_bytes_give_peers_or_the_discovery_error(data: bytes) -> None:
    """What strangers send to the group parses or raises DiscoveryError."""
    for candidate in (data, b"\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x01" + data):
        try:
            decode(candidate)
        except DiscoveryError:
            pass


# --- rhythm and memory ---


def swarm(number: int = 1, seed: int = 0) -> LocalSwarm:
    return LocalSwarm(0.0, key(number).node_id, random.Random(seed))


def test_first_own_query_comes_after_tau() -> None:
    """Nobody asks: we do, between tau and tau (1 + swarm/10), and answer within the spread."""
    one = swarm()
    due = one.next_timeout()
    assert TAU <= due <= 1.1 * TAU
    assert one.handle_timeout(due) == [Send.QUERY]
    answer = one.next_timeout()
    assert due <= answer <= due + ANSWER_SPREAD / CUTOFF
    assert one.handle_timeout(answer) == [Send.RESPONSE]


def test_query_of_somebody_else_spares_ours() -> None:
    """We answer theirs instead."""
    one = swarm()
    one.handle_query(0.1)
    due = one.next_timeout()
    assert due < 0.1 + ANSWER_SPREAD
    assert one.handle_timeout(due) == [Send.RESPONSE]
    assert one.next_timeout() >= due + TAU


def test_enough_answers_of_others_silence_us_for_a_round() -> None:
    """With two answers counted we keep quiet, so a crowd costs as much as two."""
    one = swarm()
    one.handle_query(0.1)
    one.handle_response(0.1, [info(2, HERE), info(3, HERE)])
    assert one.handle_timeout(one.next_timeout()) == []


def test_fairness_lets_others_go_first() -> None:
    """Who answered waits longer in the next round; who was silent waits less."""
    one = swarm()
    one.handle_query(0.0)
    one.handle_timeout(one.next_timeout())
    one.handle_query(0.5)
    assert one.next_timeout() >= 0.5 + ANSWER_SPREAD / CUTOFF


def test_changed_announcement_replaces_the_known_one() -> None:
    """The cache has the newest addresses (PROTOCOL 14, trap 20), and a change is news while a repetition is not."""
    one = swarm()
    assert one.handle_response(0.0, [info(2, HERE)]) == [info(2, HERE)]
    assert one.handle_response(0.5, [info(2, HERE)]) == []
    assert one.handle_response(1.0, [info(2, THERE)]) == [info(2, THERE)]
    assert one.find(key(2).node_id) == info(2, THERE)


def test_own_announcement_is_ignored() -> None:
    """Multicast loops back to us."""
    one = swarm()
    assert one.handle_response(0.0, [info(1, HERE)]) == []
    assert one.size == 1


def test_silent_peer_expires() -> None:
    """A pair hears each other each round; after 2.1 s of silence the other is gone, not before."""
    one = swarm()
    one.handle_response(0.0, [info(2, HERE)])
    now = 0.0
    while (now := one.next_timeout()) < 2.0:
        one.handle_timeout(now)
    assert one.find(key(2).node_id) is not None
    while (now := one.next_timeout()) < 4.0:
        one.handle_timeout(now)
    assert one.find(key(2).node_id) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of invented peers keeps the newest."""
    monkeypatch.setattr("iroh_py.discovery.local_swarm.MAX_PEERS", 3)
    one = swarm()
    for number in range(2, 10):
        one.handle_response(0.0, [info(number, HERE)])
    assert [peer.node_id for peer in one.peers] == [key(n).node_id for n in (7, 8, 9)]


def test_change_is_announced_at_once_but_not_in_a_storm() -> None:
    """A hundred changes in 0.1 s are two announcements."""
    one = swarm()
    sent = []
    for step in range(100):
        one.announce_soon(step * 0.001)
        sent += one.handle_timeout(step * 0.001)
    assert sent == [Send.RESPONSE]
    assert one.next_timeout() == pytest.approx(0.1)
    assert one.handle_timeout(0.1) == [Send.RESPONSE]


def test_crowd_costs_about_as_much_as_a_pair() -> None:
    """Forty nodes together send a few answers per round, and everybody knows everybody."""
    nodes = [LocalSwarm(0.0, key(n).node_id, random.Random(n)) for n in range(1, 41)]
    infos = [NodeInfo(key(n).node_id, direct_addresses=frozenset({HERE})) for n in range(1, 41)]
    sent = {Send.QUERY: 0, Send.RESPONSE: 0}
    while True:
        now, index = min((node.next_timeout(), i) for i, node in enumerate(nodes))
        if now > 120.0:
            break
        for what in nodes[index].handle_timeout(now):
            sent[what] += 1
            for other in nodes:
                if other is nodes[index]:
                    continue
                if what is Send.QUERY:
                    other.handle_query(now)
                else:
                    other.handle_response(now, [infos[index]])
    rounds = 120.0 / TAU
    assert sent[Send.QUERY] < 1.5 * rounds
    assert sent[Send.RESPONSE] < 4 * rounds
    assert sum(node.size for node in nodes) / len(nodes) > 30


# --- where it cannot work ---


def test_simulated_network_has_no_multicast() -> None:
    """The error says where local discovery works."""

    async def story() -> None:
        host = SimNet(seed=1).host("laptop")
        with pytest.raises(LocalProtocolError, match="needs multicast, which laptop"):
            await LocalDiscovery().start(site(network=host))

    run_virtual(story)
