"""A pair that cannot be punched stays relayed, and comes to rest (SCENARIOS 3.9)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from iroh_py.addr import RelayUrl
from iroh_py.config import EndpointConfig
from iroh_py.keys import SecretKey
from iroh_py.proto.actions import OfferAddresses, SendDisco
from iroh_py.proto.disco import Ping
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import RelayPath, UdpPath
from iroh_py.proto.surroundings import Surroundings

RELAY = RelayUrl.parse("http://relay.example")
KEYS = (SecretKey(b"a" * 32), SecretKey(b"b" * 32))


def test_two_that_cannot_be_punched_stop_flooding_each_other() -> None:
    """Offers answer offers and pings follow them, but a minute later the rate is that of the heartbeat."""
    nodes = []
    for mine, peer in (KEYS, KEYS[::-1]):
        node = NodeState(0.0, peer.node_id, Surroundings(mine.node_id, EndpointConfig(), random.Random(1)))
        node.sessions = 1
        node.shared.relay_connected = lambda url: True
        node.add_addresses(0.0, [], RELAY, told=True)
        node.seek_path(0.0, "test")
        nodes.append(node)
    now, pings, offers = 0.0, 0, 0
    while now < 120.0:
        now += 0.05
        for index, node in enumerate(nodes):
            actions = []
            node.handle_sent(now, wants_answer=True)
            due = node.next_timeout()
            if due is not None and due <= now:
                actions += node.handle_timeout(now)
            node.handle_payload(now, RelayPath(RELAY), 100, fresh=True)
            other = nodes[1 - index]
            while actions:
                action = actions.pop()
                if isinstance(action, OfferAddresses):
                    offers += now > 60.0
                    back = other.handle_call_me_maybe(now, [(f"203.0.113.{index + 1}", 9)])
                    pings += now > 60.0 and _pings(back)
                    if any(isinstance(a, OfferAddresses) for a in back):
                        actions += node.handle_call_me_maybe(now, [(f"203.0.113.{2 - index}", 9)])
            pings += now > 60.0 and _pings(actions)
    assert 0 < offers < 100
    assert 0 < pings < 200


def _pings(actions: Sequence[object]) -> int:
    return sum(
        isinstance(a, SendDisco) and isinstance(a.message, Ping) and isinstance(a.path, UdpPath)
        for a in actions
    )
