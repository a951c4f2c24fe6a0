"""What happens to an endpoint, line by line on stderr while it happens."""

from __future__ import annotations

import time

from rich.console import Console
from rich.text import Text

from iroh_py.endpoint import Endpoint
from iroh_py.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    HomeRelayChanged,
    NetworkChanged,
    NodeEvent,
    PathChanged,
    RelayStateChanged,
)


class Journal:
    """Writes lines with the time of day; in a terminal what needs a look has a colour."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str, style: str = "") -> None:
        """Write a line."""
        if not self._quiet:
            line = Text.assemble((time.strftime("%H:%M:%S"), "dim"), "  ", (text, style))
            self._console.print(line)

    def watch(self, endpoint: Endpoint) -> None:
        """Write what this endpoint tells from now on."""
        endpoint.on_event(self._handle)

    def _handle(self, event: Event) -> None:
        told = describe(event)
        if told is not None:
            self.say(*told)


def describe(event: Event) -> tuple[str, str] | None:
    """An event as a line and its style; None for what people need not see."""
    match event:
        case PathChanged():
            return f"{_who(event)} {describe_path(event.path, event.relayed, event.latency)}", _style(event)
        case ConnectionOpened():
            return f"{_who(event)} {'answered' if event.dialled else 'connected'} ({event.alpn})", "bold"
        case ConnectionClosed():
            return f"{_who(event)} {event.text}", "bold"
        case HomeRelayChanged():
            return event.text, ""
        case RelayStateChanged():
            return f"relay {event.text}", "" if event.connected else "yellow"
        case NetworkChanged(major=True):
            return f"network: {', '.join(event.reasons)}", "yellow"
    return None


def describe_path(path: str, relayed: bool, latency: float | None = None) -> str:
    """The way that payload takes, in words."""
    if not path:
        return "has no path"
    way = f"relayed by {path.removeprefix('relay ')}" if relayed else f"direct to {path}"
    return way if latency is None else f"{way}, {latency * 1000:.1f} ms"


def _who(event: NodeEvent) -> str:
    return event.node.fmt_short()


def _style(event: PathChanged) -> str:
    if not event.path:
        return "red"
    return "yellow" if event.relayed else "green"
