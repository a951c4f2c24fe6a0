"""``host.run``: a function travels into a process of the host, its result or exception comes back."""

from __future__ import annotations

import os
import pickle
import select
import site
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import cloudpickle

from netns_fixtures.agent.call import LENGTH, Call, Outcome, dumps, loads
from netns_fixtures.errors import CommandFailed
from netns_fixtures.process import HostProcess, Plumbing

if TYPE_CHECKING:
    from netns_fixtures.node import Node

T = TypeVar("T")
_register: Callable[[Any], None] = cloudpickle.register_pickle_by_value
_unregister: Callable[[Any], None] = cloudpickle.unregister_pickle_by_value
#: cloudpickle's list of modules that travel by value is global.
_by_value_lock = threading.Lock()
#: How long a process may take to end after it sent its result, for example to join its threads.
_END_TIMEOUT = 5.0


def run_call(
    node: Node, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float | None
) -> T:
    """See ``Node.run``."""
    label = f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', repr(fn))}"
    deadline = None if timeout is None else time.monotonic() + timeout * node.lab.timeout_scale
    payload = _payload(fn, args, kwargs)
    ours, theirs = socket.socketpair()
    with ours:
        try:
            with theirs:
                process = node.spawn((), None, None, Plumbing(None), (payload, theirs.fileno()), label)
        finally:
            os.close(payload)
        try:
            outcome = _receive(ours, process, deadline)
        except BaseException:  # also Ctrl-C: nothing of it may go on in the host
            process.kill_and_wait()
            raise
    process.wait(_END_TIMEOUT)
    value = loads(outcome.value)
    if outcome.traceback:
        assert isinstance(value, BaseException)
        value.add_note(f"in {node.name}:\n{outcome.traceback}")
        raise value
    result: T = value
    return result


def _payload(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    call = Call(_pickle_by_value(fn, (fn, args, kwargs)), tuple(sys.path))
    fd = os.memfd_create("host-run")
    with open(fd, "wb", closefd=False) as file:
        file.write(pickle.dumps(call))
    return fd


def _pickle_by_value(fn: Callable[..., Any], value: object) -> bytes:
    """Functions of the caller's own files travel whole: nobody must import a test module to run them."""
    module = sys.modules.get(getattr(fn, "__module__", None) or "")
    if module is None or _is_installed(module):
        return dumps(value)
    with _by_value_lock:
        _register(module)
        try:
            return dumps(value)
        finally:
            _unregister(module)


def _is_installed(module: Any) -> bool:
    path = getattr(module, "__file__", None)
    if path is None:
        return True  # built in
    homes = (*site.getsitepackages(), sysconfig.get_path("stdlib"), os.path.dirname(__file__))
    return any(os.path.realpath(path).startswith(os.path.realpath(home) + os.sep) for home in homes)


def _receive(channel: socket.socket, process: HostProcess, deadline: float | None) -> Outcome:
    data = bytearray()
    needed = LENGTH.size
    while len(data) < needed:
        chunk = _read(channel, process, deadline)
        if not chunk:
            status = process.wait(_END_TIMEOUT)
            raise CommandFailed(process.argv, status, process.output, process.node)
        data += chunk
        if len(data) >= LENGTH.size:
            needed = LENGTH.size + LENGTH.unpack_from(data)[0]
    outcome = pickle.loads(bytes(data[LENGTH.size :]))
    assert isinstance(outcome, Outcome)
    return outcome


def _read(channel: socket.socket, process: HostProcess, deadline: float | None) -> bytes:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    if not select.select([channel], [], [], left)[0]:
        raise TimeoutError(
            f"{process.argv[0]} in {process.node} did not end in time, and was killed; it wrote: {process.output!r}"
        )
    return channel.recv(1 << 20)
