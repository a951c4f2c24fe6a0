"""An address discovery server and its clients on a simulated network; seconds, and nothing waits."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable

from iroh_py.proto.qad import Outgoing, QadClient, QadIdentity, QadLimits, QadServer
from iroh_py.proto.qad.server import Source
from pytest_iroh.ca import CertificateAuthority

RELAY = ("198.51.100.1", 7842)
LAPTOP = Source("192.0.2.7", 4433)


@functools.cache
def authority() -> CertificateAuthority:
    """The one that every client here trusts."""
    return CertificateAuthority("address discovery")


def make_server(**limits: float) -> QadServer:
    """A server whose certificate names ``relay.test``."""
    identity = QadIdentity.from_pem(*authority().issue_pem(["relay.test"]))
    return QadServer(identity, rng=random.Random(7), limits=QadLimits(**limits))  # type: ignore[arg-type]


class Visitor:
    """A client somewhere; ``source`` is where the server sees it at."""

    def __init__(
        self, network: QadNetwork, source: Source, name: str = "relay.test", cadata: str | None = None
    ) -> None:
        self.source = source
        trusted = authority().pem if cadata is None else cadata
        self.client = QadClient(network.now, RELAY, name, cadata=trusted.encode())


class QadNetwork:
    """The server, its visitors, and what is on the wire; ``keep`` decides about each datagram."""

    def __init__(self, server: QadServer | None = None, *, delay: float = 0.01) -> None:
        self.server = make_server() if server is None else server
        self.now = 1000.0
        self.delay = delay
        self.to_server: list[bytes] = []
        self.to_clients: list[Outgoing] = []
        self.keep: Callable[[bytes], bool] = lambda data: True
        self.visitors: list[Visitor] = []
        self._wire: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def visit(self, source: Source = LAPTOP, **options: str) -> Visitor:
        """A new client; nothing is sent yet."""
        visitor = Visitor(self, source, **options)
        self.visitors.append(visitor)
        return visitor

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end = self.now + seconds
        self._flush()
        while (at := self._next()) is not None and at <= end:
            self.now = max(self.now, at)
            while self._wire and self._wire[0][0] <= self.now:
                heapq.heappop(self._wire)[2]()
            self.server.handle_timeout(self.now)
            for visitor in self.visitors:
                visitor.client.handle_timeout(self.now)
            self._flush()
        self.now = end

    def _next(self) -> float | None:
        times = [self.server.next_timeout(), *(visitor.client.next_timeout() for visitor in self.visitors)]
        if self._wire:
            times.append(self._wire[0][0])
        return min((at for at in times if at is not None), default=None)

    def _flush(self) -> None:
        for visitor in self.visitors:
            for data in visitor.client.transmit(self.now):
                self.to_server.append(data)
                if self.keep(data):
                    self._put(functools.partial(self._to_server, data, visitor.source))
        for item in self.server.transmit():
            self.to_clients.append(item)
            if self.keep(item.data):
                self._put(functools.partial(self._to_client, item))

    def _put(self, arrive: Callable[[], None]) -> None:
        heapq.heappush(self._wire, (self.now + self.delay, next(self._numbers), arrive))

    def _to_server(self, data: bytes, source: Source) -> None:
        self.server.receive(self.now, data, source)

    def _to_client(self, item: Outgoing) -> None:
        for visitor in self.visitors:
            if visitor.source == item.to:
                visitor.client.receive(self.now, item.data)
