"""The main job as users write it, on a real kernel network."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.requires_netns

NETWORK = """
import sys
from pytest_iroh import PING_INTERVAL, Recorder

def network(lab):
    home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
    laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=lab.router("dc"))
    return home, hotspot, laptop, server
"""


def test_laptop_moves_async(pytester: pytest.Pytester) -> None:
    """An async test with the imported heals: the laptop leaves its Wi-Fi and keeps its connection."""
    pytester.makepyfile(
        NETWORK
        + """
from pytest_iroh import heals

async def test_wifi_to_hotspot(lab, endpoints):
    home, hotspot, laptop, server = network(lab)
    async with endpoints.connect(laptop, server) as conn:
        async with heals(conn, within=PING_INTERVAL) as healing:
            laptop.replug(hotspot)
    assert healing.direct and healing.bytes_lost == 0
    assert healing.cause == "laptop eth0 replugged home -> hotspot"
    assert (healing.link_engine, healing.seed) == ("veth", lab.seed)
"""
    )

    pytester.runpytest("--netns-strict").assert_outcomes(passed=1)


def test_laptop_moves_plain(pytester: pytest.Pytester) -> None:
    """The same in a plain test, without any async plugin."""
    pytester.makepyfile(
        NETWORK
        + """
def test_wifi_to_hotspot(lab, endpoints, heals):
    home, hotspot, laptop, server = network(lab)
    with endpoints.connect(laptop, server) as conn:
        with heals(conn, within=PING_INTERVAL) as healing:
            laptop.replug(hotspot)
    assert healing.direct and healing.bytes_lost == 0
"""
    )
    pytester.makeini("[pytest]\nfilterwarnings = error")

    pytester.runpytest("-p", "no:asyncio", "--netns-strict").assert_outcomes(passed=1)


def test_foreign_program_is_watched_over(pytester: pytest.Pytester) -> None:
    """Anything that answers can be watched over: here a socket that asks a foreign program."""
    pytester.makepyfile(
        NETWORK
        + """
import socket

SERVER = '''
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 9000))
print("up", flush=True)
while True:
    data, peer = s.recvfrom(100)
    s.sendto(data, peer)
'''

def test_own_program(lab, heals):
    home, hotspot, laptop, server = network(lab)
    server.popen([sys.executable, "-c", SERVER]).wait_for_output("up")
    client = laptop.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(0.2)

    def ask():
        client.sendto(b"hi", (server.ip, 9000))
        return client.recv(100)

    with client:
        with heals(ask, within=5) as healing:
            home.nat.rebind()
    assert healing.cause.startswith("home NAT rebound")
"""
    )

    pytester.runpytest("--netns-strict").assert_outcomes(passed=1)


def test_event_is_stamped_when_the_verb_begins(pytester: pytest.Pytester) -> None:
    """Healing times include the kernel's work, and answers count only after it."""
    pytester.makepyfile(
        NETWORK
        + """
from pytest_iroh.timeline import now

def test_stamp(lab, recorder):
    home, hotspot, laptop, server = network(lab)
    lab.build()
    began = now()
    laptop.replug(hotspot)
    (change,) = recorder.changes(began)
    assert began <= change.began < change.done <= now()
"""
    )

    pytester.runpytest("--netns-strict").assert_outcomes(passed=1)
