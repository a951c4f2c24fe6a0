"""The official bindings among themselves: what our handle on them must get right before we meet them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nacl.signing
import pytest

from pytest_iroh.official import OfficialCallFailed, OfficialDied, OfficialPeer, OfficialTimeout
from pytest_iroh.official.process import Process

VERSIONS = ["0.28.1", "0.35.0", "1.2.0"]

DEADLINE = 10.0
"""Seconds for anything that a healthy machine does in well under one."""

StartPeer = Callable[..., OfficialPeer]


class PrivateNetwork:
    """A network namespace with nothing but ``lo``: nothing that these nodes send can leave it."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo ready && exec cat",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self.ready = self._holder.stdout.readline() == "ready\n"

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs a program in the namespace."""
        namespaces = ["--user", "--preserve-credentials", "--net"]
        return ["nsenter", "--target", str(self._holder.pid), *namespaces, "--", *argv]

    def popen(self, argv: Sequence[str]) -> Process:
        """Start a program in the namespace."""
        return subprocess.Popen(self.argv(argv), stdin=subprocess.DEVNULL)

    def close(self) -> None:
        """End the namespace."""
        self._holder.communicate(timeout=DEADLINE)


@pytest.fixture
def network() -> Iterator[PrivateNetwork]:
    """A private network, or a skip that says what is missing."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs unshare, nsenter and ip: apt-get install util-linux iproute2")
    network = PrivateNetwork()
    with contextlib.closing(network):
        if not network.ready:
            pytest.skip("no network namespace for us: run as root or allow user namespaces")
        yield network


@pytest.fixture
def peer(network: PrivateNetwork, official_iroh: StartPeer) -> StartPeer:
    """Start official nodes in the private network."""

    def start(version: str, **options: object) -> OfficialPeer:
        return official_iroh(version, popen=network.popen, **options)

    return start


def until(holds: Callable[[], bool]) -> None:
    """Ask again until something holds; each question is a round trip to the runner, so this does not spin."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_traffic_comes_back_byte_exact(peer: StartPeer, version: str) -> None:
    """Streams, 1 MB, one-way streams and datagrams are echoed; both sides agree on who is who."""
    server, client = peer(version), peer(version)
    conn = client.dial(server.listen())
    assert server.accepted().node_id == client.node_id
    assert client.echo(conn, b"hello").ok
    bulk = client.bulk(conn, 1_000_000, seed=7)
    assert (bulk.ok, bulk.received) == (True, 1_000_000)
    assert client.uni(conn, b"one way").ok
    assert client.datagram(conn, b"datagram").ok
    stats = server.stats()
    assert (stats.connections, stats.bi_streams, stats.uni_streams, stats.datagrams) == (1, 2, 1, 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_server_side_can_open_streams_too(peer: StartPeer, version: str) -> None:
    """A number of an accepted connection is as good as that of a dialled one, and path says direct."""
    server, client = peer(version), peer(version)
    conn = client.dial(server.listen())
    client.start_ticker(conn)
    accepted = server.accepted()
    assert client.path(conn).kind == "direct"
    assert server.path(accepted.conn).kind == "direct"
    with pytest.raises(OfficialTimeout):
        # Our client side echoes nothing; that the stream opens and the call ends by time is the point.
        server.echo(accepted.conn, b"anyone?", within=0.2)


@pytest.mark.parametrize("version", VERSIONS)
def test_ticker_logs_every_message_once_in_order(peer: StartPeer, version: str) -> None:
    """A quiet path shows no loss and times that only grow; the end of the connection is in the log."""
    server, client = peer(version), peer(version)
    conn = client.dial(server.listen())
    client.start_ticker(conn, 0.005)
    assert 0 < client.healed(conn, time.monotonic() + 0.25) < DEADLINE
    log = client.ticker_log(conn)
    assert log.in_order
    assert all(log.sent[number] <= at <= log.at for number, at in log.echoes)
    client.close_connection(conn, code=7, reason="enough")
    until(lambda: client.ticker_log(conn).error is not None)
    assert client.stop_ticker(conn).in_order


@pytest.mark.parametrize("version", VERSIONS)
def test_call_on_a_closed_connection_says_why_it_closed(peer: StartPeer, version: str) -> None:
    """The reason of the other side reaches the caller."""
    server, client = peer(version), peer(version)
    conn = client.dial(server.listen())
    client.echo(conn, b"x")
    server.close_connection(server.accepted().conn, code=7, reason="bye")
    with pytest.raises(OfficialCallFailed, match="bye"):
        client.bulk(conn, 1_000_000)


@pytest.mark.parametrize("version", VERSIONS)
def test_secret_key_and_port_are_the_ones_given(peer: StartPeer, version: str) -> None:
    """The node id is the public key in hex for every version, the port the one asked for."""
    secret = bytes(range(32))
    node = peer(version, secret_key=secret, port=4433)
    assert node.node_id == bytes(nacl.signing.SigningKey(secret).verify_key).hex()
    assert "127.0.0.1:4433" in node.addr().direct_addresses


@pytest.mark.parametrize("version", VERSIONS)
def test_dial_that_cannot_work_fails_with_one_error(peer: StartPeer, version: str) -> None:
    """An unknown ALPN, and a node that does not listen yet."""
    server, client = peer(version), peer(version)
    addr = server.addr()
    with pytest.raises(OfficialCallFailed, match="not listening"):
        client.echo(client.dial(addr), b"x")
    server.listen()
    with pytest.raises(OfficialCallFailed, match="known protocol"):
        client.dial(addr, alpn="no/such/protocol")


@pytest.mark.parametrize("version", VERSIONS)
def test_killed_peer_fails_every_call_at_once(peer: StartPeer, version: str) -> None:
    """A crash is one clear error and not a time-out."""
    node = peer(version)
    node.process.kill()
    with pytest.raises(OfficialDied):
        node.addr(within=60.0)


RELAY_THAT_LISTENS = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 3340))
print("listening", flush=True)
connection = listener.accept()[0]
print(connection.recv(4096).split(b"\\r\\n")[0].decode(), flush=True)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_relay_url_makes_a_node_connect_to_that_relay(
    peer: StartPeer, network: PrivateNetwork, version: str
) -> None:
    """Also 0.x, which has no option for it: they dial a node that does not exist over the relay."""
    argv = network.argv([sys.executable, "-c", RELAY_THAT_LISTENS])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as relay:
        try:
            assert relay.stdout is not None
            assert relay.stdout.readline() == "listening\n"
            node = peer(version, relay_url="http://127.0.0.1:3340")
            assert select.select([relay.stdout], [], [], DEADLINE)[0]
            assert relay.stdout.readline().startswith("GET /")
            if version != "1.2.0":  # 1.x names a relay only once its handshake is done.
                assert node.addr().relay_url == "http://127.0.0.1:3340"
        finally:
            relay.kill()


PARENT = """
import sys
from pathlib import Path
from pytest_iroh.official import OfficialPeer
peer = OfficialPeer.start("0.35.0")
print(peer.process.pid, flush=True)
sys.stdin.read()
"""


def test_peer_ends_when_its_parent_is_killed(network: PrivateNetwork) -> None:
    """kill -9 of the test process leaves no node behind."""
    root = str(Path(__file__).parents[2])
    argv = network.argv([sys.executable, "-c", PARENT])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        node = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            assert select.select([node], [], [], DEADLINE)[0]
        finally:
            os.close(node)
