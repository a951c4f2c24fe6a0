"""The official bindings of every generation through our relay server, with UDP cut: nothing else can carry them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import pytest

from pytest_iroh.official import OfficialPeer
from pytest_iroh.official.messages import OfficialAddr
from pytest_iroh.official.process import Process

VERSIONS = ["0.28.1", "0.35.0", "1.2.0"]
URL = "http://127.0.0.1:3340/"
DEADLINE = 10.0

#: Runs in the namespace: a relay until the input ends, then its counters.
_RELAY = """
import asyncio, json, sys
from iroh_py.relay import RelayConfig, RelayServer
async def main():
    config = RelayConfig(bind=(("127.0.0.1", 3340),), stun_bind=(("127.0.0.1", 3478),))
    async with RelayServer(config) as server:
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(json.dumps(server.stats().counters), flush=True)
asyncio.run(main())
"""
_NO_UDP = """
table inet cut {
  chain out {
    type filter hook output priority 0;
    udp dport 3478 accept
    udp sport 3478 accept
    meta l4proto udp drop
  }
}
"""


def _lines(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


@dataclass(frozen=True)
class RelayedNetwork:
    """A namespace with loopback, no UDP except STUN, and our relay in it."""

    holder: subprocess.Popen[str]
    relay: subprocess.Popen[str]

    def popen(self, argv: list[str]) -> Process:
        """Start a program in the namespace."""
        return subprocess.Popen(_enter(self.holder, argv), stdin=subprocess.DEVNULL)

    def counters(self) -> dict[str, int]:
        """End the relay; what it counted."""
        out, _ = self.relay.communicate(timeout=DEADLINE)
        counters: dict[str, int] = json.loads(out.splitlines()[-1])
        return counters


def _enter(holder: subprocess.Popen[str], argv: list[str]) -> list[str]:
    return [
        "nsenter", "--target", str(holder.pid), "--user", "--preserve-credentials", "--net", "--", *argv,
    ]  # fmt: skip


@pytest.fixture
def network() -> Iterator[RelayedNetwork]:
    """The network, or a skip that says what is missing."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "nft"))):
        pytest.skip("needs unshare, nsenter, ip and nft: apt-get install util-linux iproute2 nftables")
    with contextlib.ExitStack() as stack:
        holder = subprocess.Popen(
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
        stack.callback(holder.communicate, timeout=DEADLINE)
        if _lines(holder).readline() != "ready\n":
            pytest.skip("no network namespace for us: run as root or allow user namespaces")
        subprocess.run(_enter(holder, ["nft", "-f", "-"]), input=_NO_UDP, text=True, check=True)
        relay = subprocess.Popen(
            _enter(holder, [sys.executable, "-c", _RELAY]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, relay)
        assert _lines(relay).readline() == "ready\n"
        yield RelayedNetwork(holder, relay)


def _end(relay: subprocess.Popen[str]) -> None:
    if relay.poll() is None:
        relay.communicate(timeout=DEADLINE)


@pytest.mark.parametrize("version", VERSIONS)
def test_official_nodes_meet_and_talk_through_our_relay(
    network: RelayedNetwork, official_iroh: Callable[..., OfficialPeer], version: str
) -> None:
    """Two official nodes that know only the relay connect, and a megabyte arrives byte-exact."""
    server = official_iroh(version, popen=network.popen, relay_url=URL)
    client = official_iroh(version, popen=network.popen, relay_url=URL)
    listening = server.listen()
    conn = client.dial(OfficialAddr(listening.node_id, URL, ()), within=DEADLINE)
    assert client.echo(conn, b"hello", within=DEADLINE).ok
    assert client.bulk(conn, 1_000_000, seed=7).ok
    assert client.path(conn).kind in ("relay", "mixed")
    counters = network.counters()
    assert counters["logins"] >= 2
    assert counters["bytes_in"] > 2_000_000
    assert counters["protocol_errors"] == 0
