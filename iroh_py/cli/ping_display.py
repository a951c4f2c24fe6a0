"""How a run of pings looks: a live table in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from iroh_py.cli.pinging import Pinging
from iroh_py.keys import NodeId

#: Path changes that the live display keeps in sight.
_SHOWN_CHANGES = 8


class Display(Protocol):
    """Is told what happens. Paths are texts for people."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def answered(self, number: int, seconds: float, path: str) -> None:
        """An answer came back."""

    def silent(self, seconds: float) -> None:
        """Nothing comes back for so long."""

    def path_changed(self, path: str) -> None:
        """The path in use; also told when it is still the same."""

    def over(self) -> None:
        """That was all."""


def make_display(node_id: NodeId, pinging: Pinging) -> Display:
    """What suits stdout."""
    console = Console(highlight=False)
    return LiveDisplay(node_id, pinging, console) if console.is_terminal else PlainDisplay(pinging)


class PlainDisplay:
    """One line for each answer and each change."""

    def __init__(self, pinging: Pinging) -> None:
        self._pinging = pinging
        self._path = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def answered(self, number: int, seconds: float, path: str) -> None:
        """An answer came back."""
        click.echo(f"{number}: {seconds * 1000:.2f} ms, {path}")

    def silent(self, seconds: float) -> None:
        """Nothing comes back for so long."""
        click.echo(f"no answer for {seconds:.1f} s")

    def path_changed(self, path: str) -> None:
        """The path in use."""
        if path != self._path:
            self._path = path
            click.echo(f"path: {path}")

    def over(self) -> None:
        """That was all."""
        click.echo(self._pinging.summary())


class LiveDisplay:
    """A table that is drawn anew with each change."""

    def __init__(self, node_id: NodeId, pinging: Pinging, console: Console) -> None:
        self._node_id = node_id
        self._pinging = pinging
        self._changes: deque[Text] = deque(maxlen=_SHOWN_CHANGES)
        self._path = ""
        self._silence = 0.0
        self._live = Live(console=console, auto_refresh=False, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def answered(self, number: int, seconds: float, path: str) -> None:
        """An answer came back."""
        self._silence = 0.0
        self._live.refresh()

    def silent(self, seconds: float) -> None:
        """Nothing comes back for so long."""
        self._silence = seconds
        self._live.refresh()

    def path_changed(self, path: str) -> None:
        """The path in use."""
        if path != self._path:
            self._path = path
            self._changes.append(Text(f"{time.strftime('%H:%M:%S')}  {path}", "dim"))
            self._live.refresh()

    def over(self) -> None:
        """That was all: the last picture stays."""
        self._live.refresh()

    def _render(self) -> Group:
        pinging = self._pinging
        table = Table.grid(padding=(0, 2))
        table.add_row("node", Text(str(self._node_id), "bold"))
        table.add_row("path", Text(self._path, "green" if self._path.startswith("direct") else "yellow"))
        last = "" if pinging.last is None else f"{pinging.last * 1000:.2f} ms"
        state = Text(f"silent for {self._silence:.1f} s", "red") if self._silence else Text(last, "bold")
        table.add_row("rtt", state)
        table.add_row("", pinging.summary())
        return Group(table, Text(), *self._changes)
