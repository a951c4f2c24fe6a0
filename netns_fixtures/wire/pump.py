"""The wire process's one loop: TAPs, the control socket and one timer, on one epoll, in one thread."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netns_fixtures.errors import LinkEngineError
from netns_fixtures.replies import encode_error, encode_reply
from netns_fixtures.wire.agenda import Agenda
from netns_fixtures.wire.line import Line
from netns_fixtures.wire.messages import (
    FDS_PER_LINK,
    MAX_MESSAGE,
    AddLink,
    ReadStats,
    RemoveLink,
    Request,
    SetCondition,
    SetConnected,
    check_fds,
    decode_request,
)
from netns_fixtures.wire.timer import TimerFd

# Frames due within this are written now: waking again costs as much, and comes later than asked.
_SLACK = 50e-6


@dataclass(frozen=True, slots=True)
class _Link:
    forward: Line
    backward: Line

    @property
    def lines(self) -> tuple[Line, Line]:
        return self.forward, self.backward


class Pump:
    """Moves frames until the other end of the control socket is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._links: dict[int, _Link] = {}
        self._lines: dict[int, Line] = {}  # by the descriptor that they read
        self._agenda = Agenda()
        self._timer = TimerFd()
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        self._epoll.register(self._timer, select.EPOLLIN)

    def run(self) -> None:
        """Serve; returns at end of file of the control socket, with every descriptor closed."""
        control, timer = self._control.fileno(), self._timer.fileno()
        serving = True
        while serving:
            for fd, _ in self._epoll.poll():
                # A line may be gone since epoll spoke, by a request earlier in this turn.
                line = self._lines.get(fd)
                if line is not None:
                    self._handle_readable(line)
                elif fd == timer:
                    self._timer.acknowledge(time.monotonic())
                elif fd == control:
                    serving = self._handle_control()
            self._deliver_due()
        self._close()

    def _handle_readable(self, line: Line) -> None:
        if not line.handle_readable():
            # Closing is the lab's business; but epoll would report a deleted device for ever.
            self._forget_source(line)
        self._agenda.note(line)

    def _deliver_due(self) -> None:
        agenda = self._agenda
        due = agenda.next_due
        if due is None:
            return
        now = time.monotonic()
        until = now + _SLACK
        while (line := agenda.pop_due(until)) is not None:
            line.deliver(until)
            agenda.note(line)
        due = agenda.next_due
        if due is not None:
            self._timer.arm(now, due)

    def _handle_control(self) -> bool:
        try:
            packet, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, FDS_PER_LINK)
        except ConnectionResetError:
            return False  # the lab died with a reply unread
        if not packet:
            return False
        try:
            reply = encode_reply(self._carry_out(packet, fds))
        except LinkEngineError as error:
            for fd in fds:
                os.close(fd)
            reply = encode_error(str(error))
        try:
            self._control.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return False  # the lab is gone between asking and hearing
        return True

    def _carry_out(self, packet: bytes, fds: Sequence[int]) -> Any:
        request = decode_request(packet)
        check_fds(request, fds)
        if isinstance(request, AddLink):
            return self._add_link(request, *fds)
        link = self._link(request)
        match request:
            case SetCondition():
                _set_condition(link.forward, request.forward)
                _set_condition(link.backward, request.backward)
            case SetConnected():
                _set_connected(link, request.connected)
            case RemoveLink():
                self._remove_link(request.link)
            case ReadStats():
                return _stats(link)
        return None

    def _link(self, request: Request) -> _Link:
        try:
            return self._links[request.link]
        except KeyError:
            raise LinkEngineError(f"the wire has no link {request.link}") from None

    def _add_link(self, request: AddLink, a: int, b: int) -> None:
        if request.link in self._links:
            raise LinkEngineError(f"the wire has a link {request.link} already")
        for fd in (a, b):
            os.set_blocking(fd, False)
        link = _Link(
            Line(a, b, request.forward, f"{request.seed}/forward"),
            Line(b, a, request.backward, f"{request.seed}/backward"),
        )
        try:
            for line in link.lines:
                self._epoll.register(line.source, select.EPOLLIN)
        except OSError as error:  # a regular file, say; closing it takes it out of epoll again
            raise LinkEngineError(f"link {request.link}: not a device to wait on: {error}") from error
        self._links[request.link] = link
        self._lines.update((line.source, line) for line in link.lines)

    def _remove_link(self, number: int) -> None:
        link = self._links.pop(number)
        for line in link.lines:
            self._forget_source(line)
            line.disconnect()
        for line in link.lines:
            os.close(line.source)

    def _forget_source(self, line: Line) -> None:
        if self._lines.pop(line.source, None) is not None:
            self._epoll.unregister(line.source)

    def _close(self) -> None:
        for number in list(self._links):
            self._remove_link(number)
        self._epoll.close()
        self._timer.close()


def _set_condition(line: Line, condition: Any) -> None:
    if condition is not None:
        line.model.condition = condition


def _set_connected(link: _Link, connected: bool) -> None:
    for line in link.lines:
        if connected:
            line.connected = True
        else:
            line.disconnect()


def _stats(link: _Link) -> dict[str, Any]:
    return {
        "forward": link.forward.model.counters.as_dict(),
        "backward": link.backward.model.counters.as_dict(),
        "connected": link.forward.connected,
    }
