"""A UDP socket of a simulated host."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family, Receiver

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
        self._inbox: list[tuple[bytes, Addr, int]] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<SimUdpSocket {self._host.name} {self.local_addr}>"

    def send(self, payloads: Sequence[bytes], addr: Addr, via: int = 0) -> int:
        """Send datagrams; see ``iroh_py.network.UdpSocket.send``. Raises OSError."""
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if Family.of(addr[0]) is not self.family:
            raise OSError(errno.EAFNOSUPPORT, f"{os.strerror(errno.EAFNOSUPPORT)} (to {addr[0]})")
        return self._host.send_udp(self.local_addr, payloads, addr, via)

    def close(self) -> None:
        """Close it; what was not delivered yet is lost."""
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            self._host.close_udp(self)

    def deliver(self, payload: bytes, src: Addr, index: int) -> bool:
        """Queue one datagram; the receiver gets all of one instant together. False if full or closed."""
        if self._closed or len(self._inbox) >= _RECEIVE_LIMIT:
            return False
        self._inbox.append((payload, src, index))
        if len(self._inbox) == 1:
            self._host.net.loop.call_soon(self._hand_over)
        return True

    def _hand_over(self) -> None:
        if self._inbox:
            batch, self._inbox = self._inbox, []
            self._receiver(batch)
