"""Two simulated hosts, and datagrams between them."""

from __future__ import annotations

import asyncio

from iroh_py.network import Addr, Family
from iroh_py.testing import SimNet

Batch = list[tuple[bytes, Addr, int]]
SERVER: Addr = ("198.51.100.1", 5000)


class Scene:
    """A laptop with Wi-Fi and mobile uplinks behind two NATs, a server on the Internet, a socket on each."""

    def __init__(self) -> None:
        self.net = SimNet()
        self.home = self.net.nat("home", "moderate")
        self.hotspot = self.net.nat("hotspot", "strict")
        self.laptop = self.net.host("laptop", interfaces={"wlan0": self.home, "wwan0": self.hotspot})
        self.wlan, self.wwan = self.laptop.interface("wlan0"), self.laptop.interface("wwan0")
        self.server = self.net.host("server", SERVER[0])
        self.got: Batch = []
        self.back: Batch = []
        self.answering = self.server.open_udp(Family.V4, "0.0.0.0", SERVER[1], self.got.extend)
        self.sock = self.laptop.open_udp(Family.V4, "0.0.0.0", 6000, self.back.extend)

    async def seen_from(self, via: int = 0) -> str | None:
        """Which router's address the server sees; None if nothing arrives."""
        before = len(self.got)
        assert self.sock.send([b"hi"], SERVER, via) == 1
        await asyncio.sleep(1)
        return self.got[-1][1][0] if len(self.got) > before else None
