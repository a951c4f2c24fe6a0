"""A node's connection to one relay: dialled, watched, dialled again (PROTOCOL.md 7.5, 7.9, 11.5).

Theory of operation. One task sleeps until something happened (a dial ended, the link changed its mind about
the relay, the network changed, a timer) and then looks at everything once, in ``_step``. A connection that is
lost, or only *suspect*, is being replaced; a suspect one stays in use until its replacement is upgraded or it
recovers, and only then do we show our identity again: the relay throws the older connection of an identity
out. Datagrams wait in a bounded queue that survives all this; what the old connection may have swallowed is
sent again. Nothing here raises towards the caller: states and reasons go to ``on_state``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl as ssl_module
from collections.abc import Callable, Iterable

from iroh_py.errors import ConnectError
from iroh_py.io.relay_dial import RelayDialer, Upgraded, WaysTo, kernel_only, login
from iroh_py.io.relay_link import RelayLink
from iroh_py.io.relay_queue import DatagramQueue
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Network
from iroh_py.proto.relay.backoff import EAGER_CEILING, Backoff
from iroh_py.proto.relay.machine import RelayMachine
from iroh_py.proto.relay.upgrade import Generation
from iroh_py.relay_url import RelayUrl

log = logging.getLogger("iroh_py.relay")

OnDatagrams = Callable[[RelayUrl, NodeId, list[bytes]], None]
OnState = Callable[[RelayUrl, bool, str], None]
OnGone = Callable[[RelayUrl, NodeId], None]
OnAnswer = Callable[[RelayUrl], None]

#: A relay that is not our home is left this long after the last datagram for it (7.5).
IDLE_TIMEOUT = 60.0
#: A connection that lasted this long and answered was a success: the next dial needs no wait. A shorter one
#: may be two nodes with one key throwing each other out, which must not become a storm.
_SUCCESS_AFTER = 2.0
#: Shortest sleep: one that ends a rounding error too early must not be repeated without end.
_TICK = 0.001
#: After a network change a connection whose address is still ours gets this long, or 1.5 round trips, to
#: answer before its replacement is dialled beside it.
_PROBE_WITHIN = 0.05


def _ignore_gone(url: RelayUrl, node_id: NodeId) -> None:
    """Nobody wants to know."""


def _ignore_answer(url: RelayUrl) -> None:
    """Nobody wants to know."""


class RelayClient:
    """Keeps one relay connected while it is wanted: for ever as home relay, else while datagrams go there.

    ``on_datagrams(url, node_id, datagrams)`` gets what arrives; ``on_state(url, connected, detail)`` every
    change, with a sentence; ``on_gone(url, node_id)`` notices that a node left the relay; ``on_answer(url)``
    is called when a new connection's first ping is answered: only then the relay certainly knows us (7.3).
    ``ssl_context`` None means the system's certificate authorities. ``generation`` V3_NATIVE suits every
    relay of 0.28 to 0.35 and ours; V2 the relays of 1.x. ``rng`` makes jitter, ping contents and websocket
    keys; ``ways(ip)`` says which interfaces to dial an address by.
    """

    def __init__(
        self,
        network: Network,
        secret_key: SecretKey,
        url: RelayUrl,
        *,
        on_datagrams: OnDatagrams,
        on_state: OnState,
        on_gone: OnGone = _ignore_gone,
        on_answer: OnAnswer = _ignore_answer,
        is_home: bool = False,
        ssl_context: ssl_module.SSLContext | None = None,
        token: str | None = None,
        generation: Generation = Generation.V3_NATIVE,
        rng: random.Random | None = None,
        ways: WaysTo = kernel_only,
    ) -> None:
        self.url = url
        self._network = network
        self._on_datagrams = on_datagrams
        self._on_state = on_state
        self._on_gone = on_gone
        self._on_answer = on_answer
        self._is_home = is_home
        self._rng = random.SystemRandom() if rng is None else rng
        if url.is_tls and ssl_context is None:
            ssl_context = ssl_module.create_default_context()

        def new_machine() -> RelayMachine:
            nonce = self._rng.randbytes(16)
            return RelayMachine(url, secret_key, generation=generation, nonce=nonce, token=token)

        self._dialer = RelayDialer(network, url, ssl_context=ssl_context, new_machine=new_machine, ways=ways)
        self._backoff = Backoff(self._rng)
        self._queue = DatagramQueue()
        self._link: RelayLink | None = None
        self._dial: asyncio.Task[Upgraded] | None = None
        self._retry_at = 0.0
        self._eager = False
        self._last_used = 0.0
        self._last_failure = ""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._generation = generation
        #: Until when a connection is kept at hand beside one that works.
        self._spare_until = 0.0
        #: Connections that came to be.
        self.connects = 0

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is not known to be broken."""
        return self._link is not None and self._link.lost is None

    @property
    def suspect(self) -> bool:
        """Whether the relay owes an answer for too long; a replacement is being dialled then."""
        return self._link is not None and self._link.suspect

    @property
    def is_home(self) -> bool:
        """Whether this relay stays connected without being used."""
        return self._is_home

    @property
    def running(self) -> bool:
        """Whether it is connected or tries to be; it rests after idling, until the next ``send``."""
        return self._task is not None and not self._task.done()

    @property
    def local_ip(self) -> str | None:
        """Our address of the TCP connection."""
        return self._link.local_ip if self._link is not None else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the relay is, as far as it was found out."""
        return self._dialer.known

    @property
    def latency(self) -> float | None:
        """Seconds of the last ping's round trip."""
        return self._link.latency if self._link is not None else None

    @property
    def health(self) -> str:
        """What the relay last complained about; empty: nothing."""
        return self._link.health if self._link is not None else ""

    @property
    def dropped(self) -> int:
        """Outgoing datagrams thrown away because the queue was full or they were too old or too long."""
        return self._queue.dropped

    @property
    def dials(self) -> int:
        """TCP connections tried."""
        return self._dialer.attempts

    @property
    def last_used(self) -> float:
        """When a datagram was last sent."""
        return self._last_used

    def start(self) -> None:
        """Begin to connect. Does nothing when it runs already."""
        if not self.running and not self._closed:
            self._last_used = max(self._last_used, self._network.time())
            self._retry_at = self._network.time()
            self._task = asyncio.create_task(self._run(), name=f"relay {self.url}")

    def send(self, node_id: NodeId, datagrams: list[bytes]) -> None:
        """Queue datagrams for a node; wakes a resting client up."""
        if self._closed:
            return
        now = self._network.time()
        self._last_used = now
        self._queue.put(now, node_id.raw, datagrams)
        if self._link is not None:
            self._link.wake()
        elif not self.running:
            self.start()
        elif self._retry_at - now > EAGER_CEILING:
            self._retry_at = now + EAGER_CEILING
            self._wake.set()

    def set_home(self, is_home: bool) -> None:
        """Make this the relay that stays connected, or not."""
        self._is_home = is_home
        self._last_used = max(self._last_used, self._network.time())
        if is_home:
            self.start()
        self._wake.set()

    def network_changed(self, local_ips: Iterable[str]) -> None:
        """Addresses, routes or links changed: check the connection, and end every waiting at once (7.9)."""
        if not self.running:
            return
        self._queue.forget_disco()
        self._backoff.reset()
        self._retry_at = self._network.time()
        self._eager = True
        self._dialer.handle_network_change()
        if self._link is not None:
            if self._link.local_ip in set(local_ips):
                self._link.probe(_PROBE_WITHIN)
            else:
                self._link.lose("its local address is gone")
        self._wake.set()

    def check(self, *, beside: bool = False) -> None:
        """Something hints that the connection may be broken: ask, and dial another if no answer comes soon.

        With ``beside`` another is dialled at once, which saves a round trip if the hint was right; it is adopted if
        this one breaks in that time, else dropped.
        """
        if self._link is None:
            return
        self._link.probe(_PROBE_WITHIN)
        if (
            beside and self._dial is None and self._generation.is_v3
        ):  # a 1.x login would replace the old connection
            self._spare_until = self._network.time() + _PROBE_WITHIN + 3 * (self._link.latency or 0.0)
            self._wake.set()

    async def close(self) -> None:
        """Drop the connection; nothing is called back after this returns."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                await self._step()
                delay = self._next_delay()
                if delay is not None:
                    await self._sleep(delay)
                    continue
                await self._shut_down()
                if self._idle():  # nothing was sent while we shut down
                    return
        finally:
            await self._shut_down()

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # one of our own timers is due

    async def _step(self) -> None:
        await self._check_link()
        await self._check_dial()
        wanted = not self._idle() and (self._link is None or self._link.suspect or self._spare)
        if not wanted:
            await self._stop_dial()
        elif self._dial is None and self._network.time() >= self._retry_at:
            self._dial = asyncio.create_task(self._dial_once(eager=self._eager))
            self._dial.add_done_callback(lambda _: self._wake.set())
            self._eager = False

    async def _check_link(self) -> None:
        link = self._link
        if link is None or link.lost is None:
            return
        self._link = None
        await link.close()
        now = self._network.time()
        self._queue.requeue(now, link.confirmed)
        if link.latency is not None and now - link.since >= _SUCCESS_AFTER:
            self._backoff.reset()
            self._retry_at = now
        elif not self._eager:
            self._retry_at = now + self._backoff.next_wait(now, wanted=len(self._queue) > 0)
        self._report(connected=False, detail=link.lost)

    async def _check_dial(self) -> None:
        dial = self._dial
        if (
            dial is None
            or not dial.done()
            or (self._spare and self._link is not None and not self._link.suspect)
        ):
            return
        self._dial = None
        error = None if dial.cancelled() else dial.exception()
        if error is None and not dial.cancelled():
            await self._adopt(dial.result())
            return
        if error is not None and not isinstance(error, ConnectError):
            log.error("dialling relay %s failed", self.url, exc_info=error)
        now = self._network.time()
        if not self._eager:
            self._retry_at = now + self._backoff.next_wait(now, wanted=len(self._queue) > 0)
        if self._link is None and str(error) != self._last_failure:
            self._last_failure = str(error)
            self._report(connected=False, detail=self._last_failure)

    async def _adopt(self, upgraded: Upgraded) -> None:
        old = self._link
        if old is not None and not old.suspect:  # it recovered while we dialled
            upgraded.abort()
            return
        if old is not None:
            self._link = None
            self._queue.requeue(self._network.time(), old.confirmed)
            await old.close()
            self._report(connected=False, detail="no answer; replaced by a new connection")
        else:
            self._queue.drop_old(self._network.time())
        if upgraded.machine.generation.is_v3:
            upgraded.machine.authenticate()
        self._link = RelayLink(
            self._network,
            upgraded,
            self._queue,
            rng=self._rng,
            on_datagrams=self._deliver,
            on_gone=self._gone,
            on_change=self._wake.set,
            on_answer=self._answered,
        )
        self.connects += 1
        self._eager = False
        self._last_failure = ""
        self._link.start()
        self._report(connected=True, detail=f"connected from {upgraded.local_ip or 'somewhere'}")

    async def _dial_once(self, *, eager: bool) -> Upgraded:
        upgraded = await self._dialer.dial(eager=eager)
        if not upgraded.machine.generation.is_v3:
            await login(upgraded)
        return upgraded

    async def _stop_dial(self) -> None:
        dial, self._dial = self._dial, None
        if dial is None:
            return
        dial.cancel()
        await asyncio.gather(dial, return_exceptions=True)
        if not dial.cancelled() and dial.exception() is None:
            dial.result().abort()

    async def _shut_down(self) -> None:
        await self._stop_dial()
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            if not self._closed:
                self._report(connected=False, detail="idle")

    @property
    def _spare(self) -> bool:
        return self._network.time() < self._spare_until

    def _idle(self) -> bool:
        return not self._is_home and self._network.time() - self._last_used >= IDLE_TIMEOUT

    def _next_delay(self) -> float | None:
        """Seconds until the next step by itself; None when there is nothing to do any more."""
        now = self._network.time()
        if self._idle():
            return None
        times = [] if self._is_home else [self._last_used + IDLE_TIMEOUT]
        if self._spare:
            times.append(self._spare_until)
        if self._dial is None and (self._link is None or self._link.suspect):
            times.append(self._retry_at)
        # Nothing to wait for but the wake event: look again after a minute, whatever was missed.
        return max(_TICK, min([*times, now + IDLE_TIMEOUT]) - now)

    def _deliver(self, node_id: NodeId, datagrams: list[bytes]) -> None:
        if not self._closed:
            self._on_datagrams(self.url, node_id, datagrams)

    def _gone(self, node_id: NodeId) -> None:
        if not self._closed:
            self._on_gone(self.url, node_id)

    def _answered(self) -> None:
        if not self._closed:
            self._on_answer(self.url)

    def _report(self, *, connected: bool, detail: str) -> None:
        log.info("relay %s %s: %s", self.url, "connected" if connected else "not connected", detail)
        if not self._closed:
            self._on_state(self.url, connected, detail)
