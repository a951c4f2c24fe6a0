"""A Python function in a host's process: read it, call it, send back what it returned or raised."""

from __future__ import annotations

import inspect
import pickle
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle

# cloudpickle has no types.
dumps: Callable[[object], bytes] = cloudpickle.dumps
loads: Callable[[bytes], Any] = cloudpickle.loads

#: Before the result, its length: a process that the function left behind may hold the descriptor open.
LENGTH = struct.Struct("=Q")


@dataclass(frozen=True, slots=True)
class Call:
    """What a call needs of the caller: ``function`` is a cloudpickle, loaded after ``path`` is set."""

    function: bytes
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``value`` is what was returned, or with a ``traceback`` what was raised. Both are cloudpickles."""

    value: bytes
    traceback: str = ""


def serve_call(payload: int, result: int) -> int:
    """Run the call in descriptor ``payload``, write its Outcome to ``result``; returns the exit status."""
    with open(payload, "rb") as file:
        file.seek(0)
        call: Call = pickle.load(file)
    sys.path[:] = call.path
    outcome = _run(call.function)
    data = pickle.dumps(outcome)
    with open(result, "wb") as file:
        file.write(LENGTH.pack(len(data)) + data)
    _let_threads_end()
    sys.stdout.flush()
    sys.stderr.flush()
    return 1 if outcome.traceback else 0


def _run(pickled: bytes) -> Outcome:
    try:
        function, args, kwargs = loads(pickled)
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            import asyncio  # costs 50 ms, and few functions are coroutines

            value = asyncio.run(value)
        return Outcome(dumps(value))
    except BaseException as error:  # it travels to the caller, whatever it is
        text = "".join(traceback.format_exception(error)).rstrip()
        return Outcome(_pickle_error(error), text)


def _pickle_error(error: BaseException) -> bytes:
    try:
        data = dumps(error)
        loads(data)  # an __init__ with other arguments than .args fails only here
    except Exception:
        return dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return data


def _let_threads_end() -> None:
    """What a normal interpreter exit does; this process was forked and leaves by os._exit."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
