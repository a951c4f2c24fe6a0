"""What a command asks of the process that holds a lab."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from netns_fixtures.errors import LabError
from netns_fixtures.holding.channel import receive, send
from netns_fixtures.holding.places import Held, connect

#: Seconds for killing all programs of a lab and closing it; it takes milliseconds.
DOWN_TIMEOUT = 10.0


class Visitor:
    """One connection, for one request."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._channel = connect(held)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._channel.close()

    def fileno(self) -> int:
        """Readable when an answer is there."""
        return self._channel.fileno()

    def ask(self, what: str, fds: Sequence[int] = (), **fields: Any) -> None:
        """Send the request. Raises LabError when the lab is gone."""
        try:
            send(self._channel, {"ask": what, **fields}, fds)
        except OSError:
            raise self._gone() from None

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises LabError with what the holder says went wrong, and when it is gone."""
        try:
            answer, _fds = receive(self._channel)
        except (EOFError, OSError):
            raise self._gone() from None
        if "error" in answer:
            raise LabError(answer["error"])
        found: dict[str, Any] = answer
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the program that was asked for."""
        send(self._channel, {"signal": number})

    def events(self, *, follow: bool) -> Iterator[dict[str, Any]]:
        """The lab's events so far; with ``follow`` also what happens, until it goes down."""
        self.ask("events", follow=follow)
        while event := self.answer():
            yield event

    def start(self, node: str, argv: Sequence[str], fds: Sequence[int], *, terminal: bool = False) -> int:
        """Start a program; returns its pid. The next answer has its ``status``."""
        where = {"node": node, "argv": list(argv), "env": dict(os.environ), "cwd": os.getcwd()}
        self.ask("run", fds, terminal=terminal, **where)
        return int(self.answer()["pid"])

    def _gone(self) -> LabError:
        return LabError(f"lab {self._held.name} went down")


def ask(held: Held, what: str, **fields: Any) -> dict[str, Any]:
    """One request with one answer. Raises LabError."""
    with Visitor(held) as visitor:
        visitor.ask(what, **fields)
        return visitor.answer()


def take_down(held: Held) -> None:
    """Bring a lab down, and wait until it is; a holder that does not answer is killed, which does the same.

    Raises LabError when somebody else brought it down meanwhile.
    """
    try:
        holder = os.pidfd_open(held.pid)
    except ProcessLookupError:
        raise LabError(f"lab {held.name} went down this moment") from None
    try:
        ask(held, "down")
        if not select.select([holder], [], [], DOWN_TIMEOUT)[0]:
            signal.pidfd_send_signal(holder, signal.SIGKILL)
            select.select([holder], [], [], DOWN_TIMEOUT)
    finally:
        os.close(holder)
