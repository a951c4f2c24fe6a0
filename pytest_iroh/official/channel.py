"""JSON lines between us and the runner: one thread reads answers, any thread calls."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pytest_iroh.official.errors import OfficialCallFailed, OfficialDied, OfficialTimeout
from pytest_iroh.timeline import scaled

GRACE = 2.0
"""Seconds that the runner gets to answer beyond the time it was given: it keeps time itself."""

Message = dict[str, Any]


class Channel:
    """Calls to one runner over a connected unix socket.

    ``on_event`` is given every unasked message, in the reader thread; ``on_end`` is called once there when
    the runner is gone; ``log_tail`` gives what to show with an error.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        on_event: Callable[[Message], None],
        on_end: Callable[[], None],
        log_tail: Callable[[], str],
    ) -> None:
        self._socket = connection
        self._on_event = on_event
        self._on_end = on_end
        self._log_tail = log_tail
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Message]] = {}
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="official-iroh", daemon=True)
        self._reader.start()

    def call(self, command: str, *, within: float, **arguments: Any) -> Message:
        """Have the runner carry out one command; return its result.

        ``within``: seconds, times ``--netns-timeout-scale``; then it raises OfficialTimeout. Raises
        OfficialCallFailed with the bindings' message,
        OfficialDied when the runner is gone.
        """
        within = scaled(within)
        number = next(self._numbers)
        request = {"id": number, "command": command, "within": within, **arguments}
        answer: Future[Message] = Future()
        try:
            with self._lock:
                if self._ended:
                    raise OSError("its socket has ended")
                self._waiting[number] = answer
                self._socket.sendall(json.dumps(request).encode() + b"\n")
            reply = answer.result(within + GRACE)
        except TimeoutError as error:
            raise OfficialTimeout(
                f"no answer to {command} within {within} s", log_tail=self._log_tail()
            ) from error
        except OSError as error:
            raise OfficialDied(
                f"the official peer is gone ({command}: {error})", log_tail=self._log_tail()
            ) from error
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        return self._result(command, reply)

    def _result(self, command: str, reply: Message) -> Message:
        error = reply.get("error")
        if error is None:
            result: Message = reply["result"]
            return result
        kind = OfficialTimeout if error["kind"] == "timeout" else OfficialCallFailed
        raise kind(f"{command}: {error['message']}", log_tail=self._log_tail())

    def close(self) -> None:
        """End the connection, which also ends the runner, and wait for the reader thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The runner was faster.
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._socket.close()

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            pass  # A runner that was killed may leave half a line; the end is reported below all the same.
        with self._lock:
            self._ended = True
            waiting = list(self._waiting.values())
        for answer in waiting:
            answer.set_exception(OSError("its socket has ended"))
        self._on_end()

    def _take(self, message: Message) -> None:
        if "event" in message:
            self._on_event(message)
            return
        with self._lock:
            answer = self._waiting.pop(message["id"], None)
        if answer is not None:
            answer.set_result(message)
