"""Options that several commands share, and what their values parse to."""

from __future__ import annotations

import dataclasses
import functools
import ssl as ssl_module
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from iroh_py.addr import NodeAddr, parse_addr
from iroh_py.config import EndpointConfig
from iroh_py.endpoint import parse_target
from iroh_py.errors import TicketError
from iroh_py.network import Addr
from iroh_py.relay_map import STUN_PORT, RelayNode
from iroh_py.relay_url import RelayUrl

#: The application protocol of ``listen`` and ``connect`` unless another is given: that of our echo services.
DEFAULT_ALPN = "iroh-py/echo/0"


class _Parsed(click.ParamType[Any]):
    """A value that one of our parsers reads; what it refuses is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except TicketError as error:
            self.fail(f"{error}.", param, ctx)


def _parse_target(text: str) -> NodeAddr:
    return parse_target(text.strip())


ADDRESS = _Parsed("IP:PORT", parse_addr)
RELAY = _Parsed("URL", RelayUrl.parse)
TARGET = _Parsed("TICKET", _parse_target)
FILE = click.Path(dir_okay=False, path_type=Path)
READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """What the shared options say about relays and discovery."""

    relays: tuple[RelayUrl, ...] = ()
    stun_port: int = STUN_PORT
    token: str | None = None
    ca: Path | None = None
    portmap: bool = True
    discover: tuple[str, ...] = ()

    def nodes(self) -> tuple[RelayNode, ...]:
        """The relays with their STUN port."""
        return tuple(RelayNode(url, stun_port=self.stun_port or None) for url in self.relays)

    def ssl(self) -> ssl_module.SSLContext | None:
        """A context that also trusts ``--ca``; None means the system's authorities. Raises OSError."""
        if self.ca is None:
            return None
        context = ssl_module.create_default_context()
        try:
            context.load_verify_locations(self.ca)
        except ssl_module.SSLError:
            raise click.UsageError(f"--ca: {self.ca} contains no certificate in PEM form.") from None
        return context

    def config(self) -> EndpointConfig:
        """The configuration of an endpoint."""
        return EndpointConfig(
            relays=self.nodes(),
            relay_ssl=self.ssl(),
            relay_token=self.token,
            portmap=self.portmap,
            discovery=tuple(service for name in self.discover for service in _discoveries(name)),
        )


def _discoveries(name: str) -> tuple[object, ...]:
    # Imported for those who want it: DNS, pkarr and their servers cost a tenth of a second.
    from iroh_py.discovery import DnsDiscovery, LocalDiscovery, PkarrDiscovery

    return (LocalDiscovery(),) if name == "local" else (DnsDiscovery(), PkarrDiscovery())


_RELAY_OPTIONS = (
    click.option(
        "--relay",
        "relays",
        multiple=True,
        type=RELAY,
        envvar="IROH_PY_RELAY",
        help="A relay to use; several: the nearest becomes the home relay. [env: IROH_PY_RELAY]",
    ),
    click.option(
        "--stun-port",
        type=click.IntRange(0, 65535),
        default=STUN_PORT,
        show_default=True,
        help="Where the relays answer STUN; 0: nowhere.",
    ),
    click.option(
        "--ca", type=READABLE, help="Certificate authorities (PEM) to trust beside the system's, for relays."
    ),
    click.option(
        "--portmap/--no-portmap",
        default=True,
        help="Whether to ask the router for a public port (PCP, NAT-PMP, UPnP).",
    ),
)
_ENDPOINT_OPTIONS = (
    click.option(
        "--token",
        envvar="IROH_PY_RELAY_TOKEN",
        help="Bearer token for the relays. [env: IROH_PY_RELAY_TOKEN, which 'ps' does not show]",
    ),
    click.option(
        "--discover",
        multiple=True,
        type=click.Choice(["local", "n0"]),
        help="Find nodes, and be found: in the local network by multicast, or through number 0's public DNS "
        "and pkarr servers.",
    ),
)


def relay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--relay`` and what belongs to it; the command gets ``network``, NetworkOptions."""
    return _bundle(command, _RELAY_OPTIONS)


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """As ``relay_options``, for commands that make an endpoint."""
    return _bundle(command, _RELAY_OPTIONS + _ENDPOINT_OPTIONS)


def _bundle(command: Callable[..., Any], options: tuple[Callable[[Any], Any], ...]) -> Callable[..., Any]:
    names = {field.name for field in dataclasses.fields(NetworkOptions)}

    @functools.wraps(command)
    def bundled(*args: Any, **values: Any) -> Any:
        chosen = {name: values.pop(name) for name in names & values.keys()}
        return command(*args, network=NetworkOptions(**chosen), **values)

    for option in reversed(options):
        bundled = option(bundled)
    return bundled


def wildcards(addresses: tuple[Addr, ...]) -> tuple[Addr, ...]:
    """The addresses to bind an endpoint to: those given, or all of both families."""
    return addresses or (("0.0.0.0", 0), ("::", 0))
