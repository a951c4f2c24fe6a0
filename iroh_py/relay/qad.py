"""The QUIC address discovery service of a relay on one UDP socket (PROTOCOL.md 7.12)."""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple

from iroh_py.network import Addr
from iroh_py.proto.qad import QadCounters, QadServer
from iroh_py.proto.qad.server import Source
from iroh_py.relay.pktinfo import ANCILLARY_SIZE, Ancillary, answer_from, ask_for_local_address

#: No client sends more: QUIC starts with 1200 bytes, and a client has nothing to find a larger size with.
_MAX_DATAGRAM = 1500
#: Datagrams per wake-up, so that a flood of them leaves the loop time for the relay's own clients.
_PER_WAKE = 32


class _Via(NamedTuple):
    """How to send back: the address as the socket gave it (with its scope), and from which of ours."""

    sender: tuple[str | int, ...]
    ancillary: tuple[tuple[int, int, bytes], ...]


class QadService:
    """Serves clients until it is closed; nobody else may read the socket."""

    def __init__(self, sock: socket.socket, server: QadServer) -> None:
        self._sock = sock
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        ask_for_local_address(sock)
        self._loop.add_reader(sock, self._readable)

    @property
    def addr(self) -> Addr:
        """Where it listens."""
        ip, port = self._sock.getsockname()[:2]
        return ip, port

    @property
    def counters(self) -> QadCounters:
        """Running totals."""
        return self._server.counters

    @property
    def clients(self) -> int:
        """Clients now."""
        return len(self._server)

    def close(self, *, graceful: bool = True) -> None:
        """Stop; gracefully means that the clients are told, and ask again elsewhere at once."""
        self._loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        if graceful:
            self._server.close(self._loop.time())
            self._send()
        self._sock.close()

    def _readable(self) -> None:
        now = self._loop.time()
        for _ in range(_PER_WAKE):
            try:
                data, ancillary, _, sender = self._sock.recvmsg(_MAX_DATAGRAM, ANCILLARY_SIZE)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error for an answer of ours; QUIC notices the silence by itself
                continue
            self._server.receive(now, data, _source(sender, ancillary))
        self._advance()

    def _timed_out(self) -> None:
        self._timer = None
        self._server.handle_timeout(self._loop.time())
        self._advance()

    def _advance(self) -> None:
        self._send()
        at = self._server.next_timeout()
        if self._timer is not None:
            if at is not None and self._timer.when() <= at:
                return  # early is harmless, and cheaper than a new timer per datagram
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._timed_out)

    def _send(self) -> None:
        for data, to in self._server.transmit():
            via = to.via
            assert isinstance(via, _Via), "every source is one of ours"
            try:
                self._sock.sendmsg([data], via.ancillary, 0, via.sender)
            except OSError:  # unreachable or full: a lost packet, which QUIC repeats
                continue


def _source(sender: tuple[str | int, ...], ancillary: Ancillary) -> Source:
    ip, port = sender[:2]
    return Source(str(ip).partition("%")[0], int(port), _Via(sender, tuple(answer_from(ancillary))))
