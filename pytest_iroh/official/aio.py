"""An official peer for asyncio: its methods as coroutines, so that our endpoint can answer meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_iroh.official.messages import AddressLike, Echo, OfficialAddr, PathNow, Stats, TickerLog
    from pytest_iroh.official.peer import Accepted, ConnectionId, OfficialPeer


class AsyncPeer:
    """``OfficialPeer`` for asyncio: each call waits in a thread, the loop goes on."""

    def __init__(self, peer: OfficialPeer) -> None:
        self._peer = peer

    async def addr(self, **options: Any) -> OfficialAddr:
        """See OfficialPeer.addr."""
        return await asyncio.to_thread(self._peer.addr, **options)

    async def listen(self, **options: Any) -> OfficialAddr:
        """See OfficialPeer.listen."""
        return await asyncio.to_thread(self._peer.listen, **options)

    async def accepted(self, **options: Any) -> Accepted:
        """See OfficialPeer.accepted."""
        return await asyncio.to_thread(self._peer.accepted, **options)

    async def add_addr(self, addr: AddressLike, **options: Any) -> None:
        """See OfficialPeer.add_addr."""
        await asyncio.to_thread(self._peer.add_addr, addr, **options)

    async def dial(self, addr: AddressLike, **options: Any) -> ConnectionId:
        """See OfficialPeer.dial."""
        return await asyncio.to_thread(self._peer.dial, addr, **options)

    async def echo(self, conn: ConnectionId, data: bytes, **options: Any) -> Echo:
        """See OfficialPeer.echo."""
        return await asyncio.to_thread(self._peer.echo, conn, data, **options)

    async def bulk(self, conn: ConnectionId, size: int, **options: Any) -> Echo:
        """See OfficialPeer.bulk."""
        return await asyncio.to_thread(self._peer.bulk, conn, size, **options)

    async def datagram(self, conn: ConnectionId, data: bytes, **options: Any) -> Echo:
        """See OfficialPeer.datagram."""
        return await asyncio.to_thread(self._peer.datagram, conn, data, **options)

    async def uni(self, conn: ConnectionId, data: bytes, **options: Any) -> Echo:
        """See OfficialPeer.uni."""
        return await asyncio.to_thread(self._peer.uni, conn, data, **options)

    async def start_ticker(self, conn: ConnectionId, interval: float = 0.02, **options: Any) -> None:
        """See OfficialPeer.start_ticker."""
        await asyncio.to_thread(self._peer.start_ticker, conn, interval, **options)

    async def ticker_log(self, conn: ConnectionId, **options: Any) -> TickerLog:
        """See OfficialPeer.ticker_log."""
        return await asyncio.to_thread(self._peer.ticker_log, conn, **options)

    async def healed(self, conn: ConnectionId, event: float, **options: Any) -> float:
        """See OfficialPeer.healed."""
        return await asyncio.to_thread(self._peer.healed, conn, event, **options)

    async def stop_ticker(self, conn: ConnectionId, **options: Any) -> TickerLog:
        """See OfficialPeer.stop_ticker."""
        return await asyncio.to_thread(self._peer.stop_ticker, conn, **options)

    async def path(self, conn: ConnectionId, **options: Any) -> PathNow:
        """See OfficialPeer.path."""
        return await asyncio.to_thread(self._peer.path, conn, **options)

    async def until_direct(self, conn: ConnectionId, **options: Any) -> PathNow:
        """See OfficialPeer.until_direct."""
        return await asyncio.to_thread(self._peer.until_direct, conn, **options)

    async def stats(self, **options: Any) -> Stats:
        """See OfficialPeer.stats."""
        return await asyncio.to_thread(self._peer.stats, **options)

    async def close_connection(self, conn: ConnectionId, **options: Any) -> None:
        """See OfficialPeer.close_connection."""
        await asyncio.to_thread(self._peer.close_connection, conn, **options)

    async def close(self) -> None:
        """See OfficialPeer.close."""
        await asyncio.to_thread(self._peer.close)
