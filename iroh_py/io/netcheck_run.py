"""Drives one netcheck run: does what it asks for and tells it what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl as ssl_module
from collections.abc import Callable, Coroutine
from typing import Any

from iroh_py.io import probes
from iroh_py.io.probes import ProbeError
from iroh_py.network import Addr, Family, Network
from iroh_py.proto.netcheck.plan import ProbeKind
from iroh_py.proto.netcheck.run import CheckPortal, Measure, NetcheckRun, Resolve, SendHairpin, SendStun
from iroh_py.relay_url import RelayUrl

log = logging.getLogger("iroh_py.netcheck")

#: Name lookups get so long (5.2).
DNS_TIMEOUT = 3.0
#: Probes under way by HTTPS and ICMP. More are left out, their turn comes with the next attempt.
MAX_TASKS = 64

#: Sends a STUN request from the socket whose address shall be found out; False if it could not be sent.
SendStunNow = Callable[[bytes, Addr], bool]


class RunDriver:
    """Executes the actions of one run until it is finished or closed.

    ``on_event(driver)`` is called after whatever happened; ``known`` remembers addresses across runs.
    """

    def __init__(
        self,
        network: Network,
        run: NetcheckRun,
        *,
        send_stun: SendStunNow,
        ssl: ssl_module.SSLContext | None,
        known: dict[RelayUrl, tuple[str, ...]],
        on_event: Callable[[RunDriver], None],
    ) -> None:
        self.run = run
        self._network = network
        self._send_stun = send_stun
        self._ssl = ssl
        self._known = known
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Begin."""
        self._step()

    def handle_stun(self, now: float, data: bytes, source: Addr) -> bool:
        """A STUN message arrived; whether it was for this run. Late answers count even after its end."""
        taken = self.run.handle_stun(now, data, source)
        if taken:
            self._step()
        return taken

    def close(self) -> None:
        """Give up what is under way; nothing is called back any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _step(self) -> None:
        """Do what the run asks for, tell the owner, and arm the timer."""
        if self._closed:
            return
        run = self.run
        while run.actions:
            self._do(run.actions.popleft())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = run.next_timeout()
        if due is not None:
            delay = max(0.0, due - self._network.time())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)
        else:
            for task in self._tasks:
                task.cancel()
        self._on_event(self)

    def _on_timer(self) -> None:
        self.run.handle_timeout(self._network.time())
        self._step()

    def _do(self, action: object) -> None:
        run = self.run
        match action:
            case SendStun():
                if self._send_stun(action.data, action.addr):
                    run.handle_sent(Family.of(action.addr[0]))
            case Resolve():
                self._resolve(action.url)
            case Measure():
                self._spawn(self._measure(action))
            case CheckPortal():
                self._spawn(self._check_portal(action))
            case SendHairpin():
                self._spawn(self._hairpin(action))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= MAX_TASKS:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a netcheck probe failed", exc_info=task.exception())

    # --- names ---

    def _resolve(self, url: RelayUrl) -> None:
        now = self._network.time()
        if _is_literal(url.host):
            self.run.handle_addresses(now, url, [url.host])
            return
        if url in self._known:  # old addresses beat none: the name server may be out of reach just now
            self.run.handle_addresses(now, url, self._known[url])
        self._spawn(self._look_up(url))

    async def _look_up(self, url: RelayUrl) -> None:
        reason = "no addresses"
        ips: list[str] = []
        try:
            async with asyncio.timeout(DNS_TIMEOUT):
                ips = await self._network.resolve(url.host)
        except OSError as error:  # TimeoutError is one
            reason = str(error) or "no answer"
        now = self._network.time()
        if ips:
            self._known[url] = tuple(ips)
            self.run.handle_addresses(now, url, ips)
        elif url not in self._known:
            self.run.handle_unresolved(now, url, f"cannot resolve {url.host}: {reason}")
        self._step()

    # --- probes ---

    async def _measure(self, action: Measure) -> None:
        url, kind = action.relay.url, action.kind
        try:
            if kind is ProbeKind.HTTPS:
                seconds = await probes.https_latency(self._network, url, action.ips, self._ssl)
            else:
                seconds = await probes.icmp_latency(self._network, action.ips)
        except ProbeError as error:
            self.run.handle_failure(self._network.time(), url, kind, str(error), final=error.final)
        else:
            self.run.handle_latency(self._network.time(), url, kind, seconds)
        self._step()

    async def _check_portal(self, action: CheckPortal) -> None:
        try:
            portal = await probes.captive_portal(self._network, action.relay.url, action.ips)
        except ProbeError as error:
            self.run.handle_portal(self._network.time(), None, str(error))
        else:
            self.run.handle_portal(self._network.time(), portal)
        self._step()

    async def _hairpin(self, action: SendHairpin) -> None:
        with contextlib.suppress(ProbeError):  # then no packet arrives, which is the answer
            await probes.send_hairpin(self._network, action.data, action.addr)


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()
