"""What endpoints leave behind in a failed test: TLS secrets with which Wireshark decrypts, and qlog."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from attempt_kit import failed_attempt
from programs import needs

pytestmark = pytest.mark.requires_netns

WORDS = "a sentence to be found in the packets"
#: IPv4 alone: Wireshark follows the way that the first packet of a connection took, and with IPv6 there are two.
TEST = f"""
    from pytest_iroh import echo

    async def test_connection(lab, endpoints, heals):
        home, centre = lab.router("home", nat="moderate", ipv6=False), lab.router("dc", ipv6=False)
        laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=centre)
        async with endpoints.connect(laptop, server) as connection:
            await echo(connection, {WORDS.encode()!r})
            async with heals(connection, within=0.3):
                laptop.link.down()
"""


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the failing test's only attempt, from a pytest of its own."""
    return failed_attempt(tmp_path_factory.mktemp("project"), TEST, "1 failed")


def test_secrets_are_kept(attempt: Path) -> None:
    """In a file of their own, and inside of each capture file."""
    keys = (attempt / "keys.log").read_text()
    assert "CLIENT_TRAFFIC_SECRET_0 " in keys
    assert "SERVER_TRAFFIC_SECRET_0 " in keys
    assert keys.encode() in (attempt / "packets" / "laptop-eth0.pcapng").read_bytes()


def test_each_connection_has_a_qlog(attempt: Path) -> None:
    """One file per connection and end, with times that fit those of the packets."""
    for name, point in (("laptop", "client"), ("server", "server")):
        (trace,) = json.loads((attempt / "qlog" / f"{name}-1.qlog").read_text())["traces"]
        assert trace["vantage_point"]["type"] == point
        names = [event["name"] for event in trace["events"]]
        assert {"transport:packet_sent", "transport:packet_received", "security:key_updated"} <= set(names)
    age = trace["events"][0]["time"] / 1000 - attempt.stat().st_mtime
    assert abs(age) < 60


@needs("tshark", "tshark")
def test_wireshark_reads_the_payload(attempt: Path) -> None:
    """A kept capture file needs nothing else to be decrypted."""
    path = attempt / "packets" / "laptop-eth0.pcapng"
    argv = ["tshark", "-r", str(path), "-Y", f'quic.stream_data contains "{WORDS}"']
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 2  # there, and back


def test_without_artifacts_endpoints_log_nothing(pytester: pytest.Pytester) -> None:
    """--netns-artifacts off costs nothing, and a test's own logs are its own."""
    pytester.makepyfile(
        """
        import dataclasses, io
        import pytest
        from iroh_py import EndpointConfig

        async def test_config(endpoints, request):
            endpoint = await endpoints.bind(None)
            kept = request.config.getoption("netns_artifacts") != "off"
            assert (endpoint.config.qlog is not None) == (endpoint.config.key_log is not None) == kept
            mine = io.StringIO()
            other = await endpoints.bind(None, config=EndpointConfig(key_log=mine))
            assert other.config.key_log is mine
        """
    )
    pytester.runpytest("--netns-artifacts=off").assert_outcomes(passed=1)
    pytester.runpytest("--netns-artifacts=on").assert_outcomes(passed=1)
