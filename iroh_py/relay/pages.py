"""The HTTP services of a relay besides the relay itself (PROTOCOL.md 7.10 and 11.5): request in, page out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

from iroh_py.relay.metrics import RelayStats, prometheus_text

#: On every response of the main listener, as the original has them: this host serves nothing to browsers.
SECURITY_HEADERS = (
    ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
    (
        "Content-Security-Policy",
        "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'self'",
    ),
)
PROBE_PATHS = frozenset({"/ping", "/relay/probe", "/derp/probe"})
CAPTIVE_PATH = "/generate_204"
#: Challenge and response header of generation 3 and of 1.x.
CHALLENGE_HEADERS = (
    ("x-tailscale-challenge", "X-Tailscale-Response"),
    ("x-iroh-challenge", "X-Iroh-Response"),
)
_CHALLENGE = re.compile(r"[A-Za-z0-9._-]{1,63}")
_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>iroh relay</title></head>
<body><h1>iroh relay</h1><p>This is a relay server of iroh-py. It forwards encrypted packets between nodes
that cannot reach each other directly.</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A complete answer, without the security headers."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def reason(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase


NOT_FOUND = Page(404, (("Content-Type", "text/plain"),), b"Not Found")


def captive_page(path: str, headers: Mapping[str, str]) -> Page:
    """The only page of the plain HTTP listener beside TLS; ``headers`` has lower-case names."""
    if path != CAPTIVE_PATH:
        return NOT_FOUND
    for question, answer in CHALLENGE_HEADERS:
        challenge = headers.get(question)
        if challenge is not None and _CHALLENGE.fullmatch(challenge):
            return Page(204, ((answer, f"response {challenge}"),))
    return Page(204)


def metrics_page(path: str, stats: RelayStats) -> Page:
    """The only page of a separate metrics listener."""
    if path != "/metrics":
        return NOT_FOUND
    kind = (("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),)
    return Page(200, kind, prometheus_text(stats).encode())


def relay_page(path: str, headers: Mapping[str, str], stats: Callable[[], RelayStats] | None) -> Page:
    """Any page of the main listener; ``stats`` is None when metrics are served elsewhere."""
    if path in PROBE_PATHS:
        return Page(200, (("Access-Control-Allow-Origin", "*"),))
    if path == CAPTIVE_PATH:
        return captive_page(path, headers)
    if path in ("/", "/index.html"):
        return Page(200, (("Content-Type", "text/html; charset=utf-8"),), _INDEX.encode())
    if path == "/robots.txt":
        return Page(200, (("Content-Type", "text/plain"),), b"User-agent: *\nDisallow: /\n")
    if path == "/healthz":
        health = {"status": "ok", "version": version("iroh-py"), "git_hash": ""}
        return Page(200, (("Content-Type", "application/json"),), json.dumps(health).encode())
    if path == "/metrics" and stats is not None:
        return metrics_page(path, stats())
    return NOT_FOUND
