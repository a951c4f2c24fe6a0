"""What a command shows while it runs: the lab's events and the hosts' output, for people or as JSON lines."""

from __future__ import annotations

import json
import threading
from typing import IO, Any

import click
from rich.console import Console
from rich.text import Text

from netns_fixtures.events import LabEvent

_STYLES = {"lab_built": "dim", "lab_closed": "dim", "process_started": "dim", "process_ended": "dim"}


class Show:
    """Prints lines from several threads, one after the other.

    Events go to stderr, for stdout belongs to the programs; with ``as_json`` all goes to stdout, an object per
    line. ``quiet``: no events. ``to_stdout``: events are what the command is about.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, to_stdout: bool = False) -> None:
        self.as_json = as_json
        self._quiet = quiet
        self._lock = threading.Lock()
        self._console = Console(stderr=not to_stdout, highlight=False, soft_wrap=True)
        #: ``time.monotonic()`` from which the times of events count; None before the timeline begins.
        self.zero: float | None = None

    def event(self, event: LabEvent) -> None:
        """Something happened in the lab."""
        self.line(event.time, event.kind, event.node, event.text, event.data)

    def line(self, at: float, kind: str, node: str, text: str, data: dict[str, Any]) -> None:
        """The same from its parts."""
        if self.as_json:
            parts = {"kind": kind, "node": node, "text": text, "data": data}
            since = None if self.zero is None else round(at - self.zero, 6)
            self.object(type="event", time=since, **parts)
        elif not self._quiet:
            with self._lock:
                words = f"{self._since(at)}  {text}"
                if self._console.is_terminal:
                    self._console.print(Text(words, _STYLES.get(kind, "cyan")))
                else:
                    click.echo(words, err=self._console.stderr)

    def _since(self, at: float) -> str:
        return " " * 9 if self.zero is None else f"{at - self.zero:+9.3f}"

    def output(self, host: str, text: str) -> None:
        """A line that a program wrote."""
        if self.as_json:
            self.object(type="output", node=host, text=text)
        else:
            with self._lock:
                click.echo(f"{host} | {text}")

    def object(self, **fields: Any) -> None:
        """One JSON line."""
        with self._lock:
            click.echo(json.dumps(fields, default=str))

    def follow(self, host: str, stream: IO[bytes]) -> threading.Thread:
        """Show the lines of a program's output until it ends; the thread ends then, too."""

        def read() -> None:
            with stream:
                for line in stream:
                    self.output(host, line.decode(errors="replace").rstrip("\r\n"))

        thread = threading.Thread(target=read, name="netns-lab-output", daemon=True)
        thread.start()
        return thread
