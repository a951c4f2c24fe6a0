"""A TCP server of a simulated host."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from iroh_py.network import Addr

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost
    from iroh_py.testing.stream import SimTransport

#: Called with the two ends of each accepted connection.
OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class SimListener:
    """Accepts connections until it is closed; then connecting is refused. Made by ``SimHost.listen_tcp``."""

    def __init__(self, host: SimHost, addr: Addr, on_client: OnClient) -> None:
        self.host = host
        self.addr = addr
        self.on_client = on_client
        #: The server's ends that are open.
        self.connections: list[SimTransport] = []

    def __repr__(self) -> str:
        return f"<SimListener {self.host.name} {self.addr}>"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.addr[1]

    def close(self, *, abort: bool = False) -> None:
        """Accept no more; with ``abort`` also reset what is open, as when the process is killed."""
        self.host.end_listener(self)
        if abort:
            for transport in list(self.connections):
                transport.abort()
