"""Netcheck probes that are more than a datagram: HTTPS, ICMP, captive portal, hairpin (PROTOCOL.md 5.5)."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Sequence

from iroh_py.errors import LocalProtocolError, RemoteProtocolError
from iroh_py.io import http
from iroh_py.network import Addr, Family, Network
from iroh_py.relay_url import RelayUrl

#: Where a relay of 0.35 answers, and where those of 0.28 do (7.10).
LATENCY_PATHS = ("/ping", "/relay/probe")
#: One attempt; the run gives all of them 3 s.
HTTPS_TIMEOUT = 3.0
ICMP_TIMEOUT = 3.0
#: A second packet to ourselves, for a router that dropped the first while it made the mapping.
HAIRPIN_REPEAT = 0.03
HTTP_PORT = 80


class ProbeError(Exception):
    """A probe failed, with a sentence; ``final``: repeating it is useless."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


async def https_latency(
    network: Network, url: RelayUrl, ips: Sequence[str], ssl: ssl_module.SSLContext | None
) -> float:
    """Seconds of one request and its answer on a connection to a relay. Raises ProbeError.

    The connection's own round trips do not count, so that the latency compares with that of STUN.
    """
    last = "no address"
    for ip in ips:
        try:
            async with asyncio.timeout(HTTPS_TIMEOUT):
                for path in LATENCY_PATHS:
                    response = await http.request(
                        network,
                        ip,
                        url.port,
                        path,
                        host=host_field(url),
                        ssl=ssl if url.is_tls else None,
                        server_hostname=url.host if url.is_tls else None,
                    )
                    if response.status == 200:
                        return response.seconds
                last = f"status {response.status}"
        except LocalProtocolError as error:  # this network has no TLS
            raise ProbeError(str(error), final=True) from error
        except (OSError, RemoteProtocolError) as error:
            last = str(error) or "no answer"
    raise ProbeError(f"HTTPS probe of {url} failed: {last}")


async def icmp_latency(network: Network, ips: Sequence[str]) -> float:
    """Seconds of one ICMP echo. Raises ProbeError, a final one where this process may not send any."""
    try:
        return await network.icmp_ping(ips[0], ICMP_TIMEOUT)
    except PermissionError as error:
        raise ProbeError(f"ICMP skipped: {error.strerror or error}", final=True) from error
    except OSError as error:  # TimeoutError is one
        raise ProbeError(f"ICMP echo to {ips[0]} failed: {error or 'no answer'}") from error


async def captive_portal(network: Network, url: RelayUrl, ips: Sequence[str]) -> bool:
    """Whether somebody answers plain HTTP in the relay's place. Raises ProbeError if nobody answers.

    A relay with TLS serves this on port 80, one without on its own port (7.10).
    """
    challenge = f"ts_{_challenge_text(url.host)}"
    try:
        response = await http.request(
            network,
            ips[0],
            HTTP_PORT if url.is_tls else url.port,
            "/generate_204",
            host=url.host if url.is_tls else host_field(url),
            headers={"X-Tailscale-Challenge": challenge},
        )
    except http.HttpError:
        return True  # whoever answers garbage is not the relay
    except OSError as error:
        raise ProbeError(f"the captive portal check failed: {error or 'no answer'}") from error
    expected = f"response {challenge}"
    return response.status != 204 or response.headers.get("x-tailscale-response") != expected


async def send_hairpin(network: Network, data: bytes, addr: Addr) -> None:
    """Send a packet from another socket to our own public address; the answer arrives elsewhere.

    Raises ProbeError.
    """
    try:
        sock = network.open_udp(Family.V4, "0.0.0.0", 0, lambda batch: None)
    except OSError as error:
        raise ProbeError(f"the hairpin test failed: {error}") from error
    try:
        sock.send([data], addr)
        await asyncio.sleep(HAIRPIN_REPEAT)
        sock.send([data], addr)
    except OSError as error:
        raise ProbeError(f"the hairpin test failed: {error}") from error
    finally:
        sock.close()


def host_field(url: RelayUrl) -> str:
    """The Host field of a request to a relay."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    default = 443 if url.is_tls else HTTP_PORT
    return host if url.port == default else f"{host}:{url.port}"


def _challenge_text(host: str) -> str:
    """The host with only what a relay accepts in a challenge, 60 characters at most (7.10)."""
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in host)[:60]
