"""One remote node's state, driven by hand."""

from __future__ import annotations

import random

from iroh_py.addr import RelayUrl
from iroh_py.config import EndpointConfig
from iroh_py.keys import SecretKey
from iroh_py.network import Addr
from iroh_py.proto.actions import Action, SendDisco
from iroh_py.proto.disco import Ping, Pong
from iroh_py.proto.node_state import NodeState
from iroh_py.proto.paths import BASE_MTU, Path, UdpPath
from iroh_py.proto.surroundings import Surroundings

PEER = SecretKey(bytes([7]) * 32).node_id
HERE = SecretKey(bytes([8]) * 32).node_id
HOME: Addr = ("192.0.2.1", 4433)
AWAY: Addr = ("198.51.100.9", 5000)
RELAY = RelayUrl.parse("http://relay.example")
PING_SIZE = 124
LATENCY = 0.02


def make_node(config: EndpointConfig | None = None) -> NodeState:
    shared = Surroundings(HERE, config or EndpointConfig(), random.Random(1))
    node = NodeState(0.0, PEER, shared)
    node.sessions = 1
    return node


def pings(actions: list[Action]) -> dict[Path, bytes]:
    """Paths that are pinged (not probed for their MTU) and the transaction ids."""
    return {
        a.path: a.message.tx_id
        for a in actions
        if isinstance(a, SendDisco) and isinstance(a.message, Ping) and a.message.padding < BASE_MTU // 2
    }


def ask(node: NodeState, now: float, why: str = "test") -> dict[Path, bytes]:
    node.seek_path(now, why)
    return pings(node.handle_timeout(now))


def answer(node: NodeState, now: float, path: Path, tx_id: bytes) -> list[Action]:
    observed = path.addr if isinstance(path, UdpPath) else path.url
    return node.handle_pong(now, path, Pong(tx_id, observed))


def settled(now: float = 1.0, addr: Addr = HOME) -> NodeState:
    """A node whose path is proven and in use."""
    node = make_node()
    node.add_addresses(now, [addr], None, told=True)
    sent = ask(node, now)
    answer(node, now + LATENCY, UdpPath(addr), sent[UdpPath(addr)])
    assert node.steady
    node.shared.events.clear()
    return node


def peer_ping(number: int = 1) -> Ping:
    return Ping(number.to_bytes(12, "big"), PEER)


def targets(node: NodeState, now: float) -> list[Path]:
    return [path for path, _ in node.targets(now)]
