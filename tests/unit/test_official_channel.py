"""The channel to a runner, with a runner played by the test."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_iroh.official.channel import Channel, Message
from pytest_iroh.official.errors import OfficialCallFailed, OfficialDied, OfficialTimeout

Answer = Callable[[Message], list[Message]]


class PlayedRunner:
    """The other end of the socket: answers each request with what ``answer`` returns."""

    def __init__(self, answer: Answer) -> None:
        ours, theirs = socket.socketpair()
        self.events: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.ended = threading.Event()
        self.channel = Channel(
            ours, on_event=self.events.put, on_end=self.ended.set, log_tail=lambda: "a log"
        )
        self._socket = theirs
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket, self._socket.makefile("rwb") as lines:
            for line in lines:
                replies = self._answer(json.loads(line))
                if not replies:
                    return
                for reply in replies:
                    lines.write(json.dumps(reply).encode() + b"\n")
                lines.flush()

    def close(self) -> None:
        """End both sides."""
        self.channel.close()
        self._thread.join()


@pytest.fixture
def play() -> Iterator[Callable[[Answer], PlayedRunner]]:
    """Start played runners; end them after the test."""
    runners: list[PlayedRunner] = []

    def start(answer: Answer) -> PlayedRunner:
        runners.append(PlayedRunner(answer))
        return runners[-1]

    yield start
    for runner in runners:
        runner.close()


Play = Callable[[Answer], PlayedRunner]


def test_call_returns_the_answer_with_its_number(play: Play) -> None:
    """An answer to another call in between does not confuse."""

    def answer(request: Message) -> list[Message]:
        return [{"id": 999, "result": {}}, {"id": request["id"], "result": {"echo": request["x"]}}]

    assert play(answer).channel.call("do", within=5.0, x=3) == {"echo": 3}


@pytest.mark.parametrize(("kind", "expected"), [("failed", OfficialCallFailed), ("timeout", OfficialTimeout)])
def test_error_answer_raises_with_the_log(play: Play, kind: str, expected: type[Exception]) -> None:
    """What the bindings say and what they printed both reach the caller."""

    def answer(request: Message) -> list[Message]:
        error: dict[str, Any] = {"kind": kind, "message": "no such node"}
        return [{"id": request["id"], "error": error}]

    with pytest.raises(expected, match=r"(?s)dial: no such node.*a log"):
        play(answer).channel.call("dial", within=5.0)


def test_runner_that_ends_fails_the_call_under_way_and_later_ones(play: Play) -> None:
    """Nobody waits for a runner that is gone."""
    runner = play(lambda request: [])
    with pytest.raises(OfficialDied):
        runner.channel.call("dial", within=60.0)
    assert runner.ended.wait(5.0)
    with pytest.raises(OfficialDied):
        runner.channel.call("dial", within=60.0)


def test_unasked_message_goes_to_the_event_handler(play: Play) -> None:
    """Events come between answers."""

    def answer(request: Message) -> list[Message]:
        return [{"event": "accepted", "conn": 1}, {"id": request["id"], "result": {}}]

    runner = play(answer)
    runner.channel.call("do", within=5.0)
    assert runner.events.get(timeout=5.0) == {"event": "accepted", "conn": 1}


def test_runner_that_never_answers_times_out(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's patience is kept even by a runner that hangs."""
    monkeypatch.setattr("pytest_iroh.official.channel.GRACE", 0.0)
    with pytest.raises(OfficialTimeout, match="no answer to dial"):
        play(lambda request: [{"event": "noise"}]).channel.call("dial", within=0.01)
