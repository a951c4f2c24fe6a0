"""What a failing test with a real lab leaves behind: packets, the page, the state of the kernels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attempt_kit import failed_attempt
from chromium import needs_chromium, visit
from programs import needs
from scapy.utils import RawPcapNgReader

TEST = """
    import asyncio
    import socket

    def connect(lab):
        home = lab.router("home", nat="moderate")
        laptop = lab.host("laptop", uplink=home)
        server = lab.host("server", uplink=lab.router("dc"))
        return home, laptop, server

    async def test_connection(lab, endpoints, heals):
        home, laptop, server = connect(lab)
        async with endpoints.connect(laptop, server) as connection:
            async with heals(connection, within=0.4):
                laptop.link.down()
        await endpoints.aclose()

    def test_passing(lab):
        home, laptop, server = connect(lab)
        with laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (server.ip, 9))
"""


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the failing test's only attempt, from a pytest of its own."""
    return failed_attempt(tmp_path_factory.mktemp("project"), TEST, "1 failed, 1 passed")


def comments(path: Path) -> list[str]:
    with RawPcapNgReader(str(path)) as reader:
        metas: list[Any] = [meta for _data, meta in reader]
    return [comment.decode() for meta in metas for comment in meta.comments or []]


def test_a_failing_test_leaves_its_packets(attempt: Path) -> None:
    """A file per interface; the lab's events and the opened disco messages are comments."""
    names = {path.name for path in (attempt / "packets").iterdir()}
    assert {"laptop-eth0.pcapng", "home-lan.pcapng", "home-wan.pcapng", "server-eth0.pcapng"} <= names
    found = comments(attempt / "packets" / "laptop-eth0.pcapng")
    assert any("laptop eth0 went down" in comment for comment in found)
    assert any(comment.startswith("disco ping ") for comment in found)
    assert any(comment.startswith("disco pong ") for comment in found)


def test_a_failing_test_leaves_the_state_of_its_nodes(attempt: Path) -> None:
    """Addresses, routes and rules of hosts and routers, or why they are not there."""
    laptop = (attempt / "kernel" / "laptop.txt").read_text()
    assert "# ip route show table all" in laptop
    assert "# tracked connections" in laptop
    if shutil.which("ip"):
        assert "eth0" in laptop
        assert "state DOWN" in laptop
    else:
        assert "(not available: ip is not installed)" in laptop
    assert "# nft list ruleset" in (attempt / "kernel" / "home.txt").read_text()


def test_gathering_leaves_no_trace_in_the_timeline(attempt: Path) -> None:
    """The evidence shows the test, and not how the evidence was made."""
    assert "ip route" not in (attempt / "timeline.jsonl").read_text()
    assert "process_started" not in (attempt / "timeline.jsonl").read_text()


def test_a_failing_test_leaves_a_page(attempt: Path) -> None:
    """With the outcome, the reason, and the command that runs it again with the same seed."""
    page = (attempt / "report.html").read_text()
    assert "DidNotHeal" in page
    assert "::test_connection" in page
    assert "--netns-seed" in page


@needs_chromium
def test_the_page_of_a_real_test_works_in_a_browser(attempt: Path, tmp_path: Path) -> None:
    """Drawing, lanes and the silence after the link went down, without a word on the console."""
    page = (attempt / "report.html").read_text()
    probe = """document.body.setAttribute("data-found", [...document.querySelectorAll(
        "#drawings text, #lanes .lane-name, #lanes .gap-text")].map((node) => node.textContent).join("|"))"""
    visited = visit(page, tmp_path, probe)
    assert visited.console == []
    words = visited.attribute("data-found").split("|")
    assert {"internet", "home", "laptop", "✕ down", "the lab", "payload", "server"} <= set(words)
    assert any(word.endswith(" ms") for word in words)


@needs("tshark", "tshark")
def test_wireshark_finds_the_events(attempt: Path) -> None:
    """A display filter on comments leads to the moment of a change."""
    path = attempt / "packets" / "server-eth0.pcapng"
    argv = ["tshark", "-r", str(path), "-Y", 'frame.comment contains "went down"']
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 1
