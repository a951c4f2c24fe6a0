"""What an address that is not proven yet may be sent, and what that means right after a move."""

from __future__ import annotations

from node_kit import AWAY, HERE, HOME, PING_SIZE, make_node, peer_ping, settled, targets

from iroh_py.proto.actions import Kick, SendDisco
from iroh_py.proto.disco import Ping
from iroh_py.proto.paths import AMPLIFICATION, BASE_MTU, UdpPath
from iroh_py.proto.pings import PING_OVERHEAD, PONG_SIZE

FULL_PACKET = bytes(BASE_MTU)


def test_we_moved_our_ping_pays_for_the_peers_first_full_packet() -> None:
    """The peer may send three times what it got to our new address: enough for pong, ping and one packet of data."""
    node = settled()
    ping = next(
        a.message
        for a in node.handle_network_change(2.0)
        if isinstance(a, SendDisco) and a.path == UdpPath(HOME) and isinstance(a.message, Ping)
    )
    assert AMPLIFICATION * (PING_OVERHEAD + ping.padding) >= PONG_SIZE + PING_OVERHEAD + BASE_MTU


def test_we_moved_to_an_address_without_credit_the_ping_is_a_small_one() -> None:
    """What we owe to others we do not exceed for our own haste."""
    node = settled()
    node.handle_ping(1.9, UdpPath(AWAY), peer_ping(), PING_SIZE)
    credit = node.paths.get(UdpPath(AWAY)).credit  # type: ignore[union-attr]
    sizes = [
        PING_OVERHEAD + a.message.padding
        for a in node.handle_network_change(2.0)
        if isinstance(a, SendDisco) and a.path == UdpPath(AWAY) and isinstance(a.message, Ping)
    ]
    assert sum(sizes) <= credit


def test_data_that_the_credit_did_not_cover_is_sent_again_when_it_does() -> None:
    """A peer behind a NAT that rebound sends small packets: the first pays for too little, the second for enough."""
    node = settled()
    small, flight = 97, 300
    first = node.handle_payload(2.0, UdpPath(AWAY), small, fresh=True)
    assert Kick(reset=False) in first
    state = dict(node.targets(2.0))[UdpPath(AWAY)]
    assert state is not None
    assert state.pays([bytes(flight)]) == []
    assert Kick(reset=False) in node.handle_payload(2.02, UdpPath(AWAY), small, fresh=True)
    assert state.pays([bytes(flight)]) == [bytes(flight)]
    assert Kick(reset=False) not in node.handle_payload(2.04, UdpPath(AWAY), small, fresh=True)


def test_credit_pays_for_the_first_datagrams_and_nothing_behind_a_gap() -> None:
    """Datagrams leave in order: a small one does not overtake one that was too dear."""
    node = settled()
    node.handle_payload(2.0, UdpPath(AWAY), 100, fresh=True)
    state = dict(node.targets(2.0))[UdpPath(AWAY)]
    assert state is not None
    assert state.pays([bytes(120), FULL_PACKET, bytes(10)]) == [bytes(120)]
    assert state.withheld == BASE_MTU


def test_unproven_address_gets_no_more_than_three_times_what_it_sent() -> None:
    """Nobody can make us flood a third party by forging its address (RFC 9000 section 8.1)."""
    node = make_node()
    spent = received = 0
    for number in range(20):
        now = number / 50
        received += PING_SIZE
        actions = node.handle_ping(now, UdpPath(AWAY), peer_ping(number), PING_SIZE)
        actions += node.handle_timeout(now)
        spent += sum(_size(a) for a in actions if isinstance(a, SendDisco) and a.path == UdpPath(AWAY))
        state = node.paths.get(UdpPath(AWAY))
        assert state is not None
        spent += sum(map(len, state.pays([bytes(400)])))
        assert spent <= AMPLIFICATION * received
    assert spent > received
    assert UdpPath(AWAY) in targets(node, 1.0)


def _size(action: SendDisco) -> int:
    if isinstance(action.message, Ping):
        assert action.message.node_id == HERE
        return PING_OVERHEAD + action.message.padding
    return PONG_SIZE
