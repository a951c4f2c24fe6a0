"""A UDP socket of a simulated host."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family, MarkedReceiver, Receiver

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost

#: Datagrams that wait for the receiver within one instant; a real socket's buffer holds a few hundred to
#: thousands.
_RECEIVE_LIMIT = 2_048


class SimUdpSocket:
    """Satisfies ``iroh_py.network.UdpSocket``. Made by ``SimHost.open_udp``."""

    def __init__(self, host: SimHost, family: Family, local_addr: Addr, receiver: Receiver) -> None:
        self.family = family
        self.local_addr = local_addr
        self._host = host
        self._receiver = receiver
        self.on_marked: MarkedReceiver | None = None
        #: Datagrams of one instant, in runs of one ECN codepoint.
        self._inbox: list[tuple[int, list[tuple[bytes, Addr, int]]]] = []
        self._waiting = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<SimUdpSocket {self._host.name} {self.local_addr}>"

    def send(self, payloads: Sequence[bytes], addr: Addr, via: int = 0, ecn: int = 0) -> int:
        """Send datagrams; see ``iroh_py.network.UdpSocket.send``. Raises OSError."""
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if Family.of(addr[0]) is not self.family:
            raise OSError(errno.EAFNOSUPPORT, f"{os.strerror(errno.EAFNOSUPPORT)} (to {addr[0]})")
        return self._host.send_udp(self.local_addr, payloads, addr, via, ecn)

    def close(self) -> None:
        """Close it; what was not delivered yet is lost."""
        if not self._closed:
            self._closed = True
            self._inbox = []
            self._host.close_udp(self)

    def deliver(self, payload: bytes, src: Addr, index: int, ecn: int = 0) -> bool:
        """Queue one datagram; the receiver gets all of one instant together. False if full or closed."""
        if self._closed or self._waiting >= _RECEIVE_LIMIT:
            return False
        if not self._inbox or (self._inbox[-1][0] != ecn and self.on_marked is not None):
            self._inbox.append((ecn, []))
        self._inbox[-1][1].append((payload, src, index))
        self._waiting += 1
        if self._waiting == 1:
            self._host.net.loop.call_soon(self._hand_over)
        return True

    def _hand_over(self) -> None:
        runs, self._inbox, self._waiting = self._inbox, [], 0
        for ecn, batch in runs:
            if self._closed:
                return  # by a receiver of this instant
            if ecn and self.on_marked is not None:
                self.on_marked(batch, ecn)
            else:
                self._receiver(batch)
