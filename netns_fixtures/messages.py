"""What the test process and the lab agent say to each other, and how it crosses the socket pair.

One request, one reply, each a pickle behind a length; both ends are the same trusted program of the same
user, and nobody else holds the socket. Functions of ``host.run`` do not pass here: they go straight to the
process that runs them, so the agent never unpickles user code.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netns_fixtures.ops import Op

_HEADER = struct.Struct("=Q")
#: stdin, stdout, stderr and a payload at most.
MAX_FDS = 8


@dataclass(frozen=True, slots=True)
class OpenLab:
    """Reply: the number of a new, empty lab."""

    name: str


@dataclass(frozen=True, slots=True)
class CloseLab:
    """Kill every process of the lab and let its namespaces go."""

    lab: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Carry out steps in order. Reply: None."""

    lab: int
    ops: tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """Reply: None and one descriptor, a socket made in the node."""

    lab: int
    node: int
    family: int
    type: int
    proto: int


@dataclass(frozen=True, slots=True)
class TakeRing:
    """Reply: None and one descriptor, the packet socket that a ``PrepareRing`` step began to make."""

    lab: int
    node: int


@dataclass(frozen=True, slots=True)
class OpenNamespace:
    """Reply: None and one descriptor, the node's network namespace."""

    lab: int
    node: int


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process in a node. Reply: its pid, and its pidfd as descriptor.

    Descriptors sent along: stdin, stdout, stderr, and where ``argv`` is empty a payload (see ``spawn``).
    ``files`` are (path, content) of files that the process sees instead of the machine's.
    """

    lab: int
    node: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reap:
    """Reply: the exit status of a process that ended (negative: the signal), None while it runs."""

    lab: int
    pid: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop every process of a node, or with ``frozen`` false let them go on. Reply: how many they are."""

    lab: int
    node: int
    frozen: bool


@dataclass(frozen=True, slots=True)
class WireStats:
    """Reply: counters of a spliced link."""

    lab: int
    link: int


@dataclass(frozen=True, slots=True)
class DumpNetfilter:
    """List something that the packet filter or connection tracking of a node holds. Reply: message bodies.

    ``kind`` is the netlink message type, ``body`` what follows its header.
    """

    lab: int
    node: int
    kind: int
    body: bytes


@dataclass(frozen=True, slots=True)
class ListenDhcp:
    """Tell what happens to the lab's DHCP, as DhcpNews, to the socket sent along. Reply: None."""

    lab: int


@dataclass(frozen=True, slots=True)
class DhcpLeases:
    """Reply: list of DhcpLease, what the server at interface ``index`` has granted."""

    lab: int
    index: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Reply: tuple of ``doctor.Feature``."""


Request = (
    OpenLab
    | CloseLab
    | Apply
    | OpenSocket
    | TakeRing
    | OpenNamespace
    | Spawn
    | Reap
    | Freeze
    | WireStats
    | DumpNetfilter
    | ListenDhcp
    | DhcpLeases
    | Probe
)


@dataclass(frozen=True, slots=True)
class Hello:
    """The agent's first message. ``mode`` is "root" or "userns"; with an ``error`` nothing follows."""

    pid: int
    mode: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """``error`` is None where the request was done."""

    value: Any = None
    error: Exception | None = None


def send(channel: socket.socket, message: object, fds: Sequence[int] = ()) -> None:
    """Send one message; descriptors travel with its first byte. Raises OSError when the other end is gone."""
    send_encoded(channel, encode(message), fds)


def encode(message: object) -> bytes:
    """A message as bytes. Raises what pickle raises."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(data)) + data


def send_encoded(channel: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Send what ``encode`` made."""
    sent = socket.send_fds(channel, [data], list(fds)) if fds else channel.send(data)
    if sent < len(data):
        channel.sendall(data[sent:])


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """The next message and its descriptors. Raises EOFError when the other end is gone."""
    data, fds, _flags, _address = socket.recv_fds(channel, 1 << 16, MAX_FDS)
    if not data:
        raise EOFError("the other end closed the channel")
    for fd in fds:
        os.set_inheritable(fd, False)  # recv_fds ignores MSG_CMSG_CLOEXEC before Python 3.12
    buffer = bytearray(data)
    while len(buffer) < _HEADER.size:
        buffer += _more(channel)
    (length,) = _HEADER.unpack_from(buffer)
    while len(buffer) < _HEADER.size + length:
        buffer += _more(channel)
    return pickle.loads(bytes(buffer[_HEADER.size :])), fds


def _more(channel: socket.socket) -> bytes:
    data = channel.recv(1 << 20)
    if not data:
        raise EOFError("the other end closed the channel")
    return data
