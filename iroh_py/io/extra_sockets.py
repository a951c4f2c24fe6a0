"""Extra UDP sockets beside the main ones, opened and closed as port prediction wants it."""

from __future__ import annotations

from collections.abc import Sequence

from iroh_py.network import Addr, Family, Network, Receiver, UdpSocket
from iroh_py.proto.port_prediction import CloseSocket, OpenSocket


class ExtraSockets:
    """IPv4 sockets by number. What arrives on number 3 is handed over with -3 as its interface.

    Opening and sending never raise: what cannot be had is counted in ``errors``, and is missing.
    """

    def __init__(self, network: Network, receiver: Receiver) -> None:
        self._network = network
        self._receiver = receiver
        self._sockets: dict[int, tuple[UdpSocket, int]] = {}
        self.errors = 0

    def __len__(self) -> int:
        return len(self._sockets)

    def __contains__(self, number: int) -> bool:
        return number in self._sockets

    def follow(self, order: OpenSocket | CloseSocket, ip: str) -> None:
        """Open (at this local address, any port) or close a socket."""
        if isinstance(order, CloseSocket):
            socket, _ = self._sockets.pop(order.number, (None, 0))
            if socket is not None:
                socket.close()
            return

        def receive(batch: list[tuple[bytes, Addr, int]]) -> None:
            self._receiver([(data, source, -order.number) for data, source, _ in batch])

        try:
            opened = self._network.open_udp(Family.V4, ip, 0, receive)
        except (
            OSError
        ):  # too many open files, most likely: fewer sockets are a smaller chance, and nothing worse
            self.errors += 1
            return
        self._sockets[order.number] = opened, order.via

    def send(self, number: int, payloads: Sequence[bytes], addr: Addr) -> int:
        """Send datagrams from one socket; return how many were taken."""
        socket, via = self._sockets.get(number, (None, 0))
        if socket is None:
            return 0
        try:
            return socket.send(payloads, addr, via)
        except OSError:  # like any loss: the path falls silent, and is questioned
            self.errors += 1
            return 0

    def close(self) -> None:
        """Close all."""
        for socket, _ in self._sockets.values():
            socket.close()
        self._sockets.clear()
