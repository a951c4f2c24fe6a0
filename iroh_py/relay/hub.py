"""What all connections of one relay server share: who is connected, limits, counters, and pending writes."""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from iroh_py.keys import NodeId
from iroh_py.proto.relay.token_bucket import TokenBucket
from iroh_py.relay.clients import Clients
from iroh_py.relay.config import RelayConfig
from iroh_py.relay.metrics import Counters, RelayStats, snapshot
from iroh_py.relay.session import Session

if TYPE_CHECKING:
    from iroh_py.relay.qad import QadService


class Hub:
    """The server's shared state. Everything runs in one event loop, so nothing here locks."""

    def __init__(self, config: RelayConfig, rng: random.Random) -> None:
        self.config = config
        self.limits = config.limits
        self.rng = rng
        self.counters = Counters()
        self.clients = Clients(parked=config.limits.parked, gone_notices=config.limits.gone_notices)
        self.loop = asyncio.get_running_loop()
        #: Transports of all open TCP connections, for closing; beside each what else has to live as long.
        self.connections: dict[asyncio.Transport, object] = {}
        self.closing = False
        #: Set while no connection is open.
        self.empty = asyncio.Event()
        self.empty.set()
        self._dirty: list[Session] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepts: TokenBucket | None = None
        if config.limits.accept_rate is not None:
            self._accepts = TokenBucket(
                self.loop.time(), config.limits.accept_rate, config.limits.accept_burst
            )

    def admit(self, transport: asyncio.Transport) -> bool:
        """Count a new connection in, or refuse it."""
        full = self.closing or len(self.connections) >= self.limits.connections
        if full or (self._accepts is not None and not self._accepts.try_take(self.loop.time(), 1)):
            self.counters.rejected += 1
            return False
        self.counters.accepted += 1
        self.connections[transport] = None
        self.empty.clear()
        return True

    def leave(self, transport: asyncio.Transport) -> None:
        """A connection is closed."""
        self.connections.pop(transport, None)
        if not self.connections:
            self.empty.set()

    def may_enter(self, node_id: NodeId, token: str | None) -> bool | Awaitable[bool]:
        """Whether this node may use the relay; an awaitable when the policy has to ask somebody."""
        wanted = self.config.token
        if wanted is not None and not hmac.compare_digest(wanted.encode(), (token or "").encode()):
            return False
        return True if self.config.access is None else self.config.access(node_id, token)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run an access policy's answer; the task is kept until it is done or the server closes."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def mark_dirty(self, session: Session) -> None:
        """This session has packets waiting; ``flush`` writes them."""
        self._dirty.append(session)

    def flush(self) -> None:
        """Write what the last received bytes put into queues: one write per destination."""
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.flush()

    def stats(self, qad: Sequence[QadService]) -> RelayStats:
        """A snapshot, with the services of address discovery."""
        return snapshot(self.counters, qad, nodes=len(self.clients), connections=len(self.connections))

    async def close(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
