"""A packet ring that is made beside the building of a lab."""

from __future__ import annotations

import os
import socket

import pytest

from netns_fixtures.agent import rings
from netns_fixtures.agent.rings import RingInTheMaking


@pytest.fixture(autouse=True)
def any_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rights needed: the socket is one that anybody may make."""
    made = socket.socket
    monkeypatch.setattr(socket, "socket", lambda *_kind: made(socket.AF_UNIX, socket.SOCK_DGRAM))


def test_ring_is_there_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes it waits until the kernel is done, and owns the descriptor then."""
    reserved = []
    monkeypatch.setattr(rings, "reserve", lambda _sock, flush, blocks: reserved.append((flush, blocks)))
    fd = RingInTheMaking(8, 0.02).take()
    assert reserved == [(0.02, 8)]
    os.close(fd)


def test_refusal_is_told_to_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without memory for it disturbs nobody else."""

    def refuse(_sock: socket.socket, _flush: float, _blocks: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(rings, "reserve", refuse)
    ring = RingInTheMaking(8, 0.02)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        ring.take()
    ring.close()


def test_socket_that_is_refused_is_told_to_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without descriptors builds labs without recordings."""

    def refuse(*_kind: int) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    ring = RingInTheMaking(8, 0.02)
    with pytest.raises(OSError, match="Too many open files"):
        ring.take()
    ring.close()
