"""One HTTP request to a URL: look up its host, try its addresses, read a small answer."""

from __future__ import annotations

import asyncio
import functools
import ssl as ssl_module
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from iroh_py.discovery.race import first_success
from iroh_py.errors import LocalProtocolError
from iroh_py.io import http
from iroh_py.io.http import HttpResponse
from iroh_py.network import Network

#: Connection attempt delay of RFC 8305 section 5, in seconds.
_STAGGER = 0.25
#: Addresses of a host that are tried: two of each family.
_MAX_ADDRESSES = 4
_PORTS = {"http": 80, "https": 443}


@functools.cache
def _system_context() -> ssl_module.SSLContext:
    """The context with the system's authorities; made once, for reading them takes some 20 ms."""
    return ssl_module.create_default_context()


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The parts of an http or https URL that requests are made of; ``path`` has no slash at its end."""

    tls: bool
    host: str
    port: int
    path: str
    #: The Host field.
    authority: str

    @classmethod
    def parse(cls, text: str) -> BaseUrl:
        """Read a URL without query and fragment. Raises LocalProtocolError."""
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise LocalProtocolError(f"{text!r} is no URL: {error}") from error
        if (
            parts.scheme not in _PORTS
            or not parts.hostname
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise LocalProtocolError(f"{text!r} is no plain http or https URL")
        host = parts.hostname.removesuffix(".")
        shown = f"[{host}]" if ":" in host else host
        standard = port is None or port == _PORTS[parts.scheme]
        return cls(
            parts.scheme == "https",
            host,
            _PORTS[parts.scheme] if port is None else port,
            parts.path.rstrip("/"),
            shown if standard else f"{shown}:{port}",
        )


async def fetch(
    network: Network,
    url: BaseUrl,
    path: str,
    *,
    within: float,
    method: str = "GET",
    body: bytes = b"",
    content_type: str = "",
    ssl: ssl_module.SSLContext | None = None,
) -> HttpResponse:
    """Send one request and return the answer, whatever its status; redirects are not followed.

    ``within``: seconds for everything. ``ssl``: for https; None means the system's certificate authorities.
    Raises OSError (TimeoutError), RemoteProtocolError for what is no HTTP.
    """
    context = (ssl or _system_context()) if url.tls else None
    headers = {"Content-Type": content_type} if content_type else {}

    async def ask(ip: str) -> HttpResponse:
        return await http.request(
            network,
            ip,
            url.port,
            url.path + path,
            host=url.authority,
            method=method,
            headers=headers,
            body=body,
            ssl=context,
            server_hostname=url.host if url.tls else None,
        )

    try:
        async with asyncio.timeout(within):
            ips = (await network.resolve(url.host))[:_MAX_ADDRESSES]
            attempts: list[Callable[[], Awaitable[HttpResponse]]] = [partial(ask, ip) for ip in ips]
            return await first_success(attempts, [_STAGGER * number for number in range(len(ips))])
    except TimeoutError:
        raise TimeoutError(f"{url.authority} did not answer within {within:g} s") from None
