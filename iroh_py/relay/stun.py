"""The STUN service of a relay: one answer per request, no state (PROTOCOL.md 6.4)."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from iroh_py.errors import StunError
from iroh_py.network import Addr
from iroh_py.proto import stun
from iroh_py.relay.pktinfo import ANCILLARY_SIZE, Ancillary, answer_from, ask_for_local_address

if TYPE_CHECKING:
    from iroh_py.relay.metrics import Counters

#: A request has 28 bytes; whatever is longer than this is none.
_MAX_REQUEST = 1500
#: Requests per wake-up, so that a flood of them leaves the loop time for clients.
_PER_WAKE = 64


def answer_stun(data: bytes, source: Addr) -> bytes:
    """The answer to a request that came from this address. Raises StunError for anything else."""
    return stun.encode_response(stun.parse_request(data), source)


class StunService:
    """Answers on one bound UDP socket, from the address that was asked (a relay may have several)."""

    def __init__(self, sock: socket.socket, counters: Counters) -> None:
        self._sock = sock
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        ask_for_local_address(sock)
        self._loop.add_reader(sock, self._readable)

    @property
    def addr(self) -> Addr:
        """Where it listens."""
        ip, port = self._sock.getsockname()[:2]
        return ip, port

    def close(self) -> None:
        """Stop answering."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(_PER_WAKE):
            try:
                data, ancillary, _, sender = self._sock.recvmsg(_MAX_REQUEST, ANCILLARY_SIZE)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error for an answer of ours; the request it belonged to is lost anyway
                continue
            self._answer(data, ancillary, sender)

    def _answer(self, data: bytes, ancillary: Ancillary, sender: tuple[str, int]) -> None:
        try:
            response = answer_stun(data, (sender[0].partition("%")[0], sender[1]))
        except StunError:
            self._counters.stun_bad += 1
            return
        try:
            self._sock.sendmsg([response], answer_from(ancillary), 0, sender)
        except OSError:  # unreachable or full: the client asks again
            return
        self._counters.stun_requests += 1
