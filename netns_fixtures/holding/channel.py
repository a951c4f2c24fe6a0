"""Messages between a command and the process that holds a lab: JSON behind a length, descriptors beside it."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("=I")
#: A scenario's text at most, see ``scenario.marked.MAX_TEXT``.
MAX_MESSAGE = 8 << 20
#: Standard input, output and error.
_FDS = 3


def send(channel: socket.socket, message: Any, fds: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError when the other end is gone."""
    data = json.dumps(message, default=str).encode()
    data = _LENGTH.pack(len(data)) + data
    sent = socket.send_fds(channel, [data], list(fds)) if fds else channel.send(data)
    if sent < len(data):
        channel.sendall(data[sent:])


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """The next message and its descriptors. Raises EOFError when the other end is gone, ValueError for no message."""
    data, fds, _flags, _address = socket.recv_fds(channel, _LENGTH.size, _FDS)
    for fd in fds:
        os.set_inheritable(fd, False)
    try:
        data += _exactly(channel, _LENGTH.size - len(data)) if data else b""
        if not data:
            raise EOFError("the other end closed the connection")
        (length,) = _LENGTH.unpack(data)
        if length > MAX_MESSAGE:
            raise ValueError(f"a message of {length} bytes")
        return json.loads(_exactly(channel, length)), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = channel.recv(min(size - len(data), 1 << 16))
        if not more:
            raise EOFError("the other end closed the connection")
        data += more
    return bytes(data)
