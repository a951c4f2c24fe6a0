"""Whatever arrives on a DHCP port: a value or the protocol's error, and never one address for two."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.dhcp.client import LeaseClient, Send
from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig
from netns_fixtures.dhcp.frame import arp_claims, parse_udp
from netns_fixtures.dhcp.options import (
    DhcpMalformed,
    decode_routes,
    encode_routes,
    join_options,
    split_options,
    text,
)
from netns_fixtures.dhcp.packet import BOOTREPLY, BOOTREQUEST, Kind, Message, decode, encode
from netns_fixtures.dhcp.server import DhcpServer
from netns_fixtures.dhcp.steps import Service

MAC = bytes.fromhex("020000000a01")
CODES = st.integers(1, 254).filter(lambda code: code not in (52, 53))
OPTIONS = st.dictionaries(CODES, st.binary(max_size=300), max_size=6)
#: Options that a machine reads, with values that may be wrong.
READ = st.dictionaries(
    st.sampled_from([1, 3, 6, 12, 15, 26, 50, 51, 54, 56, 58, 59, 61, 80, 114, 121]),
    st.binary(max_size=12) | st.just(bytes((192, 168, 1, 100))),
    max_size=6,
)
IPS = st.sampled_from(["", "192.168.1.100", "192.168.1.1", "10.9.9.9", "255.255.255.255", "224.0.0.1"])
SERVICE = Service("192.168.1.0/24", "192.168.1.1", DhcpConfig(first=100, last=103))


def messages(op: int) -> st.SearchStrategy[Message]:
    return st.builds(
        Message,
        op=st.just(op),
        kind=st.sampled_from(Kind),
        xid=st.integers(0, 2**32 - 1),
        chaddr=st.just(MAC),
        broadcast=st.booleans(),
        ciaddr=IPS,
        yiaddr=IPS,
        giaddr=st.just(""),
        options=READ,
    )


@given(st.binary(max_size=700))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    """Also behind a right head, where options begin."""
    head = b"\1\1\6" + bytes(233) + b"\x63\x82\x53\x63"
    for payload in (data, head + data, head + bytes((53, 1, 1, 52, 1, 3)) + data):
        try:
            assert isinstance(decode(payload), Message)
        except DhcpMalformed:
            pass


@given(st.builds(Message, op=st.sampled_from((1, 2)), kind=st.sampled_from(Kind), xid=st.integers(0, 2**32 - 1),
                 chaddr=st.binary(min_size=6, max_size=6), secs=st.integers(0, 65535), broadcast=st.booleans(),
                 ciaddr=IPS, yiaddr=IPS, siaddr=IPS, giaddr=IPS, options=OPTIONS))  # fmt: skip
def test_message_comes_back_from_its_bytes(message: Message) -> None:
    """encode, then decode."""
    assert decode(encode(message)) == message


@given(st.binary(max_size=400))
def test_any_frame_is_a_datagram_or_none(frame: bytes) -> None:
    """Packet sockets see what anybody sends."""
    for each in (frame, bytes(12) + b"\x08\0\x45\0" + frame, bytes(12) + b"\x08\x06" + frame):
        parse_udp(each, 67)
        arp_claims(each, "192.168.1.100", MAC)


@given(st.binary(max_size=100))
def test_any_option_value_is_read_or_malformed(value: bytes) -> None:
    """Routes, texts, areas; what is read can be written again."""
    text(value)
    try:
        assert decode_routes(encode_routes(decode_routes(value))) == decode_routes(value)
    except DhcpMalformed:
        pass
    try:
        options = split_options([value])
        assert split_options([join_options(options)]) == options
    except DhcpMalformed:
        pass


@given(st.lists(messages(BOOTREQUEST), max_size=12))
def test_server_survives_any_requests(requests: list[Message]) -> None:
    """It answers or not, with messages that can be sent, and never more addresses than it has."""
    server = DhcpServer(SERVICE, lambda _news: None)
    for now, request in enumerate(requests):
        answer = server.receive(request, MAC, float(now))
        if answer is not None:
            assert decode(encode(answer.message)) == answer.message
    assert len(list(server.table)) <= 4


@given(st.lists(st.tuples(messages(BOOTREPLY), st.floats(0, 5)), max_size=12), st.booleans())
def test_client_survives_any_answers(answers: list[tuple[Message, float]], rapid: bool) -> None:
    """With its own transaction number on them; it always knows when to go on."""
    client = LeaseClient(DhcpClient(rapid_commit=rapid, check=0.1), MAC, "laptop", random.Random(1))
    client.link_up(0.0)
    now, xid = 0.0, 0
    for answer, pause in answers:
        for action in client.take():
            if isinstance(action, Send):
                assert decode(encode(action.message)) == action.message
                xid = action.message.xid
        now += pause
        client.wake(now)
        client.receive(decode(encode(answer)), now)
        client.receive(Message(op=BOOTREPLY, kind=answer.kind, xid=xid, chaddr=MAC, yiaddr=answer.yiaddr,
                               options=answer.options), now)  # fmt: skip
        assert client.due is not None or client.lease is not None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.sampled_from(["up", "down", "renew", "release", "conflict", "wake"]),
            st.floats(0, 4),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_two_clients_never_have_one_address(story: list[tuple[int, str, float, bool]]) -> None:
    """Seven clients and four addresses: links flap, leases end, packets are lost; nobody shares."""
    server = DhcpServer(
        Service("192.168.1.0/24", "192.168.1.1", DhcpConfig(lease=5, first=100, last=103, offer_time=1)),
        lambda _news: None,
    )
    macs = [bytes((2, 0, 0, 0, 0, n)) for n in range(7)]
    clients = [
        LeaseClient(DhcpClient(check=0.3 if n % 2 else 0.0), mac, f"h{n}", random.Random(n))
        for n, mac in enumerate(macs)
    ]
    now = 0.0
    for which, event, pause, lossy in story:
        now += pause
        client = clients[which]
        match event:
            case "up":
                client.link_up(now)
            case "down":
                client.link_down(now)
            case "renew":
                client.renew(now)
            case "release":
                client.release(now)
            case "conflict":
                client.conflict(now)
        for each, mac in zip(clients, macs, strict=True):
            each.wake(now)
            sent = [action.message for action in each.take() if isinstance(action, Send)]
            while sent and not (lossy and each is client):
                answer = server.receive(sent.pop(0), mac, now)
                if answer is not None:
                    each.receive(answer.message, now)
                    sent += [action.message for action in each.take() if isinstance(action, Send)]
        owners = defaultdict(set)
        for each, mac in zip(clients, macs, strict=True):
            if each.lease is not None and now < each.lease.expires and each.is_bound:
                owners[each.lease.ip].add(mac)
        assert all(len(who) == 1 for who in owners.values()), owners
